"""Tests per task: what a whole task took, against the agent's own past tasks of that kind.

A drift too small for single samples, or one that no sample shows (more steps, more tools, longer pauses), shows in whole tasks. A task is
what shares a task id, what lies between two first steps, or the stretch between two marks of idleness. At its end its figures (`STATS`) are taken
in logs, less what the kind of task adds in this type and less the agent's own level; ranks among the agent's and its type's
past tasks give g as in `surprise`, and ``SR <- (SR + m) exp(pace w (±g - margin) - (pace w)^2 / 2)`` is kept for two paces and both
signs, with m the usual number of samples of a task (so ``SR_t - t`` is a supermartingale in samples) and, for the mean output of a step,
``w = sqrt(counted steps / usual ones)`` (`alike`), known before the figure is. Their weighted mean has the share `SHARE` of the agent's budget.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import VitalEvidence
from immune.core.sentinel import alike, surprise
from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.cells import Place
from immune.core.sentinel.hashing import sample_keys, uniforms
from immune.core.sentinel.peers import Peers

STATS = ("task_steps", "task_duration_s", "task_tokens", "task_cost_usd", "task_tool_calls", "task_pause_s", "output_tokens")
"""Names of the figures of a task; the last is the mean output of its steps, shown under the vital's own name."""
STEPS, DURATION, TOKENS, COST, TOOLS, PAUSE, OUTPUT = range(len(STATS))
DITHERED = [STEPS, DURATION, TOOLS, PAUSE]
SHARE = np.float32(0.4)
"""Of an agent's budget for false alarms, once enough of its tasks are known."""
PACES = (0.8, 1.2)
MARGIN = 0.04
ERROR_KNOWN = 0.06
"""A level known from n tasks is off by ``1 / sqrt(n)`` spreads; what that is above this, 280 tasks, is added to the margin."""
JUDGED_FROM = 8
OWN_FROM = 40
"""Tasks of its own from which an agent's ranks, and how alike its steps are, are learned; until then the type's ranks stand in. Distances are
measured with a spread that at first is half a guess: an agent's own ranks of such distances made all later ones look far out (measured: a mean
factor of 1.04, where the proof needs at most 1)."""
KIND_FROM = 4.0
"""Tasks of a kind in a type before they are judged."""
SPAN = 300.0
AMOUNT_MAX = 1e12
VARIANCE_SPAN = 100.0
KIND_SPAN = 500.0
SUSPECT, SUSPECT_YOUNG = np.float32(np.exp(4.5)), np.float32(np.exp(6.0))
"""Evidence of a figure, in usual tasks, from which its level follows slowly; the second until `OWN_FROM` tasks: a level that was first
guessed from eight tasks and then stops following makes false alarms (measured: 5 in 10 agent-days)."""
SUSPECT_PACE, YOUNG_PACE = 0.15, 30.0
"""How slowly: at this pace, or ``YOUNG_PACE / tasks`` while that is more."""
SUSPECT_RANKS = np.float32(np.exp(5.2))
"""Evidence from which ranks learn no more: ten tasks that drifted, among 250 usual ones, take a fifth off what the next ones say.
At 3.5 nats lucky runs are left out too, and healthy agents pay for it (measured: 11 false alarms in 100 agent-days of tasks, 0 in 170 at 5.2)."""
FORGET_FROM = 1024
"""Tasks from which ranks are halved: an agent has few, and a hundred ranks blur what thirty tasks have to show."""
BORROWED = 200.0
"""Tasks of its type that stand in while an agent has few of its own: the means of tasks look alike in shape, whoever's they are."""
HOT = np.float32(np.exp(9.0))
STILL = 0.25
"""What lasts is at least this share as far out, in the last task or block of samples, as on average since its onset; evidence alone takes many
tasks to fall (measured: incidents of agents with tasks were still open 4 to 14 minutes after the end of an explosion, and one for good)."""
FLUSH_ROUNDS = 4
REFRESH_FLUSHES = 16
HUMBLE = np.float32(20)
WEIGHT2_MIN, WEIGHT2_MAX = 0.05, 5.0
_UP = np.array([0.07, 0.06, 0.12, 0.08, 0.09, 0.06, 0.40], dtype=np.float32)
_DOWN = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.12], dtype=np.float32)
WEIGHTS = np.stack([_UP, _DOWN])[:, None, :, None] / np.float32(len(PACES))
"""Of the processes, (signs, 1, figures, 1): they sum to at most 1. Shorter, cheaper tasks harm nobody: shown, not counted (a treated agent
that was told to do less was accused of it)."""
_PRIOR = np.array([0.2, 0.2, 0.3, 0.3, 0.3, 0.1, 0.03], dtype=np.float32)[:, None]
"""First guess of a figure's variance, before anything is known; it counts as two tasks."""
FLOORS = np.array([0.1, 0.1, 0.1, 0.1, 0.25, 0.25, 0.05], dtype=np.float32)[:, None]
_PACES = np.array(PACES, dtype=np.float32)[:, None, None]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """n tasks that ended: y, apart, weight, z, bins, uniform, placed (figures, n); steps, row (of the kind, -1 none), agents (n,).

    placed: the kind of task is known well enough, and the figure means something (a single step has no pause).
    """

    y: Floats
    steps: Floats
    row: NDArray[np.int32]
    placed: Mask
    apart: Floats
    weight: Floats
    z: Floats
    bins: NDArray[np.int8]
    uniform: Floats
    agents: Index


