"""Where each agent stands: its statistic, since when each stream's evidence grows, and whether the symptoms are still there.

Sums since the onset serve the diagnosis; a short memory of the surprise says whether the freshest samples still show it. When an
alarm's symptoms have been away for `CALM_SAMPLES` samples the evidence starts anew, so that an incident can close.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import drift, episodes
from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.surprise import FORGET_FROM
from immune.core.vitals import MISSING

RECENT = 0.1
"""Weight of the newest sample in the short memories."""
ONSET_NATS = 3.0
"""Evidence below this is the ground it starts from: at 1 nat an onset came up to half a minute too early in every tenth case, at 3 a second."""
HOT_NATS = 6.0
"""Evidence of one stream and direction that makes a symptom."""
CALM_SAMPLES = 15
YOUNG_AGAIN = 60.0
"""Samples that a stream counts for after its level was moved."""
PROBE_AFTER = 300
PROBE_FOR = 30
"""Suspected, not alarmed, for `PROBE_AFTER` samples: learn from `PROBE_FOR`, so that a stale baseline catches up slowly."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
_RECENT = np.float32(RECENT)
_E_ONSET = np.float32(np.exp(ONSET_NATS))
_E_HOT = np.float32(np.exp(HOT_NATS))


def declare(arena: Arena, streams: int, continuous: int) -> None:
    """The arrays of this file, over agents."""
    arena.declare("samples", np.int64)
    arena.declare("turn", np.int64)
    arena.declare("nats", np.float32, fill=-6.0)
    arena.declare("held", np.bool_)
    arena.declare("present", np.bool_)
    arena.declare("alarmed", np.uint16)
    arena.declare("calm", np.uint8)
    arena.declare("waiting", np.uint16)
    arena.declare("hot", np.bool_, lead=(2, streams))
    arena.declare("hot_any", np.bool_)
    arena.declare("alone_at", np.int64, fill=-1)
    arena.declare("g_recent", np.float32, lead=(streams,))
    arena.declare("r_recent", np.float32, lead=(streams,))
    arena.declare("sums", np.float32, lead=(4, streams))
    arena.declare("falling", np.bool_, lead=(streams,))
    arena.declare("onset", np.int64, lead=(streams,))
    arena.declare("start", np.float32, fill=np.nan, lead=(streams,))
    arena.declare("shape_before", np.float32, lead=(continuous,))
    arena.declare("context_before", np.float32, fill=np.nan)
    arena.declare("task_before", np.int64)
    arena.declare("step_before", np.int32, fill=MISSING)


def task_steps(block: Block, task_id: NDArray[np.int64], step: NDArray[np.int32]) -> NDArray[np.int32]:
    """Steps since the agent's last sample within the same task, (n,): 0 where a task begins, -1 where nothing is known of tasks."""
    task_before, step_before = block["task_before"], block["step_before"]
    if not np.count_nonzero(step >= 0) and not np.count_nonzero(task_id):
        task_before[...] = task_id
        step_before[...] = step
        return np.full(len(step), -1, dtype=np.int32)
    advance = np.where((step >= 0) & (step_before >= 0), step - step_before, 1)
    named = (task_id != 0) & (task_before != 0)
    within = np.where(named, (task_id == task_before) & (advance > 0), (step >= 0) & (step_before >= 0) & (advance > 0))
    unknown = (step < 0) & (task_id == 0)
    steps = np.where(within, np.maximum(advance, 1), 0)
    steps[unknown] = -1
    task_before[...] = task_id
    step_before[...] = step
    return steps.astype(np.int32)


def task_growth(block: Block, x: Floats, seen: Mask, step: NDArray[np.int32], steps: NDArray[np.int32]) -> Floats:
    """How far each stream is above the task's first step, (continuous, n); NaN where that was not seen."""
    start = block["start"][: len(x)]
    if not np.count_nonzero(steps >= 0) and not np.count_nonzero(step >= 0):
        return np.zeros_like(x)
    begins = steps == 0
    if np.count_nonzero(begins):
        np.copyto(start, np.where(seen & (step <= 1), x, np.float32(np.nan)), where=begins)
    growth: Floats = x - start
    np.copyto(growth, 0, where=step < 0)
    return growth


