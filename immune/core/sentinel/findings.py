"""From arrays to findings: only for the few agents that stand out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import SILENCE, Bands, CohortFinding, Direction, Finding, VitalEvidence
from immune.core.forms import maker
from immune.core.policy import DetectionPolicy
from immune.core.sentinel import episodes, facts, hard, looping
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.cause import Cause, stream_nats
from immune.core.sentinel.cohorts import VOTES_FROM
from immune.core.sentinel.facts import FACTS
from immune.core.sentinel.quiet import Group
from immune.core.sentinel.shared_cause import SharedCause
from immune.core.sentinel.shown import SHOW_AT_MOST, SHOW_NATS, EvidenceWriter, basis_of, direction_nats, says_its_way
from immune.core.sentinel.standing import HOT_NATS
from immune.core.sentinel.streams import StreamTable
from immune.core.vitals import Lexicon, Roster
from immune.core.words import Words

US = 1_000_000
SHOW_SHARE = 0.5
"""Agents from this share of the threshold on are findings."""
DEFER_SAMPLES = 4
"""A fresh alarm waits this long while others move the same way: perhaps it is not this agent."""
DEFER_SERVICE_SAMPLES = 10
"""The same where one more agent shows the same sign of something outside: latency, retries, errors. In its own, small service a hint is enough."""
SMALL_SERVICE = 20
DEFER_US = 60_000_000
AT_ONCE_US = 15_000_000
Z_99 = 2.6

Floats = NDArray[np.float32]
Index = NDArray[np.intp]


class FindingWriter:
    """Writes findings, shared causes and bands out of the arena."""

    def __init__(self, table: StreamTable, policy: DetectionPolicy, threshold_nats: float) -> None:
        self._table = table
        self._shown = EvidenceWriter(table)
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
        gaps = (gap_share[standing_out].tolist(), limit[standing_out].tolist())
        found = self._found(arena, shared, lexicon, roster, standing_out, nats[standing_out].tolist(), gaps, moving, now_us)
        found.sort(key=lambda finding: (-finding.nats, finding.agent))
        cohorts = [self._cohort(arena, cause, lexicon, roster) for cause in shared.causes.values() if cause.told]
        cohorts += [self._quiet_cohort(arena, group, lexicon, roster, gap_share, limit, now_us) for group in shared.quiet.groups]
        cohorts.sort(key=lambda cohort: (-cohort.nats, cohort.key))
        return tuple(found), tuple(cohorts)

    def _found(
        self,
        arena: Arena,
        shared: SharedCause,
        lexicon: Lexicon,
        roster: Roster,
        agents: Index,
        nats: list[float],
        gaps: tuple[list[float], list[float]],
        moving: NDArray[np.int64] | None,
        now_us: int,
    ) -> list[Finding]:
        """Findings of these agents; gaps: of each, its share of the limit and the limit in s."""
        if not len(agents):
            return []
        each, of_streams = agents.tolist(), direction_nats(arena, agents)
        evidence = self._evidence(arena, agents, of_streams, gaps, now_us)
        asked = [self._asked(roster, agent, told, now_us) for agent, told in zip(each, evidence, strict=True)]
        alarms = [one >= self.threshold_nats + more for one, more in zip(nats, asked, strict=True)]
        silent = [share >= 1 for share in gaps[0]]
        explained = self._explained(arena, shared, agents, of_streams, alarms, silent)
        since, present = arena["alarmed"][agents].tolist(), arena["present"][agents].tolist()
        fresh = [0 < samples <= DEFER_SERVICE_SAMPLES for samples in since]
        for place, agent in enumerate(each):
            if alarms[place] and not silent[place] and not explained[place] and moving is not None and fresh[place]:
                alarms[place] = not self._others_move(arena, shared, agent, of_streams[:, :, place], moving, since[place])
        for place in np.flatnonzero((arena["breach_at"][agents] >= 0) & (arena["breach_at"][agents] >= now_us - hard.SHOWN_US)).tolist():
            evidence[place] = (self._breach(arena, each[place]), *evidence[place])
            alarms[place], present[place], explained[place] = True, True, ""
        onsets = [min((item.onset_us for item in told if item.nats >= 0.5 * told[0].nats), default=now_us) for told in evidence]
        changed, samples = facts.changes(arena, lexicon, each, onsets, now_us), arena["samples"][agents].tolist()
        make = maker(Finding)
        return [
            make(
                agent=agent,
                nats=nats[place],
                alarm=alarms[place],
                present=silent[place] or present[place],
                onset_us=onsets[place],
                samples=samples[place],
                basis=basis_of(samples[place]),
                evidence=evidence[place],
                explained_by=explained[place],
                changed=changed[place],
            )
            for place, agent in enumerate(each)
        ]

    def _asked(self, roster: Roster, agent: int, evidence: tuple[VitalEvidence, ...], now_us: int) -> float:
        """How much more evidence than usual is asked for, in nats, after what people said of this agent's strongest symptom."""
        if not evidence:
            return 0.0
        return self.words.more_nats(roster.agent_id(agent), evidence[0].vital, evidence[0].direction, self._policy, now_us)

    def _breach(self, arena: Arena, agent: int) -> VitalEvidence:
        """A hard limit that this agent has passed, as evidence that nothing explains away; the ratio is to its own normal where that is known."""
        kind, value = int(arena["breach_of"][agent]), float(arena["breach_value"][agent])
        name, limit = hard.VITALS[kind], hard.limits_of_policy(self._policy)[kind]
        row = self._table.names.index(name)
        known = kind > 0 and arena["count"][row, agent] >= self._policy.min_samples
        usual = self._table.value(row, float(arena["level"][row, agent])) if known else limit
        return _exact(
            name,
            "up",
            self.threshold_nats,
            observed=value,
            expected=usual,
            ratio=min(max(value / max(usual, 1e-9), 1.0), 1e6),
            onset_us=int(arena["breach_at"][agent]),
        )

    def _evidence(
        self, arena: Arena, agents: Index, nats: NDArray[np.float64], gaps: tuple[list[float], list[float]], now_us: int
    ) -> list[tuple[VitalEvidence, ...]]:
        """What each of these agents shows, strongest first; nats (2, streams, n)."""
        evidence = self._shown.strongest(arena, agents, nats)
        beside = (arena["ep_tasks"][agents] >= episodes.JUDGED_FROM) | (np.array(gaps[0]) > SHOW_SHARE)
        beside |= np.maximum(arena["stuck_sr"][agents], arena["loop_sr"][agents]) > 1
        for place in np.flatnonzero(beside).tolist():
            agent, shown = int(agents[place]), evidence[place]
            for item in episodes.evidence(arena, agent, SHOW_NATS):
                if says_its_way(item):
                    _stronger(shown, item)
            shown += self._stuck(arena, agent)
            shown += self._looping(arena, agent)
            if gaps[0][place] > SHOW_SHARE:
                shown.append(self._silence(arena, agent, gaps[0][place], gaps[1][place], now_us))
            shown.sort(key=lambda item: (-item.nats, item.vital))
        return [tuple(shown[:SHOW_AT_MOST]) for shown in evidence]

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

    def _others_move(self, arena: Arena, shared: SharedCause, agent: int, nats: NDArray[np.float64], moving: NDArray[np.int64], since: int) -> bool:
        """Whether a fresh alarm has to wait: others begin to move the same way, and it may turn out to be shared."""
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

    def _explained(
        self, arena: Arena, shared: SharedCause, agents: Index, nats: NDArray[np.float64], alarms: list[bool], silent: list[bool]
    ) -> list[str]:
        """Of each agent the key of the cause without which it would not stand out, or ""; several may each explain a part of it."""
        keys = self._explained_by_causes(arena, shared, agents, nats) if shared.causes and not all(silent) else [[] for _ in silent]
        explained = []
        for agent, alarm, is_silent, parts in zip(agents.tolist(), alarms, silent, keys, strict=True):
            if is_silent:
                explained.append(shared.expected(arena, agent) or shared.quiet.key_of(agent))
                continue
            key = max(parts, key=lambda part: (shared.causes[part[0]].told, part[1]), default=("", 0.0))[0]
            if key:
                shared.causes[key].told |= alarm
            explained.append(key)
        return explained

    def _explained_by_causes(self, arena: Arena, shared: SharedCause, agents: Index, nats: NDArray[np.float64]) -> list[list[tuple[str, float]]]:
        """Of each agent the causes that explain something, and how much; nothing where the rest would still be an alarm."""
        left = np.exp(np.ascontiguousarray(nats.transpose(2, 0, 1))) * self._table.counted[:, :, 0]
        tasks = np.zeros(len(agents), dtype=np.bool_)
        parts: list[list[tuple[str, float]]] = [[] for _ in range(len(agents))]
        for key, cause in shared.causes.items():
            symptoms, covers = shared.covers(arena, cause, agents)
            some = np.flatnonzero(covers.any(axis=0))
            if not len(some):
                continue
            signs, streams = np.array(symptoms, dtype=np.intp).T
            taken = np.where(covers.T[some], left[some[:, None], signs, streams], 0)
            left[some[:, None], signs, streams] -= taken
            tasks[some] |= shared.tasks_covered(arena, cause, agents[some])
            for place, part in zip(some.tolist(), np.cumsum(taken, axis=1)[:, -1].tolist(), strict=True):
                parts[place].append((key, part))
        total = left.reshape(len(agents), -1).sum(axis=1) + looping.together(arena["stuck_sr"][agents], arena["loop_sr"][agents])
        active = np.count_nonzero(arena["count"][:, agents] >= self._policy.min_samples, axis=0)
        statistic = total / (2 * np.maximum(active, 1) + 1)
        statistic += np.where(tasks, 0.0, float(episodes.SHARE) * arena["ep_statistic"][agents].astype(np.float64))
        return [part if math.log(max(rest, 1e-3)) < self.threshold_nats else [] for part, rest in zip(parts, statistic.tolist(), strict=True)]

    def _cohort(self, arena: Arena, cause: Cause, lexicon: Lexicon, roster: Roster) -> CohortFinding:
        value = _value_of(cause, lexicon, roster)
        agents = sorted(cause.shown or cause.agents)
        evidence = self._shown.of_cause(arena, np.array(sorted(cause.agents), dtype=np.intp), cause.symptoms, cause.onset_us)
        return CohortFinding(
            key=cause.key,
            scope="service" if cause.field else "fleet",
            field=cause.field,
            value=value,
            nats=min(cause.nats, sum(item.nats for item in evidence)),  # fades with what is still shown: then what was said before stands
            alarm=cause.present,
            present=cause.present,
            onset_us=cause.onset_us,
            members=cause.members,
            agents=tuple(agents),
            changed=facts.in_common(arena, lexicon, agents, cause.onset_us, cause.seen_us),
            evidence=tuple(sorted(evidence, key=lambda item: (-item.nats, item.vital))),
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