def declare(arena: Arena) -> None:
    """The arrays of this file, over agents: the task that runs, the one that waits to be judged, and what is usual."""
    figures = (len(STATS),)
    arena.declare("ep_open", np.float32, lead=figures)
    arena.declare("ep_samples", np.int32)
    arena.declare("ep_outputs", np.int32)
    arena.declare("ep_start", np.int64)
    arena.declare("ep_last", np.int64)
    arena.declare("ep_whole", np.bool_)
    arena.declare("ep_row", np.int32, fill=-1)
    arena.declare("ep_waits", np.bool_)
    arena.declare("ep_done", np.float32, lead=figures)
    arena.declare("ep_done_row", np.int32, fill=-1)
    arena.declare("ep_done_at", np.int64)
    arena.declare("ep_tasks", np.float32)
    arena.declare("ep_length", np.float32)
    arena.declare("ep_level", np.float32, lead=figures)
    arena.declare("ep_variance", np.float32, lead=figures)
    arena.declare("ep_sr", np.float32, lead=(2, len(PACES), len(STATS)))
    arena.declare("ep_statistic", np.float32)
    arena.declare("ep_present", np.bool_)
    arena.declare("ep_onset", np.int64, lead=figures)
    arena.declare("ep_sums", np.float32, lead=(3, *figures))


OPEN = ("ep_open", "ep_samples", "ep_outputs", "ep_whole", "ep_waits")
EVIDENCE = ("ep_sr", "ep_statistic", "ep_present", "ep_sums", *OPEN)
"""What `restart` sets back."""
NORMAL = ("ep_tasks", "ep_length", "ep_level", "ep_variance")
"""What `rebase` sets back."""


class Ledger(Arena):
    """Ranks of the figures of past tasks, over agents, apart from those of samples."""

    def __init__(self) -> None:
        super().__init__()
        surprise.declare(self, len(STATS), forget_from=FORGET_FROM)