def probing(block: Block) -> Mask:
    """Agents long suspected without an alarm that may learn for a while, (n,)."""
    return block["waiting"] > PROBE_AFTER


def advance(
    block: Block,
    evidence: Floats,
    g: Floats,
    judged: Mask,
    seen: Mask,
    deviation: Floats,
    expected: Floats,
    nats: Floats,
    at_us: NDArray[np.int64],
    threshold_nats: float,
) -> None:
    """Take in one round: evidence (2, streams, n) is the mean e-detector of each direction; the rest (streams, n) or (n,)."""
    up, down = evidence
    falling = down > up
    started = np.maximum(up, down) < _E_ONSET
    started |= falling != block["falling"]
    np.copyto(block["falling"], falling)
    np.copyto(block["onset"], at_us, where=started)
    sums = block["sums"]
    sums *= ~started
    marked = seen.astype(np.float32)
    sums[0] += marked
    sums[1] += deviation * marked
    sums[2] += expected * marked
    sums[3] += g
    recent, lately = block["g_recent"], block["r_recent"]
    recent += (g - recent) * (judged * _RECENT)
    lately += (deviation - lately) * (marked * _RECENT)
    hot: Mask = evidence >= _E_HOT
    np.copyto(block["hot"], hot)
    hot_any = np.logical_or.reduce(hot.reshape(-1, hot.shape[2]), axis=0)
    np.copyto(block["hot_any"], hot_any)
    np.copyto(block["nats"], nats)
    _follow(block, hot, hot_any, nats, threshold_nats)


def _follow(block: Block, hot: Mask, hot_any: Mask, nats: Floats, threshold_nats: float) -> None:
    alarmed, calm, waiting, present = block["alarmed"], block["calm"], block["waiting"], block["present"]
    over, held = nats >= threshold_nats, block["held"]
    suspected = nats >= threshold_nats / 2
    if np.count_nonzero(suspected):
        alarmed[...] = np.where(over, np.minimum(alarmed, 65_000) + 1, 0)
        stopped = suspected & ~over & ~held
        waiting[...] = np.where(stopped & (waiting < PROBE_AFTER + PROBE_FOR), waiting + 1, 0)
    else:
        alarmed[...] = waiting[...] = 0
    present[...] = (block["stuck_sr"] >= _E_HOT) | (block["loop_again"] & (block["loop_sr"] >= _E_HOT))
    if np.count_nonzero(hot_any):
        column = np.flatnonzero(hot_any)
        recent, sums = block["g_recent"][:, column], block["sums"][:, :, column]
        wanted = np.minimum(np.maximum(0.5 * np.abs(sums[3]) / np.maximum(sums[0], 1), 0.3), 0.8)
        fresh = (hot[0][:, column] & (recent > wanted)) | (hot[1][:, column] & (recent < -wanted))
        for sign, lasting in enumerate(drift.still(block, column)):
            slow = block["sr"][sign, drift.ROWS, : len(lasting)][..., column].max(axis=0) >= _E_HOT
            since = np.abs(sums[1] / np.maximum(sums[0], 1))[: len(lasting)]
            fresh[: len(lasting)] |= lasting & slow & (np.abs(block["drift_mean"][:, column]) > np.float32(episodes.STILL) * since)
        present[column] |= fresh.any(axis=0)
    present |= block["ep_present"]
    watched = over | held
    if not np.count_nonzero(watched):
        calm[...] = 0
        return
    calm[...] = np.where(watched & ~present, np.minimum(calm, 250) + 1, 0)
    rested = (calm >= CALM_SAMPLES) & over
    if np.count_nonzero(rested):
        column = np.flatnonzero(rested)
        block["sr"][..., column] = 0
        block["stuck_sr"][column] = 0
        block["loop_sr"][column] = 0
        block["ep_sr"][..., column] = 0
        block["ep_statistic"][column] = 0
        nats_now = block["nats"]
        nats_now[column] = -6


