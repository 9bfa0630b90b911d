"""The sentinel: vitals in, calibrated evidence out. Scores first, learns after, and does not learn from what is suspect.

Per sample and stream: scaled value (`streams`) -> innovation (`baseline`, `cells`) -> surprise (`surprise`, `peers`) -> evidence
(`eprocess`); the agent's statistic is the mean over streams, signs and sizes, and one threshold follows from the false-alarm
budget. `silence` and `stuck` watch for what is not there, `shared_cause` for what moved together. See docs/sentinel.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import Assessment, Bands
from immune.core.policy import DetectionPolicy
from immune.core.sentinel import (
    baseline,
    contexts,
    drift,
    episodes,
    eprocess,
    facts,
    hard,
    kin,
    looping,
    sessions,
    silence,
    standing,
    stuck,
    surprise,
    tail,
)
from immune.core.sentinel.arena import Arena, Block, Rows
from immune.core.sentinel.baseline import Surroundings
from immune.core.sentinel.cells import SAY_FROM, Cells, Place
from immune.core.sentinel.contexts import Where
from immune.core.sentinel.findings import FindingWriter
from immune.core.sentinel.hashing import sample_keys, uniforms
from immune.core.sentinel.peers import REFRESH_ROUNDS, Peers
from immune.core.sentinel.sessions import Seating, Seats, Turnover
from immune.core.sentinel.shared_cause import SharedCause
from immune.core.sentinel.streams import StreamTable
from immune.core.sentinel.surprise import Lent
from immune.core.vitals import CONTEXT_FIELDS, Lexicon, Roster, SampleBatch, VitalSchema
from immune.core.words import Words
from immune.errors import InputError

CHUNK = 1024
"""Agents handled at once: their working arrays stay in the cache."""
US = 1_000_000
FORMAT = 3
"""Of snapshots: raised when what is in the arrays means something else than before."""
HOLD_SHARE = 0.5
"""Learning stops at this share of the threshold, in nats."""
GROUND = np.float32(math.exp(4.0))
"""A stream with evidence above this teaches its spread, memory and calibration nothing, its level a quarter."""
GROUND_LOOSE = np.float32(math.exp(9.0))
HONEST_FROM = 200
"""From this many samples on the block variance learns from suspected samples too: rare long runs belong to it (measured: 34 false alarms in
11 agent-days of tasks that say nothing of themselves became 1); before, a fault of a young agent would pass for dependence."""
KNOWN_FROM = 60
"""The looser ground: for young streams and those whose type remembers itself (runs of surprise are first of all a lesson in dependence), and for
counts (leaving out lucky hits would make the next ones look rarer than they are: measured, 36 false alarms where there were none)."""
UNNAMED_TYPE = "agent"
"""The type of agents of which nobody said one: they need not be alike."""
TASK, MODEL, TOOL = (CONTEXT_FIELDS.index(name) for name in ("task", "model", "tool"))

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One chunk as read: x, seen, uniform (streams, n); types, at_us, step, steps, tool (n,); repeats (vitals, n) the continuous
    vitals, values (vitals, n) all, both raw.
    """

    block: Block
    types: NDArray[np.int32]
    lent: Lent
    at_us: NDArray[np.int64]
    x: Floats
    seen: Mask
    step: NDArray[np.int32]
    steps: NDArray[np.int32]
    uniform: Floats
    repeats: Floats
    tool: NDArray[np.int32]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One chunk as scored; told: samples that may teach a baseline; raw: surprise before any widening; grown: growth within the task."""

    residuals: baseline.Residuals
    bins: NDArray[np.int8]
    raw: Floats
    judged: Mask
    told: Mask
    evidence: Floats
    learning: Mask
    grown: Floats


class Sentinel:
    """The statistical heart. One instance per run; not thread-safe; equal inputs give equal outputs, bit for bit."""

    def __init__(self, *, roster: Roster, lexicon: Lexicon, schema: VitalSchema, policy: DetectionPolicy, period_us: int, seed: int = 0) -> None:
        self.roster, self.lexicon, self.policy, self.seed = roster, lexicon, policy, seed
        self.period_s = period_us / US
        self.threshold_nats = self._nats_for(1)
        self.table = StreamTable(schema)
        streams, smooth = len(self.table), self.table.continuous
        self._cap = eprocess.cap_for(self._nats_for(self.roster.limit), 2 * streams + 1)
        self.arena = Arena()
        baseline.declare(self.arena, streams, smooth)
        surprise.declare(self.arena, streams)
        eprocess.declare(self.arena, streams)
        drift.declare(self.arena, smooth)
        silence.declare(self.arena)
        stuck.declare(self.arena, self.table.first_ratio)
        looping.declare(self.arena)
        facts.declare(self.arena)
        hard.declare(self.arena)
        episodes.declare(self.arena)
        tail.declare(self.arena, smooth)
        standing.declare(self.arena, streams, smooth)
        kin.declare(self.arena, streams)
        contexts.declare(self.arena)
        sessions.declare(self.arena)
        self.kin = kin.Kin(self.table)
        self.contexts = contexts.Contexts(smooth)
        self.peers = Peers(streams, smooth)
        self.cells = Cells(smooth)
        self.episodes = episodes.Episodes(self.table.task_columns, seed, self._cap)
        self.shared = SharedCause(self.table.names, self.threshold_nats)
        self._writer = FindingWriter(self.table, policy, self.threshold_nats)
        self._limits = hard.limits_of(policy, schema)
        self._output = self.table.names.index("output_tokens")
        self.seats, self.turnover = Seats(), Turnover()
        self._types = np.zeros(0, dtype=np.int32)
        self._named = np.zeros(0, dtype=np.bool_)
        self._rounds = 0
        self.probes = 0
        self._awake_us = 0
        self._changed: list[facts.CodedChange] = []

    def observe(self, batch: SampleBatch, now_us: int) -> Assessment:
        """Score the batch, then learn from it; several samples of an agent are taken in rounds, in time order."""
        self._enroll()
        self._changed = []
        self.shared.taken_over = []
        if not self.seats.plain:
            batch = self._seated(batch)
        for rows in _rounds(batch.agent):
            self._round(batch if rows is None else batch.take(rows))
        return self._assess(now_us)

    def wake(self, now_us: int) -> None:
        """Nobody listened until now (a restart, a machine that slept): silence counts from here."""
        self._awake_us = now_us

    def heed(self, words: Words, now_us: int) -> None:
        """What people have said, from now on; all of it, each time."""
        self._writer.words = words
        if words.announced or self.shared.expecting:
            self.shared.announce([self._cohort(name, value) for name, value in words.announced], now_us)

    def _cohort(self, name: str, value: str) -> tuple[str, int]:
        if name == "fleet":
            return "", -1
        words = {"type": self.roster.types, "service": self.roster.services}.get(name, self.lexicon)
        return name, words.code(value)

    def hold(self, agents: Sequence[int]) -> None:
        """Stop learning from these agents: an incident is open, or they are contained."""
        self._enroll()
        self.arena["held"][self.seats.rows(agents)] = True

    def resume(self, agents: Sequence[int]) -> None:
        """Learn from these agents again."""
        self._enroll()
        self.arena["held"][self.seats.rows(agents)] = False

    def restart(self, agents: Sequence[int]) -> None:
        """Evidence from zero: what comes now is judged on its own."""
        self._enroll()
        standing.reset_evidence(self.arena, self.seats.rows(agents))

    def rebase(self, agents: Sequence[int]) -> None:
        """What these agents do now is their new normal: baselines and evidence from zero, identity and facts stay."""
        self._enroll()
        chosen = self.seats.rows(agents)
        standing.reset_evidence(self.arena, chosen)
        standing.forget_normal(self.arena, chosen)
        self.arena["kin_over"][chosen] = True
        self.cells.forget(chosen)
        self.contexts.forget(self.arena, chosen)
        self.episodes.forget(chosen)

    def retire(self, agents: Sequence[int]) -> None:
        """Neither silent nor judged until they send again."""
        self._enroll()
        chosen = self.seats.rows(agents)
        standing.reset_evidence(self.arena, chosen)
        self.arena["retired"][chosen] = True

    def bands(self) -> Bands:
        """Expected value and the range of about 99 % of healthy samples, for every agent and vital."""
        self._enroll()
        bands = self._writer.bands(self.arena, self.policy.min_samples)
        if self.seats.plain:
            return bands
        return Bands(**{name: self._of_roster(getattr(bands, name)) for name in ("expected", "low", "high")})

    def _of_roster(self, over_rows: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.full((len(self.roster), over_rows.shape[1]), np.nan, dtype=np.float32)
        taken = np.flatnonzero(self.seats.who >= 0)
        out[self.seats.who[taken]] = over_rows[taken]
        return out

    @property
    def layout(self) -> str:
        """What a snapshot must have been made for: a short hash of the arrays' names, types and shapes, and of the format's number."""
        arenas = (self.arena, self.peers.arena, self.cells.curves, self.cells.agents, self.cells.types, self.episodes.ledger, self.contexts.cells)
        text = "|".join([str(FORMAT), *self.table.names, *(arena.layout for arena in arenas)])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def snapshot(self) -> bytes:
        """Everything learned and every open judgement, bit for bit."""
        parts = [
            self.arena.pack(),
            self.peers.arena.pack(),
            *self.cells.pack(),
            self.shared.pack(),
            *self.episodes.pack(),
            *self.contexts.pack(),
            self.turnover.types.pack(),
        ]
        head = {
            "layout": self.layout,
            "rounds": self._rounds,
            "cells": self.cells.counters,
            "contexts": self.contexts.counters,
            "seats": self.seats.pack(),
            "probes": self.probes,
            "awake_us": self._awake_us,
            "flushes": self.episodes.flushes,
            "lengths": [len(part) for part in parts],
        }
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + b"".join(parts)

    def restore(self, content: bytes) -> None:
        """Take over a snapshot; what follows is equal to what would have followed there. Raises InputError for another version's."""
        line, _, body = content.partition(b"\n")
        try:
            head = json.loads(line)
        except ValueError:
            head = {}
        found = head.get("layout", "") if isinstance(head, dict) else ""
        if found != self.layout:
            raise InputError(
                "these baselines were stored by another version or for other vitals",
                field="snapshot",
                value=found,
                way_out=f"let them be learned anew; this version reads layout {self.layout}",
            )
        parts, offset = [], 0
        for length in head["lengths"]:
            parts.append(body[offset : offset + length])
            offset += length
        self.arena.unpack(parts[0])
        self.peers.arena.unpack(parts[1])
        self.peers.forget_gathered()
        self.cells.unpack(parts[2:5])
        self.cells.counters = head["cells"]
        self.shared.unpack(parts[5])
        self.episodes.unpack(parts[6:9])
        self.contexts.unpack(parts[9:11])
        self.contexts.counters = head["contexts"]
        self.turnover.types.unpack(parts[11])
        self.seats.unpack(head["seats"])
        self._rounds, self.probes, self.episodes.flushes = head["rounds"], head["probes"], head["flushes"]
        self._awake_us = head.get("awake_us", 0)
        self._types = np.zeros(0, dtype=np.int32)
        self._enroll()

    def _enroll(self) -> None:
        size = len(self.roster)
        if size == len(self.seats.of) and len(self._types):
            return
        if size > len(self.seats.of):
            self.seats.enroll(size)
        self._reseat()
        self.threshold_nats = self._writer.threshold_nats = self.shared.threshold_nats = self._nats_for(len(self.seats.who))

    def _reseat(self) -> None:
        """Make room for who has a row now, and take in of what type and service each is."""
        rows, kinds = len(self.seats.who), len(self.roster.types)
        who = np.maximum(self.seats.who, 0)
        self._types = self.roster.type_codes()[who]
        unnamed = np.array([self.roster.types.word(code) == UNNAMED_TYPE for code in range(kinds)], dtype=np.bool_)
        self._named = ~unnamed[self._types]
        for arena, room in ((self.arena, rows), (self.turnover.types, kinds)):
            arena.grow(room)
        self.peers.grow(kinds)
        self.peers.forget_gathered()
        self.cells.grow(rows, kinds)
        self.contexts.grow(kinds)
        self.episodes.grow(rows, kinds)
        self.shared.enroll(self._types, self.roster.service_codes()[who])

    def _seated(self, batch: SampleBatch) -> SampleBatch:
        """The batch by rows instead of roster numbers; who comes back gets a row again."""
        rows = self.seats.of[batch.agent]
        if np.count_nonzero(rows < 0):
            self.seats.seat(np.unique(batch.agent[rows < 0]).tolist())
            self._reseat()
            rows = self.seats.of[batch.agent]
        return replace(batch, agent=rows)

    def _give_back(self, now_us: int) -> None:
        """Rows of ended sessions and of the retired are free for whoever comes next."""
        gone = self.turnover.gone(self.arena, self._types, self.seats, now_us)
        if not len(gone):
            return
        self.cells.forget(gone)
        self.contexts.forget(self.arena, gone)
        self.episodes.forget(gone)
        self.arena.clear(gone)
        left = set(gone.tolist())
        for cause in self.shared.causes.values():
            cause.agents -= left
            cause.shown -= left
        for group in self.shared.quiet.groups:
            group.agents -= left
        self.seats.leave(gone)

    def _nats_for(self, agents: int) -> float:
        """From the budget alone: per agent, or the whole fleet's divided by its agents, whichever is stricter."""
        return eprocess.alarm_nats(self.period_s, self._budget(agents))

    def _budget(self, agents: int) -> float:
        """False alarms per agent-day."""
        budget, fleet = self.policy.false_alarms_per_agent_day, self.policy.false_alarms_per_fleet_day
        return min(budget, fleet / max(agents, 1)) if fleet > 0 else budget

    def _round(self, batch: SampleBatch) -> None:
        agents = batch.agent.astype(np.intp)
        here = _neighbours(agents)
        fresh = self.arena["last_at"][here] < 0
        if np.count_nonzero(fresh):
            self.arena["born_at"][agents[fresh]] = batch.at_us[fresh]
            self.turnover.join(self._types[agents[fresh]], batch.at_us[fresh])
        silence.arrive(self.arena, here, batch.at_us, batch.status, self.policy, self._awake_us)
        changed = facts.arrive(self.arena, here, batch.at_us, batch.codes)
        self._changed += [change for change in changed if change[1] != MODEL or not self.contexts.known_model(self.arena, change[0], change[3])]
        told = ~np.logical_and.reduce(np.isnan(batch.values), axis=1)
        over = agents[silence.resting(batch.status)]
        if np.count_nonzero(told) < len(told):
            batch, agents = batch.take(told), agents[told]
        if not len(agents):
            self.episodes.rest(self.arena, over)
            return
        if self._limits.any:
            hard.arrive(self.arena, _neighbours(agents), batch.at_us, batch.values, self._limits)
        self._rounds += 1
        place = self.cells.place(agents, self._types[agents], batch.codes[:, TASK], batch.step, self._rounds)
        where = self.contexts.find(self.arena, agents, self._types[agents], batch.codes, self._rounds)
        keys = sample_keys(self.seed, agents, batch.at_us)
        for rows, part in _chunks(agents):
            self._score(rows, part, agents, batch, keys, place, where)
        if where is not None and self._rounds % REFRESH_ROUNDS == 0:
            self.contexts.settle(self.arena, agents)
        self.episodes.rest(self.arena, over)
        if self._rounds % REFRESH_ROUNDS == 0:
            size = self.arena.size
            self.peers.refresh(
                self._types,
                self.arena["count"][:, :size],
                self.arena["level"][:, :size],
                self.arena["own2"][:, :size],
                self.arena["calibration"][:, :size],
                baseline.memory(self.arena, size),
            )
            self.peers.move_together(self._types, self.arena["drift_mean"][:, :size])
            if self._rounds % drift.WANDER_ROUNDS == 0:
                drift.wander(self.arena, self._types, self.peers.arena["wander2"][: self.peers.arena.size])
            self._hold_against_kin()
            self.turnover.follow(self.arena, self._types, int(batch.at_us.max()))
            self._give_back(int(batch.at_us.max()))
        if self._rounds % episodes.FLUSH_ROUNDS == 0:
            self.episodes.flush(self.arena, self._types, self.threshold_nats)
        standing.let_go(self.arena, HOLD_SHARE * self.threshold_nats)
        self.shared.advance(self.arena, int(batch.at_us.max()))

    def _hold_against_kin(self) -> None:
        """Agents that are unlike their type from their first sample on become an alarm; see `kin`."""
        least, hold, budget = self.policy.min_samples, HOLD_SHARE * self.threshold_nats, self._budget(self.arena.size)
        shared = np.zeros((2, len(self.table)), dtype=np.bool_)
        for cause in self.shared.causes.values():
            for symptom in cause.symptoms:
                shared[symptom] = True
        settled = np.where(self.turnover.kinds[self._types], kin.SETTLED_SESSION, kin.SETTLED)
        found = self.kin.unlike(self.arena, self._types, self._named, self.peers, settled, least=least, hold_nats=hold, budget=budget, shared=shared)
        for unlike in found:
            kin.convict(self.arena, unlike, self.peers, int(self._types[unlike.agent]), self.threshold_nats, self.table.counted[:, :, 0] > 0)

    def _score(
        self, rows: Rows, part: slice, all_agents: Index, batch: SampleBatch, keys: NDArray[np.uint64], place: Place | None, where: Where | None
    ) -> None:
        """Score and then learn one chunk: samples `part` of the batch, which belong to the agents of `rows`."""
        block = self.arena.block(rows)
        whole = part.start == 0 and part.stop == len(batch)
        reading = self._read(block, all_agents[part], batch if whole else batch.take(np.arange(part.start, part.stop)), keys[part])
        here = None if place is None else place.part(part)
        there = None if where is None else where.part(part)
        judgement = self._judge(reading, self._around(block, here, there))
        self.episodes.follow(block, reading.values, reading.x[self._output], reading.step, reading.steps, reading.at_us, here)
        self._learn(reading, judgement, here, there)
        block.commit()

    def _read(self, block: Block, agents: Index, batch: SampleBatch, keys: NDArray[np.uint64]) -> Reading:
        table, values = self.table, batch.values.T
        uniform, dither = uniforms(keys, len(table))
        steps = standing.task_steps(block, batch.task_id, batch.step)
        growth = table.context_growth(values[table.context_column], block["context_before"], np.where(steps > 0, steps, 0))
        x = table.scaled(values, growth, (steps == 0) & (batch.step == 0), dither[: table.continuous])
        np.copyto(block["context_before"], values[table.context_column].astype(np.float32))
        seen: Mask = ~np.isnan(x)
        np.copyto(x, 0, where=~seen)
        types = self._types[agents]
        self._begin(block, types, seen)
        repeats = values[table.columns[: table.first_ratio]].astype(np.float32)
        lent = self.peers.lent(types, block.rows)
        return Reading(
            block=block,
            types=types,
            lent=lent,
            at_us=batch.at_us,
            x=x,
            seen=seen,
            step=batch.step,
            steps=steps,
            uniform=uniform,
            repeats=repeats,
            tool=batch.codes[:, TOOL],
            values=values,
        )

    def _judge(self, reading: Reading, around: Surroundings | None) -> Judgement:
        block, x, smooth = reading.block, reading.x, self.table.continuous
        grown = standing.task_growth(block, x[:smooth], reading.seen[:smooth], reading.step, reading.steps)
        residuals = baseline.Residuals(block, x[:smooth], reading.steps == 0, self.table.floors, around, reading.lent)
        count, lent = block["count"], reading.lent
        known = count >= self.policy.min_samples
        judged = reading.seen & known
        bins = np.concatenate([surprise.z_bins(residuals.z), surprise.count_bins(x[smooth:])])
        raw = surprise.surprise(surprise.p_values(block, bins, lent, reading.uniform))
        g = raw * np.sqrt(count / (count + lent.humble))
        wide: Floats = surprise.widening(block["calibration"], count, lent)
        g /= wide
        told = reading.seen if around is None else reading.seen.copy()
        if around is not None:
            times, visits = around.times, around.visits
            g[:smooth] *= np.sqrt(times / (times + 3) * (visits + 1) / (visits + 4))
            judged[:smooth] &= times >= SAY_FROM
            told[:smooth] &= (times >= SAY_FROM) | (reading.step <= 0)
        np.copyto(g, 0, where=~judged)
        kin.advance(block, np.concatenate([residuals.residual + block["level"][:smooth], x[smooth:]]), told, smooth)
        bets = surprise.rare_bets(block, bins[smooth:], smooth, lent)
        learning = ~block["held"] & ((block["nats"] < HOLD_SHARE * self.threshold_nats) | standing.probing(block))
        drift.advance(block, residuals.residual, residuals.phi, reading.seen[:smooth] & told[:smooth], told[:smooth] & learning, lent, self._cap)
        tail.advance(block, residuals.z, judged[:smooth], learning, lent, wide[:smooth], self._cap)
        evidence = eprocess.advance(block["sr"], g, judged, self._cap, bets)
        ready = block["samples"] >= self.policy.min_samples
        frozen = stuck.advance(block, reading.repeats, ready, learning, reading.at_us, self._cap)
        calls, output = reading.values[self.table.tool_column], reading.values[self.table.output_column]
        looped = looping.advance(block, reading.tool, calls, output, ready, learning, reading.at_us, self._cap)
        slow = np.maximum.reduce(block["sr"][:, drift.ROWS, :smooth], axis=(0, 1)) > np.maximum(*evidence[:, :smooth])
        usual = residuals.expected + np.where(slow, block["reference"] - block["level"][:smooth], np.float32(0))
        expected = np.concatenate([usual, block["level"][smooth:]])
        deviation = x - expected
        nats = self._nats(block, evidence, looping.together(frozen, looped), known)
        standing.advance(block, evidence, g, judged, reading.seen, deviation, expected, nats, reading.at_us, self.threshold_nats)
        return Judgement(residuals=residuals, bins=bins, raw=raw, judged=judged, told=told, evidence=evidence, learning=learning, grown=grown)

    def _nats(self, block: Block, evidence: Floats, frozen: Floats, known: Mask) -> Floats:
        """Ln of the mean over streams, signs and the stall process, on the scale of the fleet's clock.

        An agent with another pace than the period has another number of samples a day, hence another threshold; the difference
        is taken off here, so that one threshold serves all.
        """
        active = np.maximum(np.add.reduce(known, axis=0, dtype=np.float32), np.float32(1))
        total = np.add.reduce((evidence * self.table.counted).reshape(-1, len(active)), axis=0) + frozen
        statistic = episodes.mix(block, total / (2 * active + 1))
        paced = block["pace_count"] >= self.policy.min_samples
        pace = np.where(paced, np.minimum(np.maximum(block["pace"], np.float32(0.001)), np.float32(600)), np.float32(self.period_s))
        nats: Floats = np.log(np.maximum(statistic, np.float32(1e-3)) * (pace * np.float32(1 / self.period_s)))
        return nats

    def _learn(self, reading: Reading, judgement: Judgement, here: Place | None, there: Where | None) -> None:
        block, smooth, count = reading.block, self.table.continuous, reading.block["count"]
        residuals, learning = judgement.residuals, judgement.learning
        loose = (count < KNOWN_FROM) | reading.lent.dependent
        evidence = np.maximum(*judgement.evidence)
        calm = evidence < np.where(loose, GROUND_LOOSE, GROUND)
        young = count[:smooth] < baseline.YOUNG
        if np.count_nonzero(young):
            lent = reading.lent
            steady = ~np.logical_or.reduce(lent.dependent[:smooth] | (lent.calibration[:smooth] >= baseline.STEADY), axis=0)
            young &= steady & ~loose[:smooth]
            calm[:smooth] &= baseline.trusted(block, evidence[:smooth], young)
        taught = judgement.told & learning
        settled = taught & calm & (count >= 3)
        surprise.learn_calibration(block, judgement.raw, judgement.judged & learning & (calm | (count >= HONEST_FROM)))
        surprise.learn_ranks(block, judgement.bins, settled)
        self.peers.learn(reading.types, judgement.bins, settled)
        residuals.learn(reading.seen[:smooth], taught[:smooth], calm[:smooth])
        baseline.learn_counts(block, reading.x[smooth:], smooth, reading.seen[smooth:], learning)
        count += taught
        if here is not None or there is not None:
            learned = reading.seen[:smooth] & learning & calm[:smooth]
            rest = np.where(count[:smooth] > 3, residuals.bounded_residual, np.float32(0))
            if here is not None:
                self.cells.learn(here, judgement.grown.T, rest.T, np.abs(residuals.plain).T, learned.T)
            if there is not None:
                self.contexts.learn(there, rest, learned, block["turn"], block["level"][:smooth])
        for name in ("samples", "turn"):
            block[name] += 1

    def _around(self, block: Block, here: Place | None, there: Where | None) -> Surroundings | None:
        """What the place in the task, the model and the tool add."""
        around = None if here is None else self._surroundings(block, here)
        if there is None:
            return around
        effect, visits = self.contexts.expected(there)
        if around is None:
            often = np.full_like(effect, 1e6)
            return Surroundings(shape=effect, rough=np.ones_like(effect), doubt=np.zeros_like(effect), times=often, visits=np.minimum(often, visits))
        return replace(around, shape=around.shape + effect, visits=np.minimum(around.visits, visits))

    def _surroundings(self, block: Block, here: Place) -> Surroundings:
        """What the place in the task says; the doubt is half the curve's slope here at first, less with each visit."""
        shape, rough, times, visits = (np.ascontiguousarray(part.T) for part in self.cells.expected(here))
        before = block["shape_before"]
        doubt = np.abs(shape - before) * (np.float32(0.5) / np.sqrt(1 + visits))
        before[...] = shape
        return Surroundings(shape=shape, rough=rough, doubt=doubt, times=times, visits=visits)

    def _begin(self, block: Block, types: NDArray[np.int32], seen: Mask) -> None:
        """An agent's first sample of a stream starts from its type's level, as far as the type's agents agree."""
        smooth = self.table.continuous
        first = (block["count"][:smooth] == 0) & seen[:smooth] & (block["samples"] == 0)
        if not np.count_nonzero(first):
            return
        peers = self.peers.arena
        weight = peers["level_weight"][types].T
        lends = first & (weight > 0)
        np.copyto(block["level"][:smooth], peers["level"][types].T, where=lends)
        np.copyto(block["level_prior"], weight, where=lends)
        spread2 = peers["spread2"][types].T
        lends = first & (spread2 > 0)
        np.copyto(block["spread2"], spread2, where=lends)
        np.copyto(block["own2"], spread2, where=lends)

    def _assess(self, now_us: int) -> Assessment:
        size, arena, seats = self.arena.size, self.arena, self.seats
        gap_share, limit = silence.gaps(arena, now_us, self.policy, self._awake_us)
        silent = gap_share >= 1
        ended = np.zeros(0, dtype=np.intp)
        if np.count_nonzero(silent) and self.turnover.kinds.any():
            ended = np.flatnonzero(gap_share > HOLD_SHARE)
            ended = ended[self.turnover.ended(arena, self._types, ended)]
            gap_share[ended], silent[ended] = 0, False
        idle = silence.resting(arena["status"][:size]) & (arena["last_at"][:size] >= 0)
        idle[ended] = True
        nats = np.maximum(arena["nats"][:size], gap_share * np.float32(self.threshold_nats) * (gap_share > HOLD_SHARE))
        if self._limits.any:
            nats = np.where(hard.standing(arena, now_us), np.maximum(nats, np.float32(self.threshold_nats)), nats)
        roster = self.roster if seats.plain else Seating(self.roster, seats)
        findings, cohorts = self._writer.write(arena, self.shared, self.lexicon, roster, nats, gap_share, limit, now_us)
        for finding in findings:
            if finding.alarm and not finding.explained_by:
                standing.blame(arena, finding.agent, finding.onset_us)
        return Assessment(
            now_us=now_us,
            threshold_nats=self.threshold_nats,
            nats=seats.over_roster(nats, -6),
            samples=seats.over_roster(arena["samples"][:size].copy(), 0),
            ready=seats.over_roster(arena["samples"][:size] >= self.policy.min_samples, 0),
            silent=seats.over_roster(silent, 0),
            idle=seats.over_roster(idle, 1),
            findings=seats.named(findings),
            cohorts=seats.named_cohorts(cohorts),
            facts=facts.in_words([(seats.agents(c[:1])[0], c[1], c[2], c[3], c[4]) for c in self._changed], self.lexicon),
            taken_over=tuple((seats.agents(rows), key, basis) for rows, key, basis in self.shared.taken_over),
        )


def _rounds(agents: NDArray[np.int32]) -> Iterator[Index | None]:
    """Rows by round: in each round an agent has one sample, rows ordered by agent. None stands for all rows as they are."""
    if not len(agents):
        return
    if len(agents) == 1 or np.count_nonzero(agents[1:] > agents[:-1]) == len(agents) - 1:
        yield None
        return
    order = np.argsort(agents, kind="stable")
    ordered = agents[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    turn = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    for number in range(int(turn.max()) + 1):
        yield order[turn == number]


def _chunks(agents: Index) -> Iterator[tuple[Rows, slice]]:
    """(rows of the arena, samples of the round), about `CHUNK` agents each; a slice where the agents are neighbours."""
    pieces = math.ceil(len(agents) / CHUNK)
    for piece in range(pieces):
        part = slice(piece * CHUNK, min(len(agents), (piece + 1) * CHUNK))
        yield _neighbours(agents[part]), part


def _neighbours(agents: Index) -> Rows:
    """Ascending agents as a slice where none is left out between the first and the last."""
    first, last = int(agents[0]), int(agents[-1])
    return slice(first, last + 1) if last - first + 1 == len(agents) else agents