class Episodes:
    """Follows tasks and judges them when they end. Works on the arrays of `declare` in the sentinel's arena."""

    def __init__(self, columns: Index, seed: int, cap: np.float32) -> None:
        """columns: of input tokens, output tokens, cost and tool calls among the vitals."""
        self._columns, self._seed, self._cap = columns, seed, cap
        self.ledger = Ledger()
        self.peers = Peers(len(STATS), len(STATS), borrowed=BORROWED)
        alike.declare(self.peers.arena)
        self.kinds = Arena()
        self.kinds.declare("level", np.float32, trail=(len(STATS),))
        self.kinds.declare("seen", np.float32)
        self.flushes = 0

    def grow(self, agents: int, types: int) -> None:
        """Make room for agents and types."""
        self.ledger.grow(agents)
        self.peers.grow(types)

    def forget(self, agents: Index) -> None:
        """What is usual for the tasks of these agents, from zero."""
        self.ledger.clear(agents)

    def pack(self) -> list[bytes]:
        """Ranks, what types lend, and what kinds of tasks add, as bytes."""
        return [self.ledger.pack(), self.peers.arena.pack(), self.kinds.pack()]

    def unpack(self, parts: list[bytes]) -> None:
        """Take over what `pack` wrote."""
        for arena, content in zip((self.ledger, self.peers.arena, self.kinds), parts, strict=True):
            arena.unpack(content)
        self.peers.forget_gathered()

    # --- the task that runs

    def follow(self, block: Block, values: NDArray[np.float64], output: Floats, step: NDArray[np.int32], steps: NDArray[np.int32],
               at_us: NDArray[np.int64], place: Place | None) -> None:  # fmt: skip
        """Add one sample each to the tasks that run.

        values (vitals, n) · output (n,) its log, 0 where missing · step (n,) its number in the task ·
        steps (n,) since the last sample, 0 where a task begins, -1 where nothing is known.
        """
        begins = steps == 0
        if np.count_nonzero(begins):
            self._close(block, begins & (block["ep_samples"] > 0))
            self._begin(block, begins, step <= 1, place)
        elif not np.count_nonzero(block["ep_whole"]):
            return
        samples, last, open_ = block["ep_samples"], block["ep_last"], block["ep_open"]
        amounts = values[self._columns]
        told = ~np.isnan(amounts)
        amounts = np.where(told, np.minimum(amounts, AMOUNT_MAX), 0)
        open_[TOKENS] += amounts[0] + amounts[1]
        open_[COST : TOOLS + 1] += amounts[2:]
        open_[OUTPUT] += output
        block["ep_outputs"][...] += told[1]
        fresh = samples == 0
        np.copyto(block["ep_start"], at_us, where=fresh)
        np.copyto(last, at_us, where=fresh)
        np.maximum(open_[PAUSE], (at_us - last) * 1e-6, out=open_[PAUSE], casting="unsafe")
        samples += 1
        last[...] = at_us

    def rest(self, arena: Arena, agents: Index) -> None:
        """These agents say that they are idle or done: what they were at is over."""
        working = agents[(arena["ep_samples"][agents] > 0) | ~arena["ep_whole"][agents]]
        if not len(working):
            return
        block = Block(arena, working)
        everyone = np.ones(len(working), dtype=np.bool_)
        self._close(block, everyone)
        self._begin(block, everyone, everyone, None)
        block.commit()

    def _begin(self, block: Block, begins: Mask, whole: Mask, place: Place | None) -> None:
        np.copyto(block["ep_open"], 0, where=begins)
        np.copyto(block["ep_samples"], 0, where=begins)
        np.copyto(block["ep_outputs"], 0, where=begins)
        np.copyto(block["ep_whole"], whole, where=begins)
        row = np.int32(-1) if place is None else place.type_row.astype(np.int32)
        np.copyto(block["ep_row"], row, where=begins)

    def _close(self, block: Block, ended: Mask) -> None:
        """Put the figures of tasks that ended aside, to be judged with others; a second within `FLUSH_ROUNDS` samples is left out."""
        ended = ended & block["ep_whole"] & ~block["ep_waits"]
        if not np.count_nonzero(ended):
            return
        figures = block["ep_open"].copy()
        figures[STEPS] = block["ep_samples"]
        figures[DURATION] = (block["ep_last"] - block["ep_start"]) * 1e-6
        figures[OUTPUT] /= np.maximum(block["ep_outputs"], 1)
        np.copyto(block["ep_done"], figures, where=ended)
        np.copyto(block["ep_done_row"], block["ep_row"], where=ended)
        np.copyto(block["ep_done_at"], block["ep_start"], where=ended)
        block["ep_waits"] |= ended

    # --- tasks that ended

    def flush(self, arena: Arena, types: NDArray[np.int32], hold_nats: float) -> None:
        """Judge the tasks that ended since the last flush, then learn from those of agents with less evidence than `hold_nats`."""
        waiting = np.flatnonzero(arena["ep_waits"][: arena.size])
        if not len(waiting):
            return
        block, ledger = Block(arena, waiting), Block(self.ledger, waiting)
        block["ep_waits"][...] = False
        own = types[waiting]
        lent = self.peers.lent(own)
        np.copyto(block["ep_variance"], np.maximum(_PRIOR, self.peers.arena["spread2"][own].T), where=block["ep_variance"] == 0)
        ended = self._figures(block, waiting, own)
        g = surprise.surprise(surprise.p_values(ledger, ended.bins, lent, ended.uniform))
        tasks = block["ep_tasks"]
        known = (tasks >= JUDGED_FROM) & ended.placed
        g *= tasks / np.hypot(tasks, HUMBLE)
        self._bet(block, ended, np.where(known, g, np.float32(0)), known)
        self._learn(block, ledger, ended, own, hold_nats)
        block.commit()
        ledger.commit()
        self.flushes += 1
        if self.flushes % REFRESH_FLUSHES == 0:
            self._refresh(types, arena)

    def _figures(self, block: Block, agents: Index, types: NDArray[np.int32]) -> Ended:
        """The figures of these tasks on their scales, and how far each is from what is usual."""
        keys = sample_keys(self._seed, agents, block["ep_done_at"])
        first, second = uniforms(keys, len(STATS))
        raw, row = block["ep_done"], block["ep_done_row"]
        steps = raw[STEPS].copy()
        y = raw.copy()
        y[COST] *= np.float32(1e6)
        y[DITHERED] = np.maximum(y[DITHERED] + second[DITHERED] - np.float32(0.5), np.float32(-0.5))
        y[:OUTPUT] = np.log1p(y[:OUTPUT])
        self.kinds.grow(int(row.max(initial=0)) + 1)
        has_kind = row >= 0
        added = np.where(has_kind, self.kinds["level"][row].T, np.float32(0))
        placed = np.repeat((~has_kind | (self.kinds["seen"][row] >= KIND_FROM))[None], len(STATS), axis=0)
        placed[PAUSE] &= steps > 1
        apart = y - added - block["ep_level"]
        weight = np.ones_like(y)
        same, length = alike.of_types(self.peers.arena, types), block["ep_length"]
        counted, usual = steps / (1 + steps * same), np.maximum(length / (1 + length * same), np.float32(1))
        weight[OUTPUT] = np.sqrt(np.minimum(np.maximum(counted / usual, np.float32(WEIGHT2_MIN)), np.float32(WEIGHT2_MAX)))
        z = apart * weight / np.maximum(np.sqrt(block["ep_variance"]), FLOORS)
        return Ended(y=y, steps=steps, row=row, placed=placed, apart=apart, weight=weight, z=z, bins=surprise.z_bins(z), uniform=first, agents=agents)

    def _bet(self, block: Block, ended: Ended, g: Floats, known: Mask) -> None:
        sr, apart = block["ep_sr"], ended.apart
        size = _PACES * ended.weight
        signed = np.stack([g, -g])[:, None]
        margin = np.float32(MARGIN) + np.maximum(1 / np.sqrt(np.maximum(block["ep_tasks"], 1)) - np.float32(ERROR_KNOWN), 0)
        factor = np.exp(size * (signed - margin) - size * size * np.float32(0.5))
        np.copyto(sr, np.minimum((sr + block["ep_length"]) * factor, self._cap), where=known)
        block["ep_statistic"][...] = (sr * WEIGHTS).sum(axis=(0, 1, 2))
        both = sr.mean(axis=1)
        best = both.max(axis=0)
        starts = best < SUSPECT * np.maximum(block["ep_length"], 1)
        np.copyto(block["ep_onset"], block["ep_done_at"], where=starts)
        sums = block["ep_sums"]
        sums *= ~starts
        sums[0] += known
        sums[1] += apart * known
        sums[2] += (ended.y - apart) * known
        now = np.where(both[0] > both[1], g, -g)
        since = np.abs(sums[1] / np.maximum(sums[0], 1))
        block["ep_present"][...] = ((best >= HOT) & (now > 0) & (np.abs(apart) > np.float32(STILL) * since)).any(axis=0)

    def _learn(self, block: Block, ledger: Block, ended: Ended, types: NDArray[np.int32], hold_nats: float) -> None:
        tasks, level, variance, length = block["ep_tasks"], block["ep_level"], block["ep_variance"], block["ep_length"]
        learning = ~block["held"] & (block["nats"] < np.float32(hold_nats))
        suspect = np.where(tasks < OWN_FROM, SUSPECT_YOUNG, SUSPECT) * np.maximum(length, 1)
        evidence = block["ep_sr"].mean(axis=1).max(axis=0)
        calm = evidence < suspect
        taught = learning & ended.placed
        clean = (evidence < SUSPECT_RANKS * np.maximum(length, 1)) & taught
        settled = clean & (tasks >= OWN_FROM)
        surprise.learn_ranks(ledger, ended.bins, settled)
        self.peers.learn(types, ended.bins, clean & (tasks >= JUDGED_FROM))
        self._learn_kinds(ended.row, ended.y - level, ended.weight**2, learning & (ended.row >= 0))
        slow = np.minimum(np.maximum(np.float32(YOUNG_PACE) / np.maximum(tasks, 1), np.float32(SUSPECT_PACE)), 1)
        pace = np.where(calm, np.float32(1), slow) * taught
        width = 4 * np.maximum(np.sqrt(variance), FLOORS)
        first = tasks == 0
        self._learn_alike(ended, types, settled[OUTPUT], variance[OUTPUT], length)
        wide = width / np.minimum(ended.weight, 1)
        bounded = np.where(first, ended.apart, np.minimum(np.maximum(ended.apart, -wide), wide))
        strangers = np.where(ended.row >= 0, np.float32(3), np.float32(1))
        level += pace * bounded * np.minimum(ended.weight**2 / np.minimum(tasks + strangers, np.float32(SPAN)), 1)
        moved = np.minimum(np.maximum(ended.apart * ended.weight, -width), width)
        variance += pace * ~first * (moved * moved - variance) / np.minimum(tasks + 2, np.float32(VARIANCE_SPAN))
        counted = taught[STEPS]
        length += counted * (ended.steps - length) / np.minimum(tasks + 1, np.float32(SPAN))
        tasks += counted

    def _learn_alike(self, ended: Ended, types: NDArray[np.int32], learned: Mask, variance: Floats, length: Floats) -> None:
        some = np.flatnonzero(learned & (ended.steps >= 1))
        expected = ended.weight[OUTPUT, some] ** -2
        square = ended.apart[OUTPUT, some] ** 2 / np.maximum(variance[some], FLOORS[OUTPUT] ** 2)
        alike.learn(self.peers.arena, types[some], ended.steps[some], length[some], expected, square)

    def _learn_kinds(self, row: NDArray[np.int32], rest: Floats, weight: Floats, learned: Mask) -> None:
        """Move what kinds of tasks add towards what is left of their tasks without the agents' own levels; rest, weight (figures, n)."""
        some = np.flatnonzero(learned)
        if not len(some):
            return
        rows, place, times = np.unique(row[some], return_inverse=True, return_counts=True)
        total, count = np.zeros((2, len(rows), len(STATS)), dtype=np.float32)
        np.add.at(total, place, (rest * weight)[:, some].T)
        np.add.at(count, place, weight[:, some].T)
        held, seen = self.kinds["level"], self.kinds["seen"]
        remembered = np.minimum(seen[rows], np.float32(KIND_SPAN))[:, None]
        held[rows] = (remembered * held[rows] + total) / (remembered + count)
        seen[rows] = np.minimum(seen[rows] + times, np.float32(1e6))

    def _refresh(self, types: NDArray[np.int32], arena: Arena) -> None:
        size, figures = arena.size, (len(STATS), arena.size)
        tasks = np.broadcast_to(arena["ep_tasks"][:size], figures)
        ones = np.ones(figures, dtype=np.float32)
        self.peers.refresh(types, tasks, arena["ep_level"][:, :size], arena["ep_variance"][:, :size], ones, 0 * ones)


