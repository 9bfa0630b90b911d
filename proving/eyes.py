"""Who looks at what really came through ingest and intake: the real sentinel, or one that sees by simple rules and alarms within seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import numpy as np

from immune.clock import US
from immune.core.evidence import Assessment, Bands, CohortFinding, Direction, Finding, VitalEvidence
from immune.core.policy import DetectionPolicy
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import Roster, SampleBatch, VitalSchema
from immune.core.words import Words
from immune.ports import Desk
from proving.world import NORMAL, World

THRESHOLD_NATS = 12.0
READY_SAMPLES = 3
SILENT_US = 15 * US


class SentinelEyes(Sentinel):
    """The real sentinel. Every sample that it scores is reported to `scored`."""

    def __init__(self, desk: Desk, policy: DetectionPolicy, period_us: int, scored: Callable[[str, int], None]) -> None:
        super().__init__(roster=desk.roster, lexicon=desk.lexicon, schema=desk.schema, policy=policy, period_us=period_us)
        self.scored, self.names = scored, desk.roster

    def observe(self, batch: SampleBatch, now_us: int) -> Assessment:
        """Score this tick's samples."""
        for agent, at_us in zip(batch.agent.tolist(), batch.at_us.tolist(), strict=True):
            self.scored(self.names.identities[agent].agent_id, at_us)
        return super().observe(batch, now_us)


class Symptoms:
    """What is remembered of one agent."""

    __slots__ = ("base", "last_us", "nats", "ratio", "samples", "seen_us", "vital")

    def __init__(self) -> None:
        self.nats, self.samples, self.last_us, self.seen_us = 0.0, 0, 0, 0
        self.ratio, self.base, self.vital = 1.0, 1.0, "output_tokens"

    @property
    def shows(self) -> bool:
        """Whether the newest sample is out of the ordinary."""
        return self.ratio > 1.2 * self.base


class SymptomSentinel:
    """Counts how far the newest samples are from normal. Every sample that it scores is reported to `scored`."""

    threshold_nats = THRESHOLD_NATS

    def __init__(self, world: World, roster: Roster, schema: VitalSchema, scored: Callable[[str, int], None]) -> None:
        self.world, self.roster, self.scored = world, roster, scored
        self.columns = [(name, schema.column(name)) for name in NORMAL]
        self.known: list[Symptoms] = []

    def _all(self) -> list[Symptoms]:
        while len(self.known) < len(self.roster):
            self.known.append(Symptoms())
        return self.known

    def observe(self, batch: SampleBatch, now_us: int) -> Assessment:
        """Score this tick's samples."""
        known = self._all()
        for row in range(len(batch)):
            self._score(known, int(batch.agent[row]), int(batch.at_us[row]), batch.values[row].tolist(), now_us)
        n = len(known)
        cohort = "c-1" if self.world.outage else ""
        findings = [self._finding(index, one, cohort) for index, one in enumerate(known) if one.nats > 0.0]
        ready = np.array([one.samples >= READY_SAMPLES for one in known], dtype=np.bool_)
        return Assessment(
            now_us=now_us,
            threshold_nats=THRESHOLD_NATS,
            nats=np.array([one.nats for one in known], dtype=np.float32),
            samples=np.array([one.samples for one in known], dtype=np.int64),
            ready=ready,
            silent=ready & np.array([now_us - one.seen_us > SILENT_US for one in known], dtype=np.bool_),
            idle=np.zeros(n, dtype=np.bool_),
            findings=tuple(sorted(findings, key=lambda finding: -finding.nats)),
            cohorts=(_cohort(n),) if cohort else (),
        )

    def _score(self, known: list[Symptoms], index: int, at_us: int, values: list[float], now_us: int) -> None:
        one = known[index]
        ratios = {name: values[column] / NORMAL[name] for name, column in self.columns}
        one.vital = max(ratios, key=lambda name: -1.0 if np.isnan(ratios[name]) else ratios[name])
        one.ratio = ratios[one.vital]
        one.samples += 1
        one.last_us, one.seen_us = at_us, now_us
        one.nats = min(60.0, one.nats + 5.0) if one.shows else max(0.0, one.nats - 10.0)
        self.scored(self.roster.identities[index].agent_id, at_us)

    def _finding(self, index: int, one: Symptoms, cohort: str) -> Finding:
        return Finding(
            agent=index,
            nats=one.nats,
            alarm=one.nats >= THRESHOLD_NATS,
            present=one.shows,
            onset_us=one.last_us,
            samples=one.samples,
            basis="own",
            evidence=(_evidence(one.vital, one.nats, max(1.1, one.ratio)),),
            explained_by=cohort,
        )

    def wake(self, now_us: int) -> None:
        """Silence counts from here."""
        for one in self._all():
            one.seen_us = max(one.seen_us, now_us)

    def heed(self, words: Words, now_us: int) -> None:
        """What people say changes nothing of what it sees."""

    def hold(self, agents: Iterable[int]) -> None:
        """It does not learn anyway."""

    def resume(self, agents: Iterable[int]) -> None:
        """It does not learn anyway."""

    def restart(self, agents: Iterable[int]) -> None:
        """Evidence from zero."""
        for index in agents:
            one = self._all()[index]
            one.nats, one.ratio = 0.0, one.base

    def rebase(self, agents: Iterable[int]) -> None:
        """Whatever it does is normal now."""
        for index in agents:
            one = self._all()[index]
            one.base = one.ratio
        self.restart(agents)

    def retire(self, agents: Iterable[int]) -> None:
        """Neither judged nor missed."""
        for index in agents:
            self._all()[index].samples = 0

    def bands(self) -> Bands:
        """No bands."""
        empty = np.zeros((0, 9), dtype=np.float32)
        return Bands(expected=empty, low=empty, high=empty)

    def snapshot(self) -> bytes:
        """What a restart may keep."""
        return json.dumps([[one.nats, one.samples, one.last_us, one.seen_us, one.ratio, one.base, one.vital] for one in self._all()]).encode()

    def restore(self, content: bytes) -> None:
        """Take it over."""
        for one, values in zip(self._all(), json.loads(content), strict=False):
            one.nats, one.samples, one.last_us, one.seen_us, one.ratio, one.base, one.vital = values


def _evidence(vital: str, nats: float, ratio: float) -> VitalEvidence:
    up: Direction = "up"
    return VitalEvidence(
        vital=vital,
        direction=up,
        nats=nats,
        ratio=ratio,
        observed=ratio,
        expected=1.0,
        effect=2.0,
        growth=0.0,
        onset_us=1,
        calibration=1.0,
        basis="own",
    )


def _cohort(n: int) -> CohortFinding:
    return CohortFinding(
        key="c-1",
        scope="fleet",
        field="",
        value="",
        nats=40.0,
        alarm=True,
        present=True,
        onset_us=1,
        members=n,
        agents=tuple(range(n)),
        evidence=(_evidence("output_tokens", 30.0, 4.0),),
    )
