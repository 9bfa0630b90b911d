"""The sentinel: vitals in, calibrated evidence out. Scores first, learns after, and does not learn from what is suspect.

Per sample and stream: scaled value (`streams`) -> innovation (`baseline`, `cells`) -> surprise (`surprise`, `peers`) -> evidence
(`eprocess`); the agent's statistic is the mean over streams, signs and sizes, and one threshold follows from the false-alarm
budget. `silence` and `stuck` watch for what is not there, `shared_cause` for what moved together. See docs/sentinel.md.

The way of a batch: `rounds` cuts it, `reading` -> `judging` -> `learning` take each chunk, `findings` says what stands out; `memory` keeps it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import Assessment, Bands
from immune.core.policy import DetectionPolicy
from immune.core.sentinel import baseline, drift, episodes, eprocess, facts, hard, judging, kin, silence, standing
from immune.core.sentinel.findings import FindingWriter
from immune.core.sentinel.hashing import sample_keys
from immune.core.sentinel.judging import Bar, judge
from immune.core.sentinel.learning import learn
from immune.core.sentinel.memory import Memory
from immune.core.sentinel.peers import REFRESH_ROUNDS
from immune.core.sentinel.reading import read
from immune.core.sentinel.rounds import chunks_of, neighbours, rounds_of
from immune.core.sentinel.sessions import Seating
from immune.core.sentinel.streams import StreamTable
from immune.core.vitals import CONTEXT_FIELDS, Lexicon, Roster, SampleBatch, VitalSchema
from immune.core.words import Words

US = 1_000_000
TASK, MODEL = (CONTEXT_FIELDS.index(name) for name in ("task", "model"))

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


class Sentinel:
    """The statistical heart. One instance per run; not thread-safe; equal inputs give equal outputs, bit for bit."""

    def __init__(self, *, roster: Roster, lexicon: Lexicon, schema: VitalSchema, policy: DetectionPolicy, period_us: int, seed: int = 0) -> None:
        self.roster, self.lexicon, self.policy, self.seed = roster, lexicon, policy, seed
        self.table = StreamTable(schema)
        period_s = period_us / US
        threshold_nats = eprocess.alarm_nats(period_s, self._budget(1))
        cap = eprocess.cap_for(eprocess.alarm_nats(period_s, self._budget(roster.limit)), 2 * len(self.table) + 1)
        self._bar = Bar(threshold_nats=threshold_nats, cap=cap, period_s=period_s, min_samples=policy.min_samples)
        self.memory = memory = Memory(roster=roster, table=self.table, seed=seed, cap=cap, threshold_nats=threshold_nats)
        self.arena, self.peers, self.cells, self.contexts = memory.arena, memory.peers, memory.cells, memory.contexts
        self.shared, self.seats, self.turnover = memory.shared, memory.seats, memory.turnover
        self.kin = kin.Kin(self.table)
        self._writer = FindingWriter(self.table, policy, threshold_nats)
        self._limits = hard.limits_of(policy, schema)
        self._output = self.table.names.index("output_tokens")
        self._changed: list[facts.CodedChange] = []

    @property
    def threshold_nats(self) -> float:
        """Where evidence becomes an alarm, for as many agents as there are now."""
        return self._bar.threshold_nats

    # -- the tick ------------------------------------------------------------------------------------------------------

    def observe(self, batch: SampleBatch, now_us: int) -> Assessment:
        """Score the batch, then learn from it; several samples of an agent are taken in rounds, in time order."""
        self._enroll()
        self._changed = []
        self.shared.taken_over = []
        batch = self.memory.seated(batch)
        for rows in rounds_of(batch.agent):
            self._round(batch if rows is None else batch.take(rows))
        return self._assess(now_us)

    def _enroll(self) -> None:
        """Rows for who joined; the budget of a fleet is shared by all that have one."""
        if not self.memory.enroll():
            return
        threshold_nats = eprocess.alarm_nats(self._bar.period_s, self._budget(len(self.seats.who)))
        self._bar = replace(self._bar, threshold_nats=threshold_nats)
        self._writer.threshold_nats = self.shared.threshold_nats = threshold_nats

    def _budget(self, agents: int) -> float:
        """False alarms per agent-day: per agent, or the whole fleet's divided by its agents, whichever is stricter."""
        budget, fleet = self.policy.false_alarms_per_agent_day, self.policy.false_alarms_per_fleet_day
        return min(budget, fleet / max(agents, 1)) if fleet > 0 else budget

    def _round(self, batch: SampleBatch) -> None:
        """One sample of each of these agents: who and when first, then the vitals of those that sent any, then what is due now and then."""
        agents = batch.agent.astype(np.intp)
        self._arrive(batch, agents)
        over = agents[silence.resting(batch.status)]
        told = ~np.logical_and.reduce(np.isnan(batch.values), axis=1)
        if np.count_nonzero(told) < len(told):
            batch, agents = batch.take(told), agents[told]
        if len(agents):
            self._score(batch, agents)
        self.memory.episodes.rest(self.arena, over)
        if len(agents):
            self._look_over(int(batch.at_us.max()))

    def _arrive(self, batch: SampleBatch, agents: Index) -> None:
        """Everything but the vitals: first samples, gaps, status, model, version and the like."""
        memory, here = self.memory, neighbours(agents)
        fresh = self.arena["last_at"][here] < 0
        if np.count_nonzero(fresh):
            self.arena["born_at"][agents[fresh]] = batch.at_us[fresh]
            self.turnover.join(memory.types[agents[fresh]], batch.at_us[fresh])
        silence.hear(self.arena, memory.fleet, batch.at_us, self.policy, memory.awake_us)
        silence.arrive(self.arena, here, batch.at_us, batch.status, self.policy, memory.awake_us)
        changed = facts.arrive(self.arena, here, batch.at_us, batch.codes)
        self._changed += [change for change in changed if change[1] != MODEL or not self.contexts.known_model(self.arena, change[0], change[3])]

    def _score(self, batch: SampleBatch, agents: Index) -> None:
        """Chunk by chunk: read, judge, and only then learn."""
        memory = self.memory
        if self._limits.any:
            hard.arrive(self.arena, neighbours(agents), batch.at_us, batch.values, self._limits)
        memory.rounds += 1
        types = memory.types[agents]
        place = self.cells.place(agents, types, batch.codes[:, TASK], batch.step, memory.rounds)
        where = self.contexts.find(self.arena, agents, types, batch.codes, memory.rounds)
        keys = sample_keys(self.seed, agents, batch.at_us)
        for rows, part in chunks_of(agents):
            whole = part.start == 0 and part.stop == len(batch)
            samples = batch if whole else batch.take(np.arange(part.start, part.stop))
            here, there = None if place is None else place.part(part), None if where is None else where.part(part)
            one = read(memory, rows, types[part], samples, keys[part], here, there)
            judgement = judge(one, self.table, self._bar)
            memory.episodes.follow(one.block, one.values, one.x[self._output], one.step, one.steps, one.at_us, here)
            learn(memory, one, judgement)
            one.block.commit()
        if where is not None and memory.rounds % REFRESH_ROUNDS == 0:
            self.contexts.settle(self.arena, agents)

    def _look_over(self, at_us: int) -> None:
        """After a round: what moved together, and every so many rounds what takes all agents to see."""
        memory, arena = self.memory, self.arena
        if memory.rounds % REFRESH_ROUNDS == 0:
            self._refresh_peers()
            silence.lend(arena, memory.types)
            self._hold_against_kin()
            self.turnover.follow(arena, memory.types, at_us)
            memory.give_back(at_us)
        if memory.rounds % episodes.FLUSH_ROUNDS == 0:
            memory.episodes.flush(arena, memory.types, self._bar.hold_nats)
        standing.let_go(arena, self._bar.hold_nats)
        self.shared.advance(arena, at_us)

    def _refresh_peers(self) -> None:
        """What types lend their agents, from what the agents know now."""
        arena, size, types = self.arena, self.arena.size, self.memory.types
        count, level, own2, calibration = (arena[name][:, :size] for name in ("count", "level", "own2", "calibration"))
        self.peers.refresh(types, count, level, own2, calibration, baseline.memory(arena, size))
        self.peers.move_together(types, arena["drift_mean"][:, :size])
        if self.memory.rounds % drift.WANDER_ROUNDS == 0:
            drift.wander(arena, types, self.peers.arena["wander2"][: self.peers.arena.size])

    def _hold_against_kin(self) -> None:
        """Agents that are unlike their type from their first sample on become an alarm; see `kin`."""
        types, named, bar = self.memory.types, self.memory.named, self._bar
        least, hold, budget = bar.min_samples, bar.hold_nats, self._budget(self.arena.size)
        shared = np.zeros((2, len(self.table)), dtype=np.bool_)
        for cause in self.shared.causes.values():
            for symptom in cause.symptoms:
                shared[symptom] = True
        settled = np.where(self.turnover.kinds[types], kin.SETTLED_SESSION, kin.SETTLED)
        found = self.kin.unlike(self.arena, types, named, self.peers, settled, least=least, hold_nats=hold, budget=budget, shared=shared)
        for unlike in found:
            kin.convict(self.arena, unlike, self.peers, int(types[unlike.agent]), bar.threshold_nats, self.table.counted[:, :, 0] > 0)

    def _assess(self, now_us: int) -> Assessment:
        size, arena, seats = self.arena.size, self.arena, self.seats
        gap_share, limit, silent, idle = self._silence(now_us)
        threshold = np.float32(self.threshold_nats)
        nats = np.maximum(arena["nats"][:size], gap_share * threshold * (gap_share > judging.HOLD_SHARE))
        if self._limits.any:
            nats = np.where(hard.standing(arena, now_us), np.maximum(nats, threshold), nats)
        roster = self.roster if seats.plain else Seating(self.roster, seats)
        findings, cohorts = self._writer.write(arena, self.shared, self.lexicon, roster, nats, gap_share, limit, now_us)
        for group in self.shared.quiet.groups:
            arena["gap_excused"][list(group.agents)] = True
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

    def _silence(self, now_us: int) -> tuple[Floats, Floats, Mask, Mask]:
        """(share of the longest gap that is allowed, that gap in seconds, silent, idle) of every row; who has left is idle, not silent."""
        arena, size = self.arena, self.arena.size
        awake_us = self.memory.awake_us
        paused_s = silence.pause_of_all(arena, self.memory.fleet, now_us, self.policy, awake_us)
        gap_share, limit = silence.gaps(arena, now_us, self.policy, awake_us, paused_s)
        silent = gap_share >= 1
        ended = np.zeros(0, dtype=np.intp)
        if np.count_nonzero(silent) and self.turnover.kinds.any():
            ended = np.flatnonzero(gap_share > judging.HOLD_SHARE)
            ended = ended[self.turnover.ended(arena, self.memory.types, ended)]
            gap_share[ended], silent[ended] = 0, False
        idle = silence.resting(arena["status"][:size]) & (arena["last_at"][:size] >= 0)
        idle[ended] = True
        return gap_share, limit, silent, idle

    def bands(self) -> Bands:
        """Expected value and the range of about 99 % of healthy samples, for every agent and vital."""
        self._enroll()
        bands = self._writer.bands(self.arena, self.policy.min_samples)
        return Bands(**{name: self.seats.over_roster(getattr(bands, name), np.nan) for name in ("expected", "low", "high")})

    # -- what people and incidents say of agents -----------------------------------------------------------------------

    def wake(self, now_us: int) -> None:
        """Nobody listened until now (a restart, a machine that slept): silence counts from here."""
        self.memory.awake_us = now_us
        self.arena["paused_s"][:] = 0

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
        rows = self._rows(agents)
        self.arena["held"][rows] = True

    def resume(self, agents: Sequence[int]) -> None:
        """Learn from these agents again."""
        rows = self._rows(agents)
        self.arena["held"][rows] = False

    def restart(self, agents: Sequence[int]) -> None:
        """Evidence from zero: what comes now is judged on its own."""
        rows = self._rows(agents)
        standing.reset_evidence(self.arena, rows)
        self.arena["gap_excused"][rows] = True

    def rebase(self, agents: Sequence[int]) -> None:
        """What these agents do now is their new normal: baselines and evidence from zero, identity and facts stay."""
        self.memory.rebase(self._rows(agents))

    def retire(self, agents: Sequence[int]) -> None:
        """Neither silent nor judged until they send again."""
        rows = self._rows(agents)
        standing.reset_evidence(self.arena, rows)
        self.arena["retired"][rows] = True

    def _rows(self, agents: Sequence[int]) -> Index:
        self._enroll()
        return self.seats.rows(agents)

    # -- over a restart ------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> str:
        """What a snapshot must have been made for; see `Memory.layout`."""
        return self.memory.layout

    def snapshot(self) -> bytes:
        """Everything learned and every open judgement, bit for bit."""
        return self.memory.pack()

    def restore(self, content: bytes) -> None:
        """Take over a snapshot; what follows is equal to what would have followed there. Raises InputError for another version's."""
        self.memory.unpack(content)
        self._enroll()