def mix(block: Block, statistic: Floats) -> Floats:
    """The agent's statistic with the share of its tasks."""
    known = block["ep_tasks"] >= JUDGED_FROM
    if not np.count_nonzero(known):
        return statistic
    mixed: Floats = np.where(known, (1 - SHARE) * statistic + SHARE * block["ep_statistic"], statistic)
    return mixed


def evidence(arena: Arena, agent: int, least_nats: float) -> list[VitalEvidence]:
    """What the tasks of one agent show, figures with at least this many nats (of an e-detector in tasks)."""
    if float(arena["ep_tasks"][agent]) < JUDGED_FROM:
        return []
    mean = arena["ep_sr"][..., agent].mean(axis=1, dtype=np.float64)
    length = max(float(arena["ep_length"][agent]), 1.0)
    shown = []
    for figure, name in enumerate(STATS):
        sign = int(mean[1, figure] > mean[0, figure])
        nats = float(np.log(max(mean[sign, figure] / length, 1e-3)))
        if nats < least_nats:
            continue
        count, apart, usual = (float(total) for total in arena["ep_sums"][:, figure, agent])
        count = max(count, 1.0)
        expected, observed = _value(figure, usual / count), _value(figure, (usual + apart) / count)
        shown.append(
            VitalEvidence(
                vital=name,
                direction="down" if sign else "up",
                nats=nats,
                ratio=min(max(float(np.exp(apart / count)), 1e-6), 1e6),
                observed=observed,
                expected=expected,
                effect=abs(apart / count) / max(float(np.sqrt(arena["ep_variance"][figure, agent])), float(FLOORS[figure, 0])),
                growth=0.0,
                onset_us=int(arena["ep_onset"][figure, agent]),
                calibration=1.0,
                basis="own" if float(arena["ep_tasks"][agent]) >= OWN_FROM else "mixed",
            )
        )
    return shown


def _value(figure: int, scaled: float) -> float:
    value = float(np.expm1(min(scaled, 60.0)))
    return max(0.0, value * 1e-6 if figure == COST else value)
