"""From arrays to findings: only for the few agents that stand out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import SILENCE, Bands, Basis, CohortFinding, Direction, Finding, VitalEvidence
from immune.core.policy import DetectionPolicy
from immune.core.sentinel import facts
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.eprocess import ROWS
from immune.core.sentinel.facts import FACTS
from immune.core.sentinel.shared_cause import Cause, SharedCause
from immune.core.sentinel.standing import RECENT
from immune.core.sentinel.streams import SHOWN_AS, StreamTable
from immune.core.vitals import Lexicon, Roster

US = 1_000_000
SHOW_SHARE = 0.5
"""Agents from this share of the threshold on are findings."""
SHOW_NATS = 3.0
"""Evidence of a stream from here on is shown."""
SHOW_AT_MOST = 10
DEFER_SAMPLES = 4
"""A fresh alarm waits this long while others move the same way: perhaps it is not this agent."""
DEFER_SERVICE_SAMPLES = 10
"""The same where one more agent of its service shows the same sign of something outside: latency, retries, errors."""
DEFER_US = 60_000_000
OWN_BASIS_FROM = 200
TYPE_BASIS_UNTIL = 40
STRONGER = 0.7
"""Inside a shared cause, an agent this much further (in logs) than its peers and three of their spreads is sick by itself."""
Z_99 = 2.6

Floats = NDArray[np.float32]


class FindingWriter:
    """Writes findings, shared causes and bands out of the arena."""

    def __init__(self, table: StreamTable, policy: DetectionPolicy, threshold_nats: float) -> None:
        self._table = table
        self._policy = policy
        self._threshold = threshold_nats

    def write(
        self,
        arena: Arena,
        shared: SharedCause,
        lexicon: Lexicon,
        roster: Roster,
        nats: Floats,
        gap_share: Floats,
        limit: Floats,
        now_us: int,
    ) -> tuple[tuple[Finding, ...], tuple[CohortFinding, ...]]:
        """(findings worst first, shared causes worst first)."""
        standing_out = np.flatnonzero((nats >= SHOW_SHARE * self._threshold) & ~arena["retired"][: arena.size])
        if not len(standing_out) and not shared.causes:
            return (), ()
        quiet, quiet_key = self._quiet_together(arena, shared, gap_share, now_us)
        norms = {key: self._norms(arena, cause) for key, cause in shared.causes.items()}
        moving = self._moving(arena, now_us) if np.count_nonzero(arena["hot_any"][: arena.size]) > 1 else None
        found = [
            self._finding(
                arena,
                shared,
                norms,
                lexicon,
                int(agent),
                float(nats[agent]),
                float(gap_share[agent]),
                float(limit[agent]),
                moving,
                quiet_key if int(agent) in quiet else "",
                now_us,
            )
            for agent in standing_out
        ]
        found.sort(key=lambda finding: (-finding.nats, finding.agent))
        cohorts = [self._cohort(arena, cause, lexicon, roster) for cause in shared.causes.values()]
        if quiet:
            cohorts.append(self._quiet_cohort(arena, quiet, quiet_key, gap_share, limit, now_us))
        cohorts.sort(key=lambda cohort: (-cohort.nats, cohort.key))
        return tuple(found), tuple(cohorts)

    def _finding(
        self,
        arena: Arena,
        shared: SharedCause,
        norms: dict[str, dict[tuple[int, int], tuple[float, float]]],
        lexicon: Lexicon,
        agent: int,
        nats: float,
        gap_share: float,
        limit_s: float,
        moving: NDArray[np.int64] | None,
        quiet_key: str,
        now_us: int,
    ) -> Finding:
        evidence = self._evidence(arena, agent, gap_share, limit_s, now_us)
        silent = gap_share >= 1
        alarm = nats >= self._threshold
        explained = quiet_key if silent else self._explained(arena, shared, norms, agent)
        since = int(arena["alarmed"][agent])
        if alarm and not silent and not explained and moving is not None and 0 < since <= DEFER_SERVICE_SAMPLES:
            alarm = not self._others_move(arena, shared, agent, moving, since)
        onset = min((item.onset_us for item in evidence if item.nats >= 0.5 * evidence[0].nats), default=now_us)
        return Finding(
            agent=agent,
            nats=nats,
            alarm=alarm,
            present=silent or bool(arena["present"][agent]),
            onset_us=onset,
            samples=int(arena["samples"][agent]),
            basis=_basis(int(arena["samples"][agent])),
            evidence=evidence,
            explained_by=explained,
            changed=facts.changes(arena, lexicon, agent, onset, now_us),
        )

    def _evidence(self, arena: Arena, agent: int, gap_share: float, limit_s: float, now_us: int) -> tuple[VitalEvidence, ...]:
        nats = _direction_nats(arena, agent)
        shown: list[VitalEvidence] = []
        for sign, row in zip(*np.nonzero(nats >= SHOW_NATS), strict=True):
            item = self._of_stream(arena, agent, int(sign), int(row), float(nats[sign, row]))
            twin = next((known for known in shown if (known.vital, known.direction) == (item.vital, item.direction)), None)
            if twin is not None and twin.nats < item.nats:
                shown.remove(twin)
            if twin is None or twin.nats < item.nats:
                shown.append(item)
        shown += self._stuck(arena, agent)
        if gap_share > SHOW_SHARE:
            shown.append(self._silence(arena, agent, gap_share, limit_s, now_us))
        shown.sort(key=lambda item: (-item.nats, item.vital))
        return tuple(shown[:SHOW_AT_MOST])

    def _of_stream(self, arena: Arena, agent: int, sign: int, row: int, nats: float) -> VitalEvidence:
        count, deviation, expected, surprise = (float(total) for total in arena["sums"][:, row, agent])
        count = max(count, 1.0)
        usual = self._table.value(row, expected / count)
        observed = self._table.value(row, (expected + deviation) / count)
        counted = self._table.streams[row].scale == "count"
        ratio = (observed + 0.5) / (usual + 0.5) if counted else observed / max(usual, 1e-12)
        onset_us = int(arena["onset"][row, agent])
        minutes = (int(arena["last_at"][agent]) - onset_us) / (60 * US)
        drift = float(arena["r_recent"][row, agent]) - deviation / count
        steady = counted or count < 2 / RECENT or minutes <= 0
        return VitalEvidence(
            vital=SHOWN_AS.get(self._table.streams[row].name, self._table.streams[row].name),
            direction="down" if sign else "up",
            nats=nats,
            ratio=min(max(ratio, 1e-6), 1e6),
            observed=observed,
            expected=usual,
            effect=abs(surprise) / count,
            growth=0.0 if steady else drift / (minutes / 2),
            onset_us=onset_us,
            calibration=float(arena["calibration"][row, agent]),
            basis=_basis(int(arena["count"][row, agent])),
        )

    def _stuck(self, arena: Arena, agent: int) -> list[VitalEvidence]:
        nats = math.log(max(float(arena["stuck_sr"][agent]), 1e-3))
        if nats < SHOW_NATS:
            return []
        shown = []
        for row in range(self._table.first_ratio):
            value = float(arena["last_value"][row, agent])
            if value > 0:
                onset = int(arena["stuck_onset"][agent])
                name = self._table.streams[row].name
                shown.append(_exact(name, "stuck", nats, observed=value, expected=value, ratio=1.0, onset_us=onset))
        return shown

    def _silence(self, arena: Arena, agent: int, gap_share: float, limit_s: float, now_us: int) -> VitalEvidence:
        usual_s = max(float(arena["gap_mean"][agent]), 1e-3)
        last = int(arena["last_at"][agent])
        gap_s = (now_us - last) / US
        onset = last + round(usual_s * US)
        return _exact(
            SILENCE, "silent", gap_share * self._threshold, observed=gap_s, expected=usual_s, ratio=min(gap_s / usual_s, 1e6), onset_us=onset
        )

    def _moving(self, arena: Arena, now_us: int) -> NDArray[np.int64]:
        hot_agents = np.flatnonzero(arena["hot_any"][: arena.size])
        recent = arena["onset"][:, hot_agents] >= now_us - DEFER_US
        counts: NDArray[np.int64] = (arena["hot"][:, :, hot_agents] & recent).sum(axis=2)
        return counts

    def _others_move(self, arena: Arena, shared: SharedCause, agent: int, moving: NDArray[np.int64], since: int) -> bool:
        nats = _direction_nats(arena, agent)
        sign, row = np.unravel_index(int(nats.argmax()), nats.shape)
        if moving[sign, row] >= 3:
            return since <= DEFER_SAMPLES
        if moving[sign, row] < 2 or not shared.outside[row]:
            return False
        services = shared.codes(arena, "service")
        beside = arena["hot"][sign, row, : arena.size] & (services == services[agent]) & (services[agent] >= 0)
        return int(np.count_nonzero(beside)) >= 2

    def _norms(self, arena: Arena, cause: Cause) -> dict[tuple[int, int], tuple[float, float]]:
        """Median and spread of the log ratio of a cause's agents, by symptom."""
        agents = np.array(sorted(cause.agents), dtype=np.intp)
        norms = {}
        for sign, stream in cause.symptoms:
            hot = agents[arena["hot"][sign, stream, agents]]
            if len(hot) < 3:
                norms[sign, stream] = (0.0, math.inf)
                continue
            mean = arena["sums"][1, stream, hot] / np.maximum(arena["sums"][0, stream, hot], 1)
            middle = float(np.median(mean))
            norms[sign, stream] = (middle, 1.4826 * float(np.median(np.abs(mean - middle))))
        return norms

    def _explained(self, arena: Arena, shared: SharedCause, norms: dict[str, dict[tuple[int, int], tuple[float, float]]], agent: int) -> str:
        """Key of the cause without which this agent would not stand out, or ""."""
        for cause in shared.causes.values():
            if agent not in cause.agents:
                continue
            left = np.exp(_direction_nats(arena, agent))
            for (sign, stream), (middle, spread) in norms[cause.key].items():
                mean = float(arena["sums"][1, stream, agent]) / max(float(arena["sums"][0, stream, agent]), 1.0)
                beyond = (middle - mean if sign else mean - middle) > max(3 * spread, STRONGER)
                if not beyond:
                    left[sign, stream] = 0
            total = float(left.sum()) + float(arena["stuck_sr"][agent])
            active = int((arena["count"][:, agent] >= self._policy.min_samples).sum())
            if math.log(max(total / (2 * max(active, 1) + 1), 1e-3)) < self._threshold:
                return cause.key
        return ""

    def _cohort(self, arena: Arena, cause: Cause, lexicon: Lexicon, roster: Roster) -> CohortFinding:
        value = _value_of(cause, lexicon, roster)
        agents = sorted(cause.agents)
        evidence = tuple(self._of_cohort(arena, cause, sign, stream) for sign, stream in cause.symptoms)
        return CohortFinding(
            key=cause.key,
            scope="service" if cause.field else "fleet",
            field=cause.field,
            value=value,
            nats=cause.nats,
            alarm=cause.present,
            present=cause.present,
            onset_us=cause.onset_us,
            members=cause.members,
            agents=tuple(agents),
            evidence=tuple(sorted(evidence, key=lambda item: (-item.nats, item.vital))),
        )

    def _of_cohort(self, arena: Arena, cause: Cause, sign: int, stream: int) -> VitalEvidence:
        agents = [agent for agent in sorted(cause.agents) if arena["hot"][sign, stream, agent]][:50] or sorted(cause.agents)[:50]
        parts = [self._of_stream(arena, agent, sign, stream, float(_direction_nats(arena, agent)[sign, stream])) for agent in agents]
        middle = {
            name: float(np.median([getattr(part, name) for part in parts]))
            for name in ("ratio", "observed", "expected", "effect", "growth", "calibration")
        }
        return VitalEvidence(
            vital=parts[0].vital,
            direction=parts[0].direction,
            nats=min(sum(max(part.nats, 0.0) for part in parts), 1e4),
            onset_us=cause.onset_us,
            basis="own",
            **middle,
        )

    def _quiet_together(self, arena: Arena, shared: SharedCause, gap_share: Floats, now_us: int) -> tuple[set[int], str]:
        """Agents that fell silent within the same two minutes, if they are too many to be on their own."""
        silent = np.flatnonzero(gap_share >= 1)
        if len(silent) < 3:
            return set(), ""
        last = arena["last_at"][: arena.size]
        newest = int(last[silent].max())
        together = silent[last[silent] >= newest - DEFER_US]
        expected = (arena["gap_count"][: arena.size] >= 3) & (last >= newest - DEFER_US)
        needed = max(3, math.ceil(0.25 * int(expected.sum())))
        return (set(together.tolist()), f"fleet:silent:{newest // DEFER_US}") if len(together) >= needed else (set(), "")

    def _quiet_cohort(self, arena: Arena, quiet: set[int], key: str, gap_share: Floats, limit: Floats, now_us: int) -> CohortFinding:
        agents = tuple(sorted(quiet))
        parts = [self._silence(arena, agent, float(gap_share[agent]), float(limit[agent]), now_us) for agent in agents[:50]]
        longest = max(parts, key=lambda part: part.nats)
        members = int((arena["gap_count"][: arena.size] >= 3).sum())
        return CohortFinding(
            key=key,
            scope="fleet",
            field="",
            value="",
            nats=min(sum(part.nats for part in parts), 1e4),
            alarm=True,
            present=True,
            onset_us=min(part.onset_us for part in parts),
            members=members,
            agents=agents,
            evidence=(longest,),
        )

    def bands(self, arena: Arena, known_from: int) -> Bands:
        """Band of every agent and vital, (agents, vitals), NaN before `known_from` samples."""
        size, vitals = arena.size, len(self._table.columns)
        expected, low, high = (np.full((size, vitals), np.nan, dtype=np.float32) for _ in range(3))
        for row, stream in enumerate(self._table.streams):
            if stream.column < 0:
                continue
            level = arena["level"][row, :size]
            if stream.scale == "count":
                width = np.float32(Z_99) * np.sqrt(np.maximum(level, 0) + np.float32(0.25))
            else:
                width = np.float32(Z_99) * np.maximum(np.sqrt(arena["own2"][row, :size]), self._table.floors[row])
            known = arena["count"][row, :size] >= known_from
            for target, scaled in ((expected, level), (low, level - width), (high, level + width)):
                target[known, stream.column] = self._table.value_array(row, scaled[known])
        return Bands(expected=expected, low=low, high=high)


def _direction_nats(arena: Arena, agent: int) -> NDArray[np.float64]:
    mean = arena["sr"][..., agent].sum(axis=1, dtype=np.float64) / ROWS
    nats: NDArray[np.float64] = np.log(np.maximum(mean, 1e-3))
    return nats


def _basis(count: int) -> Basis:
    if count < TYPE_BASIS_UNTIL:
        return "type"
    return "own" if count >= OWN_BASIS_FROM else "mixed"


def _exact(vital: str, direction: Direction, nats: float, *, observed: float, expected: float, ratio: float, onset_us: int) -> VitalEvidence:
    return VitalEvidence(
        vital=vital,
        direction=direction,
        nats=nats,
        ratio=ratio,
        observed=observed,
        expected=expected,
        effect=math.sqrt(2 * max(nats, 0.0)),
        growth=0.0,
        onset_us=onset_us,
        calibration=1.0,
        basis="own",
    )


def _value_of(cause: Cause, lexicon: Lexicon, roster: Roster) -> str:
    if not cause.field:
        return ""
    if cause.field == "type":
        return roster.types.word(cause.code)
    if cause.field == "service":
        return roster.services.word(cause.code)
    return lexicon.word(cause.code) if cause.field in FACTS else ""