EVIDENCE = (
    *("sr", "stuck_sr", "loop_sr", "hot", "hot_any", "g_recent", "r_recent", "sums"),
    *("nats", "present", "alarmed", "calm", "waiting", "before", "alone_at"),
)


def blame(arena: Arena, agent: int, onset_us: int) -> None:
    """This agent is an alarm by itself since `onset_us`: a shared cause that is found later has to fit it to explain it (`let_go`)."""
    if arena["alone_at"][agent] < 0:
        arena["alone_at"][agent] = onset_us


def let_go(arena: Arena, hold_nats: float) -> None:
    """Agents sick by themselves that are so no longer: nothing left of the evidence, and nobody holds them."""
    size = arena.size
    alone = np.flatnonzero(arena["alone_at"][:size] >= 0)
    if len(alone):
        over = ~arena["hot_any"][alone] & ~arena["held"][alone] & (arena["nats"][alone] < hold_nats)
        arena["alone_at"][alone[over]] = -1


def reset_evidence(arena: Arena, agents: NDArray[np.intp]) -> None:
    """Evidence of these agents from zero."""
    for name in (*EVIDENCE, *episodes.EVIDENCE):
        arena.refill(name, agents)


def take_over(arena: Arena, agent: int, streams: list[int]) -> None:
    """What this agent has shown on these streams since their onset is its normal from now on; the rest of it stays as it is.

    A level moves by the mean deviation since the onset, unless it has followed already and only the slow reference stayed behind. It
    counts as young again, so that it settles quickly.
    """
    continuous = arena["reference"].shape[0]
    for name in (*episodes.EVIDENCE, *episodes.NORMAL):
        arena.refill(name, np.array([agent]))
    for row in streams:
        sr = arena["sr"][:, :, row, agent]
        slow = row < continuous and sr[:, drift.ROWS].max() > sr.sum(axis=1).max() / sr.shape[1]
        if not slow:
            count, deviation = arena["sums"][:2, row, agent]
            arena["level"][row, agent] += deviation / max(float(count), 1.0)
        if row < continuous:
            for name in ("reference", "drift_sum", "drift_left", "drift_mean", "drift_slow", "before", "anchored"):
                arena[name][row, agent] = drift.BLOCK if name == "drift_left" else np.nan if name in ("reference", "drift_mean") else 0
        elif not slow:
            arena["ranks"][row, :, agent] = 0
            arena["ranks_limit"][row, agent] = FORGET_FROM
        arena["count"][row, agent] = min(float(arena["count"][row, agent]), YOUNG_AGAIN)
        arena["sr"][:, :, row, agent] = 0
        arena["hot"][:, row, agent] = False
        arena["sums"][:, row, agent] = 0
        arena["g_recent"][row, agent] = arena["r_recent"][row, agent] = 0
    arena["nats"][agent], arena["alarmed"][agent] = -6, 0
    arena["hot_any"][agent] = arena["hot"][:, :, agent].any()


NORMAL = (
    "reference",
    "drift_sum",
    "drift_left",
    "drift_mean",
    "drift_variance",
    "drift_slow",
    "tail_hits",
    "tail_seen",
    "count",
    "level",
    "level_prior",
    "anchored",
    "lagged",
    "before",
    "ranks",
    "block_sum",
    "stuck_sr",
    "loop_sr",
    "loop_repeats",
    "loop_chances",
)


def forget_normal(arena: Arena, agents: NDArray[np.intp]) -> None:
    """Baselines of these agents from zero; `samples` too, so that they are judged again only when enough is known."""
    for name in (*NORMAL, *episodes.NORMAL, "spread2", "own2", "lagged2", "ranks_limit", "block_left", "calibration", "repeats", "chances"):
        arena.refill(name, agents)
    arena["samples"][agents] = np.where(arena["samples"][agents] > 0, 1, 0)
