"""Absent samples: the gap since an agent's last sample against the gaps it has been seen to leave.

A gap is silence when it passes ``limit = max(silence_min, silence_factor * mean gap, PAUSE * longest usual gap)``, and six times
`silence_min` for somebody who has been heard for less than `silence_min` so far; who comes in bursts (`IRREGULAR`) may pause four times as
long as it has been known, at most five minutes, less and less over its first half hour; the evidence is
``threshold * gap / limit``, that is -ln of an exponential tail whose mean is ``limit / threshold``. Gaps after an agent said
that it is idle or done teach nothing and mean nothing, with one exception: an agent that has always sent heartbeats while idle
(`RESTS_KNOWN` of them) and stops is silent after `REST_FACTOR` times the longest pause between them.
While nobody listened (the daemon was down, or slept) nobody was silent: gaps count from when it listened again, and such a gap teaches nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.policy import DetectionPolicy
from immune.core.sentinel.arena import Arena, Rows
from immune.core.vitals import Status

US = 1e6
IDLE, DONE = int(Status.IDLE), int(Status.DONE)
PAUSE = 2.5
GAP_SPAN = 100.0
RATE_SPAN = 300.0
PEAK_SPAN_S = 3600.0
"""The longest usual gap is forgotten over this time."""
KNOWN_FROM = 3
STRANGER_FACTOR = np.float32(6)
"""Who has been heard for less than `silence_min` in all may pause this many times as long."""
IRREGULAR = np.float32(0.4)
"""Ln of the mean gap above the mean of ln gap: 0 for a beat, .58 for requests that come at random, more for bursts."""
GAP_MIN_S = np.float32(0.02)
STRANGE_PAUSES = np.float32(4)
STRANGE_MAX_S, ACQUAINTED_S = np.float32(300), np.float32(1800)
"""Real traffic paused for 143 s after 40 s of acquaintance: bursts say little of pauses until they have been watched for a while."""
RESTS_KNOWN = 60
REST_FACTOR = 10.0
REST_MIN_S = 30.0
LONGEST_S = 600.0


Floats = NDArray[np.float32]


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents. Gaps in seconds."""
    arena.declare("last_at", np.int64, fill=-1)
    arena.declare("status", np.int8)
    arena.declare("gap_count", np.int32)
    arena.declare("gap_mean", np.float32)
    arena.declare("gap_peak", np.float32)
    arena.declare("gap_log", np.float32)
    arena.declare("rest_count", np.int32)
    arena.declare("rest_peak", np.float32)
    arena.declare("pace_count", np.int32)
    arena.declare("pace", np.float32)
    arena.declare("retired", np.bool_)


def arrive(arena: Arena, agents: Rows, at_us: NDArray[np.int64], status: NDArray[np.int8], policy: DetectionPolicy, awake_us: int) -> None:
    """Take in that these agents (each once) sent something; it has been listened without a break since `awake_us`."""
    last, said, retired = arena["last_at"][agents], arena["status"][agents], arena["retired"][agents]
    gap = np.maximum((at_us - last) / US, 0).astype(np.float32)  # after a clock was set back a gap would be negative
    known = last >= awake_us
    heard = known & ~retired
    working = heard & ~resting(said)
    everyone = np.count_nonzero(working) == len(working)
    count, mean, peak = arena["gap_count"][agents], arena["gap_mean"][agents], arena["gap_peak"][agents]
    learned, logs = gap, arena["gap_log"][agents]
    if gap.max() > 2 * np.float32(policy.silence_min_s):  # no limit is below that
        learned = np.where(count >= KNOWN_FROM, np.minimum(gap, 2 * _limit(count, mean, peak, logs, policy)), gap)
    span = np.minimum(count + 1, GAP_SPAN)
    moved = mean + (learned - mean) / span
    mean = moved if everyone else np.where(working, moved, mean)
    moved = np.maximum(learned, peak + (mean - peak) * np.minimum(learned * np.float32(1 / PEAK_SPAN_S), np.float32(1)))
    peak = moved if everyone else np.where(working, moved, peak)
    moved = logs + (np.log(np.maximum(gap, GAP_MIN_S)) - logs) / span
    arena["gap_log"][agents] = moved if everyone else np.where(working, moved, logs)
    arena["gap_mean"][agents] = mean
    arena["gap_peak"][agents] = peak
    arena["gap_count"][agents] = count + working
    pausing = heard & (said == IDLE)
    if np.count_nonzero(pausing):
        arena["rest_count"][agents] += pausing
        rest = arena["rest_peak"][agents]
        arena["rest_peak"][agents] = np.where(pausing, np.maximum(gap, rest), rest)
    paced, pace = arena["pace_count"][agents], arena["pace"][agents]
    moved = pace + (np.minimum(gap, LONGEST_S) - pace) / np.minimum(paced + 1, RATE_SPAN)
    arena["pace"][agents] = moved if everyone else np.where(known, moved, pace)
    arena["pace_count"][agents] = paced + known
    arena["last_at"][agents] = at_us
    arena["status"][agents] = status
    arena["retired"][agents] = False


def resting(status: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether this status means that no samples are to be expected."""
    rests: NDArray[np.bool_] = (status == IDLE) | (status == DONE)
    return rests


def _limit(count: NDArray[np.int32], mean: Floats, peak: Floats, logs: Floats, policy: DetectionPolicy) -> Floats:
    usual = np.maximum(np.float32(policy.silence_factor) * mean, np.float32(PAUSE) * peak)
    young = count < policy.min_samples
    if np.count_nonzero(young):
        usual = usual * (1 + np.float32(policy.min_samples) / np.maximum(count, 1) * young)
    least: Floats | np.float32 = np.float32(policy.silence_min_s)
    # a burst of calls within a second tells nothing of the pauses that are usual between bursts
    stranger = mean * np.minimum(count, GAP_SPAN) < least
    if np.count_nonzero(stranger):
        least = least * np.where(stranger, STRANGER_FACTOR, 1)
    limit: NDArray[np.float32] = np.maximum(usual, least).astype(np.float32)
    bursty = np.log(np.maximum(mean, GAP_MIN_S)) - logs > IRREGULAR
    if np.count_nonzero(bursty):
        heard_s = mean * count
        strange = np.minimum(STRANGE_PAUSES * heard_s, STRANGE_MAX_S) * np.maximum(1 - heard_s / ACQUAINTED_S, 0)
        limit = np.where(bursty, np.maximum(limit, strange), limit).astype(np.float32)
    return limit


def gaps(arena: Arena, now_us: int, policy: DetectionPolicy, awake_us: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(gap / limit, limit in s) of every agent, (agents,); 0 where nothing can be said."""
    size = arena.size
    last, count = arena["last_at"][:size], arena["gap_count"][:size]
    limit = _limit(count, arena["gap_mean"][:size], arena["gap_peak"][:size], arena["gap_log"][:size], policy)
    status = arena["status"][:size]
    beats = (status == IDLE) & (arena["rest_count"][:size] >= RESTS_KNOWN)
    if np.count_nonzero(beats):
        rested = np.maximum(np.float32(REST_FACTOR) * np.maximum(arena["rest_peak"][:size], arena["gap_mean"][:size]), np.float32(REST_MIN_S))
        limit = np.where(beats, rested, limit)
    heard = (last >= 0) & (count >= KNOWN_FROM) & (beats | ~resting(status)) & ~arena["retired"][:size]
    gap = ((now_us - np.maximum(last, awake_us)) / US).astype(np.float32)
    return np.where(heard, np.maximum(gap, 0) / limit, np.float32(0)), limit
