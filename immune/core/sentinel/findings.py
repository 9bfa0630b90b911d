"""From arrays to findings: only for the few agents that stand out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import SILENCE, Bands, Basis, CohortFinding, Direction, Finding, VitalEvidence
from immune.core.policy import DetectionPolicy
from immune.core.sentinel import drift, episodes, facts, hard, looping
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.causes import Cause, stream_nats
from immune.core.sentinel.cohorts import VOTES_FROM
from immune.core.sentinel.eprocess import ROWS
from immune.core.sentinel.facts import FACTS
from immune.core.sentinel.quiet import Group
from immune.core.sentinel.shared_cause import SharedCause
from immune.core.sentinel.standing import HOT_NATS, RECENT
from immune.core.sentinel.streams import SHOWN_AS, StreamTable
from immune.core.vitals import Lexicon, Roster
from immune.core.words import Words

US = 1_000_000
SHOW_SHARE = 0.5
"""Agents from this share of the threshold on are findings."""
SHOW_NATS = 3.0
"""Evidence of a stream from here on is shown."""
SHOW_AT_MOST = 10
DEFER_SAMPLES = 4
"""A fresh alarm waits this long while others move the same way: perhaps it is not this agent."""
DEFER_SERVICE_SAMPLES = 10
"""The same where one more agent shows the same sign of something outside: latency, retries, errors. In its own, small service a hint is enough."""
SMALL_SERVICE = 20
DEFER_US = 60_000_000
AT_ONCE_US = 15_000_000
OWN_BASIS_FROM = 200
TYPE_BASIS_UNTIL = 40
Z_99 = 2.6

Floats = NDArray[np.float32]


class FindingWriter:
    """Writes findings, shared causes and bands out of the arena."""

    def __init__(self, table: StreamTable, policy: DetectionPolicy, threshold_nats: float) -> None:
        self._table = table
        self._policy = policy
        self.threshold_nats = threshold_nats
        self.words = Words()

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
        standing_out = np.flatnonzero((nats >= SHOW_SHARE * self.threshold_nats) & ~arena["retired"][: arena.size])
        shared.quiet.advance(arena, np.flatnonzero(gap_share >= 1), lambda name: shared.codes(arena, name))
        if not len(standing_out) and not shared.causes:
            return (), ()
        moving = self._moving(arena, now_us) if np.count_nonzero(arena["hot_any"][: arena.size]) > 1 else None
        found = [
            self._finding(
                arena,
                shared,
                lexicon,
                roster,
                int(agent),
                float(nats[agent]),
                float(gap_share[agent]),
                float(limit[agent]),
                moving,
                shared.quiet.key_of(int(agent)),
                now_us,
            )
            for agent in standing_out
        ]
        found.sort(key=lambda finding: (-finding.nats, finding.agent))
        cohorts = [self._cohort(arena, cause, lexicon, roster) for cause in shared.causes.values() if cause.told]
        cohorts += [self._quiet_cohort(arena, group, lexicon, roster, gap_share, limit, now_us) for group in shared.quiet.groups]
        cohorts.sort(key=lambda cohort: (-cohort.nats, cohort.key))
        return tuple(found), tuple(cohorts)

    def _finding(
        self,
        arena: Arena,
        shared: SharedCause,
        lexicon: Lexicon,
        roster: Roster,
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
        asked = self._asked(roster, agent, evidence, now_us)
        alarm = nats >= self.threshold_nats + asked
        explained = (shared.expected(arena, agent) or quiet_key) if silent else self._explained(arena, shared, agent, alarm)
        since = int(arena["alarmed"][agent])
        if alarm and not silent and not explained and moving is not None and 0 < since <= DEFER_SERVICE_SAMPLES:
            alarm = not self._others_move(arena, shared, agent, moving, since)
        breach = self._breach(arena, agent, now_us)
        if breach is not None:
            evidence, alarm, explained = (breach, *evidence), True, ""
        onset = min((item.onset_us for item in evidence if item.nats >= 0.5 * evidence[0].nats), default=now_us)
        return Finding(
            agent=agent,
            nats=nats,
            alarm=alarm,
            present=silent or breach is not None or bool(arena["present"][agent]),
            onset_us=onset,
            samples=int(arena["samples"][agent]),
            basis=_basis(int(arena["samples"][agent])),
            evidence=evidence,
            explained_by=explained,
            changed=facts.changes(arena, lexicon, agent, onset, now_us),
        )

    def _asked(self, roster: Roster, agent: int, evidence: tuple[VitalEvidence, ...], now_us: int) -> float:
        """How much more evidence than usual is asked for, in nats, after what people said of this agent's strongest symptom."""
        if not evidence:
            return 0.0
        return self.words.more_nats(roster.agent_id(agent), evidence[0].vital, evidence[0].direction, self._policy, now_us)

    def _breach(self, arena: Arena, agent: int, now_us: int) -> VitalEvidence | None:
        """A hard limit that this agent has passed, as evidence that nothing explains away; the ratio is to its own normal where that is known."""
        at_us = int(arena["breach_at"][agent])
        if at_us < 0 or at_us < now_us - hard.SHOWN_US:
            return None
        kind, value = int(arena["breach_of"][agent]), float(arena["breach_value"][agent])
        name, limit = hard.VITALS[kind], hard.limits_of_policy(self._policy)[kind]
        row = self._table.names.index(name)
        known = kind > 0 and arena["count"][row, agent] >= self._policy.min_samples
        usual = self._table.value(row, float(arena["level"][row, agent])) if known else limit
        return _exact(
            name, "up", self.threshold_nats, observed=value, expected=usual, ratio=min(max(value / max(usual, 1e-9), 1.0), 1e6), onset_us=at_us
        )

    def _evidence(self, arena: Arena, agent: int, gap_share: float, limit_s: float, now_us: int) -> tuple[VitalEvidence, ...]:
        nats = _direction_nats(arena, agent)
        shown: list[VitalEvidence] = []
        for sign, row in zip(*np.nonzero(nats >= SHOW_NATS), strict=True):
            _stronger(shown, self._of_stream(arena, agent, int(sign), int(row), float(nats[sign, row])))
        for item in episodes.evidence(arena, agent, SHOW_NATS):
            _stronger(shown, item)
        shown += self._stuck(arena, agent)
        shown += self._looping(arena, agent)
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
        lately = float(arena["drift_mean"][row, agent]) if self._slow(arena, agent, sign, row) else float(arena["r_recent"][row, agent])
        rest = lately - deviation / count
        steady = counted or count < 2 / RECENT or minutes <= 0 or not math.isfinite(rest)
        return VitalEvidence(
            vital=SHOWN_AS.get(self._table.streams[row].name, self._table.streams[row].name),
            direction="down" if sign else "up",
            nats=nats,
            ratio=min(max(ratio, 1e-6), 1e6),
            observed=observed,
            expected=usual,
            effect=abs(surprise) / count,
            growth=0.0 if steady else rest / (minutes / 2),
            onset_us=onset_us,
            calibration=float(arena["calibration"][row, agent]),
            basis=_basis(int(arena["count"][row, agent])),
        )

    def _slow(self, arena: Arena, agent: int, sign: int, row: int) -> bool:
        """Whether the slow reference carries this evidence: then the mean of a block says how far it is by now, the last samples too little."""
        if row >= self._table.continuous:
            return False
        sr = arena["sr"][sign, :, row, agent]
        return bool(sr[drift.ROWS].sum() > 0.5 * sr.sum())

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

    def _looping(self, arena: Arena, agent: int) -> list[VitalEvidence]:
        nats = math.log(max(float(arena["loop_sr"][agent]), 1e-3))
        if nats < SHOW_NATS:
            return []
        calls = max(float(arena["loop_before"][looping.CALLS, agent]), 1.0)
        return [_exact("tool_calls", "stuck", nats, observed=calls, expected=calls, ratio=1.0, onset_us=int(arena["loop_onset"][agent]))]

    def _silence(self, arena: Arena, agent: int, gap_share: float, limit_s: float, now_us: int) -> VitalEvidence:
        usual_s = max(float(arena["gap_mean"][agent]), 1e-3)
        last = int(arena["last_at"][agent])
        gap_s = (now_us - last) / US
        onset = last + round(usual_s * US)
        return _exact(
            SILENCE, "silent", gap_share * self.threshold_nats, observed=gap_s, expected=usual_s, ratio=min(gap_s / usual_s, 1e6), onset_us=onset
        )

    def _moving(self, arena: Arena, now_us: int) -> NDArray[np.int64]:
        """How many agents that vote lately began to show each symptom, (2, streams); the larger the fleet, the more evidence it takes."""
        hot_agents = np.flatnonzero(arena["hot_any"][: arena.size] & (arena["samples"][: arena.size] >= VOTES_FROM))
        recent = arena["onset"][:, hot_agents] >= now_us - DEFER_US
        strong = np.log(np.maximum(arena["sr"][..., hot_agents].mean(axis=1), 1e-3)) >= HOT_NATS + math.log(max(1.0, arena.size / 20))
        counts: NDArray[np.int64] = (strong & recent).sum(axis=2)
        return counts

    def _others_move(self, arena: Arena, shared: SharedCause, agent: int, moving: NDArray[np.int64], since: int) -> bool:
        """Whether a fresh alarm has to wait: others begin to move the same way, and it may turn out to be shared."""
        nats = _direction_nats(arena, agent)
        sign, row = np.unravel_index(int(nats.argmax()), nats.shape)
        outside = shared.from_outside(int(sign), int(row))
        if moving[sign, row] >= 3:
            return since <= (DEFER_SERVICE_SAMPLES if outside or self._at_once(arena, agent, int(sign), int(row)) else DEFER_SAMPLES)
        if not outside:
            return False
        if moving[sign, row] >= 2:
            return True
        services = shared.codes(arena, "service")
        beside = np.flatnonzero((services == services[agent]) & (services[agent] >= 0) & (arena["samples"][: arena.size] >= VOTES_FROM))
        if len(beside) > SMALL_SERVICE:
            return False
        lately = arena["onset"][row, beside] >= arena["onset"][row, agent] - DEFER_US
        return int(np.count_nonzero(lately & (stream_nats(arena, int(sign), int(row), beside) >= SHOW_NATS))) >= 2

    def _at_once(self, arena: Arena, agent: int, sign: int, row: int) -> bool:
        """Whether at least two others began within seconds of this agent, as after a deploy; who falls sick alone does not."""
        apart = np.abs(arena["onset"][row, : arena.size] - arena["onset"][row, agent])
        return int(np.count_nonzero(arena["hot"][sign, row, : arena.size] & (apart <= AT_ONCE_US))) >= 3

    def _explained(self, arena: Arena, shared: SharedCause, agent: int, alarm: bool) -> str:
        """Key of the cause without which this agent would not stand out, or ""; several may each explain a part of it."""
        if not shared.causes:
            return ""
        left = np.exp(_direction_nats(arena, agent)) * self._table.counted[:, :, 0]
        explains: dict[str, float] = {}
        for key, cause in shared.causes.items():
            for symptom in shared.covered(arena, cause, agent):
                explains[key] = explains.get(key, 0.0) + float(left[symptom])
                left[symptom] = 0
        total = float(left.sum()) + float(looping.together(arena["stuck_sr"][agent], arena["loop_sr"][agent]))
        active = int((arena["count"][:, agent] >= self._policy.min_samples).sum())
        statistic = total / (2 * max(active, 1) + 1)
        if not any(shared.tasks_covered(arena, shared.causes[key], agent) for key in explains):
            statistic += float(episodes.SHARE) * float(arena["ep_statistic"][agent])
        if not explains or math.log(max(statistic, 1e-3)) >= self.threshold_nats:
            return ""
        key = max(explains, key=lambda name: (shared.causes[name].told, explains[name]))
        shared.causes[key].told |= alarm
        return key

    def _cohort(self, arena: Arena, cause: Cause, lexicon: Lexicon, roster: Roster) -> CohortFinding:
        value = _value_of(cause, lexicon, roster)
        agents = sorted(cause.shown or cause.agents)
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
            changed=facts.in_common(arena, lexicon, agents, cause.onset_us, cause.seen_us),
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

    def _quiet_cohort(
        self, arena: Arena, group: Group, lexicon: Lexicon, roster: Roster, gap_share: Floats, limit: Floats, now_us: int
    ) -> CohortFinding:
        agents = tuple(sorted(group.agents))
        parts = [self._silence(arena, agent, float(gap_share[agent]), float(limit[agent]), now_us) for agent in agents[:50]]
        return CohortFinding(
            key=group.key,
            scope="service" if group.field else "fleet",
            field=group.field,
            value=_value_of(group, lexicon, roster),
            nats=min(sum(part.nats for part in parts), 1e4),
            alarm=True,
            present=True,
            onset_us=min(part.onset_us for part in parts),
            members=group.members,
            agents=agents,
            evidence=(max(parts, key=lambda part: part.nats),),
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
                own = np.maximum(np.sqrt(arena["own2"][row, :size]), self._table.floors[row])
                width = np.float32(Z_99) * own
                level = self._in_task(arena, row, level, own)
            known = arena["count"][row, :size] >= known_from
            for target, scaled in ((expected, level), (low, level - width), (high, level + width)):
                target[known, stream.column] = self._table.value_array(row, scaled[known])
        return Bands(expected=expected, low=low, high=high)

    def _in_task(self, arena: Arena, row: int, level: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
        """The level where each agent's task is now: newest value less residual; the plain level where the residual is too large to be kept."""
        size = len(level)
        residual = arena["before"][row, :size]
        here = self._table.scaled_array(row, arena["last_value"][row, :size]) - residual
        usable = (arena["step_before"][:size] >= 0) & np.isfinite(here) & (residual != 0) & (np.abs(residual) < 5 * own)
        return np.where(usable, here, level).astype(np.float32)


def _stronger(shown: list[VitalEvidence], item: VitalEvidence) -> None:
    """Add this evidence; of two of one vital and direction the stronger stays."""
    twin = next((known for known in shown if (known.vital, known.direction) == (item.vital, item.direction)), None)
    if twin is not None and twin.nats < item.nats:
        shown.remove(twin)
    if twin is None or twin.nats < item.nats:
        shown.append(item)


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


def _value_of(cause: Cause | Group, lexicon: Lexicon, roster: Roster) -> str:
    if not cause.field:
        return ""
    if cause.field == "type":
        return roster.types.word(cause.code)
    if cause.field == "service":
        return roster.services.word(cause.code)
    return lexicon.word(cause.code) if cause.field in FACTS else ""
