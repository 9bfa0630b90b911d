"""Absent samples: the gap since an agent's last sample against the gaps it has been seen to leave.

A gap is silence when it passes ``limit = max(silence_min, silence_factor * mean gap, PAUSE * longest usual gap)``; for somebody new six times
`silence_min` stand for it, less and less until an agent has been heard for that long; who comes in bursts (`IRREGULAR`) may pause four times
as long as it has been known, at most five minutes, less and less over its first half hour; the evidence is
``threshold * gap / limit``, that is -ln of an exponential tail whose mean is ``limit / threshold``. Gaps after an agent said
that it is idle or done teach nothing and mean nothing, with one exception: an agent that has always sent heartbeats while idle
(`RESTS_KNOWN` of them) and stops is silent after `REST_FACTOR` times the longest pause between them.
Pauses are borrowed (`lend`): an agent may be quiet for `PAUSE` times as long as enough others of its type were, and came back by themselves,
until it has paused so itself (`OWN_PAUSES`). A pause of everybody at once is nobody's silence (`pause_of_all`) unless it is longer than
the limit of the fleet, which is that of one agent who sends what all send.
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
"""A stranger may pause this many times `silence_min`; nobody is one who has been heard for as long as that."""
IRREGULAR = np.float32(0.4)
"""Ln of the mean gap above the mean of ln gap: 0 for a beat, .58 for requests that come at random, more for bursts."""
GAP_MIN_S = np.float32(0.02)
STRANGE_PAUSES = np.float32(4)
STRANGE_MAX_S, ACQUAINTED_S = np.float32(300), np.float32(1800)
"""Real traffic paused for 143 s after 40 s of acquaintance: bursts say little of pauses until they have been watched for a while."""
RESTS_KNOWN = 60
REST_FACTOR = 10.0
REST_MIN_S = 30.0
OF_TYPE, OF_FLEET = (2, 0.15), (3, 0.25)
"""(At least so many others, this share of them) have paused so long when their pause is lent to an agent of their type, of their fleet."""
NEW_S = np.float32(600)
"""For so long an agent borrows from the fleet as well: its type may not have shown its pauses yet."""
OWN_PAUSES = 10
"""Who has paused so often for half as long as the others, and longer than `silence_min`, shows its own pauses."""
EXPECTED_FROM, PAUSE_OF_ALL_S = 6.0, 2.0
"""Everybody pauses when so many samples of a fleet are missing (e^-6 if they came at random), and for at least so long."""
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
    arena.declare("pause", np.float32)
    arena.declare("pause_lent", np.float32)
    arena.declare("pause_count", np.int32)
    arena.declare("gap_excused", np.bool_)
    arena.declare("paused_s", np.float32)


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
        longest = 2 * np.maximum(_limit(count, mean, peak, logs, policy), _lent(arena, agents))
        learned = np.where(count >= KNOWN_FROM, np.minimum(gap, longest), gap)
    _pause(arena, agents, learned, working, np.float32(policy.silence_min_s))
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
    arena["paused_s"][agents] = 0


def _pause(arena: Arena, agents: Rows, gap: Floats, working: NDArray[np.bool_], least_s: np.float32) -> None:
    """Keep the longest gap that ended by itself; one that a treatment ended was a stall, one of a group an outage: no usual pauses."""
    by_itself, lent, pause = working & ~arena["gap_excused"][agents], arena["pause_lent"][agents], arena["pause"][agents]
    arena["gap_excused"][agents] = False
    left = pause * np.maximum(1 - gap * np.float32(1 / PEAK_SPAN_S), np.float32(0))
    arena["pause"][agents] = np.where(by_itself, np.maximum(gap, left), pause)
    arena["pause_count"][agents] += by_itself & (gap > np.maximum(np.float32(0.5) * lent, least_s))


def lend(arena: Arena, types: NDArray[np.int32]) -> None:
    """Say of each agent which pause enough others of its type have shown; while it is new, of the whole fleet."""
    size = arena.size
    known = arena["gap_count"][:size] >= KNOWN_FROM
    pause = np.where(known, arena["pause"][:size], np.float32(0))
    of_type = _of_others(pause, types, OF_TYPE)
    of_fleet = _of_others(pause, np.zeros(size, dtype=np.int32), OF_FLEET)
    new = arena["gap_mean"][:size] * arena["gap_count"][:size] < NEW_S
    arena["pause_lent"][:size] = np.maximum(of_type, of_fleet * new)


def _of_others(pause: Floats, kinds: NDArray[np.int32], share: tuple[int, float]) -> Floats:
    """Of each agent the k-th longest pause of the others of its kind, k at least (so many, this share): what one of them did is lent to nobody."""
    order = np.lexsort((-pause, kinds))
    members, first = np.bincount(kinds)[kinds], np.searchsorted(kinds[order], kinds)
    rank = np.empty(len(pause), dtype=np.intp)
    rank[order] = np.arange(len(pause)) - first[order]
    k = np.maximum(np.ceil(share[1] * (members - 1)).astype(np.intp), share[0])
    place = np.where(rank < k, k, k - 1)
    enough = place < members
    of_others: Floats = np.where(enough, pause[order[np.where(enough, first + place, 0)]], np.float32(0))
    return of_others


def _lent(arena: Arena, agents: Rows) -> Floats:
    """The limit that others lend, in s, until an agent has shown such pauses itself."""
    lent: Floats = np.float32(PAUSE) * arena["pause_lent"][agents] * (arena["pause_count"][agents] < OWN_PAUSES)
    return lent


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
    stranger = 1 - mean * count / (STRANGER_FACTOR * least)
    if np.count_nonzero(stranger > 0):
        least = least * (1 + (STRANGER_FACTOR - 1) * np.minimum(np.maximum(stranger, 0) * STRANGER_FACTOR / (STRANGER_FACTOR - 1), 1))
    limit: NDArray[np.float32] = np.maximum(usual, least).astype(np.float32)
    bursty = np.log(np.maximum(mean, GAP_MIN_S)) - logs > IRREGULAR
    if np.count_nonzero(bursty):
        heard_s = mean * count
        strange = np.minimum(STRANGE_PAUSES * heard_s, STRANGE_MAX_S) * np.maximum(1 - heard_s / ACQUAINTED_S, 0)
        limit = np.where(bursty, np.maximum(limit, strange), limit).astype(np.float32)
    return limit


def gaps(arena: Arena, now_us: int, policy: DetectionPolicy, awake_us: int, paused_s: float = 0.0) -> tuple[Floats, Floats]:
    """(gap / limit, limit in s) of every agent, (agents,); 0 where nothing can be said. paused_s: how long now nobody has been expected."""
    size = arena.size
    last, count = arena["last_at"][:size], arena["gap_count"][:size]
    limit = _limit(count, arena["gap_mean"][:size], arena["gap_peak"][:size], arena["gap_log"][:size], policy)
    limit = np.maximum(limit, _lent(arena, slice(0, size)))
    status = arena["status"][:size]
    beats = (status == IDLE) & (arena["rest_count"][:size] >= RESTS_KNOWN)
    if np.count_nonzero(beats):
        rested = np.maximum(np.float32(REST_FACTOR) * np.maximum(arena["rest_peak"][:size], arena["gap_mean"][:size]), np.float32(REST_MIN_S))
        limit = np.where(beats, rested, limit)
    heard = (last >= 0) & (count >= KNOWN_FROM) & (beats | ~resting(status)) & ~arena["retired"][:size]
    gap = ((now_us - np.maximum(last, awake_us)) / US).astype(np.float32) - arena["paused_s"][:size] - np.float32(paused_s)
    return np.where(heard, np.maximum(gap, 0) / limit, np.float32(0)), limit


def hear(arena: Arena, fleet: Arena, at_us: NDArray[np.int64], policy: DetectionPolicy, awake_us: int) -> None:
    """Take in that somebody of the fleet sent something at these times; `fleet` holds its gaps as if it were one agent."""
    arena["paused_s"][: arena.size] += np.float32(pause_of_all(arena, fleet, int(at_us.min()), policy, awake_us))
    newest = np.maximum(at_us.max(keepdims=True), fleet["last_at"][:1])
    arrive(fleet, slice(0, 1), newest, np.zeros(1, dtype=np.int8), policy, awake_us)


def pause_of_all(arena: Arena, fleet: Arena, now_us: int, policy: DetectionPolicy, awake_us: int) -> float:
    """For how long, in s, the fleet has paused as one, which is nobody's silence; 0 where it has not, or for longer than it ever does.

    It has when `EXPECTED_FROM` samples were to be expected of those who were not silent before, the fastest of them left out.
    """
    share, longest = gaps(fleet, now_us, policy, awake_us)
    paused_s = float(share[0] * longest[0])
    if share[0] >= 1 or paused_s < PAUSE_OF_ALL_S:
        return 0.0
    gap_share = gaps(arena, now_us, policy, awake_us, paused_s)[0]
    working = (arena["gap_count"][: arena.size] >= KNOWN_FROM) & ~resting(arena["status"][: arena.size]) & ~arena["retired"][: arena.size]
    rates = 1 / np.maximum(arena["gap_mean"][: arena.size], GAP_MIN_S)[working & (gap_share < 1)]
    return paused_s if len(rates) and paused_s * float(rates.sum() - rates.max()) >= EXPECTED_FROM else 0.0
