"""The life of an incident: opened when evidence crosses the threshold, updated when the picture changes, closed when
the symptoms have stayed away for the policy's span, or when a shared cause turns out to explain them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from immune.core import events as ev
from immune.core.diagnosis import Differential, Infection, differential
from immune.core.evidence import SILENCE, Assessment, CohortFinding, Finding, VitalEvidence
from immune.core.mirror import Mirror
from immune.core.policy import Policy
from immune.core.severity import Severity, severity
from immune.core.state import IncidentState, RunState

US = 1_000_000
EVIDENCE_KEPT = 6
CHANGE_WORTH_TELLING = 0.5
GROWTH_WORTH_TELLING_NATS = 3.0
FADING = 0.75
"""Below this share of its strongest evidence an incident is on its way out, and says nothing new of what it was."""


class Record(Protocol):
    """Puts an event on the docket and returns its future id."""

    def __call__(self, subject: str, event: ev.Event, *, correlation: str = "", cause: str = "") -> str:
        """See `Docket.add`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Agents (roster indices) that fell sick or recovered in this tick."""

    fell_sick: list[int] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How bad, and what it looks like."""

    severity: Severity
    differential: Differential
    evidence: tuple[VitalEvidence, ...]


@dataclass(slots=True, kw_only=True)
class Examiner:
    """Looks at one tick's findings beside the incidents that are open."""

    state: RunState
    mirror: Mirror
    assessment: Assessment
    policy: Policy
    version: str
    catalogue: tuple[Infection, ...]
    changes: Changes = field(default_factory=Changes)
    opened: int = 0

    def examine(self, record: Record) -> Changes:
        """Record what opens, changes and closes; who fell sick and who recovered."""
        findings = {finding.agent: finding for finding in self.assessment.findings}
        cohorts = {cohort.key: cohort for cohort in self.assessment.cohorts}
        for incident_id in self.state.open_incidents:
            incident = self.state.incidents[incident_id]
            if incident.scope == "agent":
                self._follow_agent(record, incident, findings)
            else:
                self._follow_cohort(record, incident, cohorts.get(incident.cohort_key))
        for cohort in self.assessment.cohorts:
            if cohort.alarm and cohort.present and self.state.open_for_cohort(cohort.key) is None:
                self._open_cohort(record, cohort)
        for finding in self.assessment.findings:
            if finding.alarm and finding.present and not finding.explained_by:
                agent = self.state.agents[self.mirror.agents[finding.agent]]
                blocked = ev.LEVELS.index(agent.desired) >= ev.LEVELS.index("isolated")
                if not agent.incident_id and not blocked:
                    self._open_agent(record, finding)
        return self.changes

    def _severity(self, finding: Finding | CohortFinding) -> Severity:
        return severity(
            finding.evidence,
            agents=len(finding.agents) if isinstance(finding, CohortFinding) else 1,
            fleet=len(self.mirror.agents),
            threshold_nats=self.assessment.threshold_nats,
            weights=self.policy.severity,
        )

    def _judge(self, finding: Finding | CohortFinding) -> Judgement:
        found = differential(finding, self.catalogue, now_us=self.assessment.now_us, threshold_nats=self.assessment.threshold_nats)
        return Judgement(severity=self._severity(finding), differential=found, evidence=finding.evidence[:EVIDENCE_KEPT])

    def _open_agent(self, record: Record, finding: Finding) -> None:
        agent_id = self.mirror.agents[finding.agent]
        judgement = self._judge(finding)
        incident_id, cause = self._open(record, "agent", "", (agent_id,), finding, judgement)
        self.changes.fell_sick.append(finding.agent)
        self._propose(record, incident_id, agent_id, judgement.severity, finding, cause)

    def _open_cohort(self, record: Record, cohort: CohortFinding) -> None:
        names = tuple(self.mirror.agents[index] for index in cohort.agents)
        self._open(record, cohort.scope, in_common(cohort), names, cohort, self._judge(cohort))

    def _open(
        self, record: Record, scope: ev.Scope, cohort: str, agents: tuple[str, ...], finding: Finding | CohortFinding, judgement: Judgement
    ) -> tuple[str, str]:
        self.opened += 1
        incident_id = f"inc-{self.state.ever('incidents') + self.opened:04d}"
        event = ev.IncidentOpened(
            incident_id=incident_id,
            scope=scope,
            cohort=cohort,
            cohort_key=finding.key if isinstance(finding, CohortFinding) else "",
            agents=agents,
            onset_us=finding.onset_us,
            nats=finding.nats,
            threshold_nats=self.assessment.threshold_nats,
            severity=judgement.severity.value,
            severity_why=judgement.severity.why,
            evidence=_notes(judgement.evidence),
            diagnosis=_hypotheses(judgement.differential),
            ruled_out=_ruled_out(judgement.differential),
            changed=_facts(finding),
            policy_version=self.version,
        )
        cause = record(agents[0] if scope == "agent" else cohort or "fleet", event, correlation=incident_id)
        return incident_id, cause

    def _propose(self, record: Record, incident_id: str, agent_id: str, harm: Severity, finding: Finding, cause: str) -> None:
        level, rule = self.policy.level_for(harm.value)
        known = self.state.incidents.get(incident_id)
        if level == "none" or (known and ev.LEVELS.index(level) <= ev.LEVELS.index(known.proposed)):
            return
        event = ev.ContainmentProposed(
            incident_id=incident_id,
            level=level,
            mode=self.policy.mode_for(self.state.agents[agent_id].type),
            rule=rule,
            severity=harm.value,
            evidence=_notes(finding.evidence),
            policy_version=self.version,
        )
        record(agent_id, event, correlation=incident_id, cause=cause)

    def _follow_agent(self, record: Record, incident: IncidentState, findings: dict[int, Finding]) -> None:
        index = self.state.agents[incident.agents[0]].index
        finding = findings.get(index)
        held = self._kept_from_working(incident.agents[0])
        if finding is not None and finding.explained_by and not (self.assessment.silent[index] and (held or not _is_silence(incident))):
            if self._under_treatment(incident.agents[0]) or self._refused_by_a_person(incident.agents[0]):
                return  # a plan comes to its own end first
            self._close(record, incident, "explained", f"part of a shared cause: {self._shared(finding.explained_by)}")
        elif held:
            return  # nothing fresh is to be learned of an agent that is kept from working; least of all from its silence
        elif finding is not None and finding.present:
            harm = self._severity(finding)
            cause = self._update(record, incident, finding, incident.agents, harm)
            self._propose(record, incident.incident_id, incident.agents[0], harm, finding, cause or ev.event_id(incident.opened_seq))
        elif self.state.agents[incident.agents[0]].desired != "none" or self._under_treatment(incident.agents[0]):
            return  # a contained agent gets well by a probation or by a person, not by being kept from working
        elif self._away_us(incident, int(self.mirror.present_us[index])) >= self.policy.detection.close_after_s * US:
            self._close(record, incident, "recovered", self._stayed_away())

    def _under_treatment(self, agent_id: str) -> bool:
        plan = self.state.plans.get(self.state.agents[agent_id].plan_id)
        return plan is not None and plan.live

    def _refused_by_a_person(self, agent_id: str) -> bool:
        """Whether a person rejected its plan: no inference takes a person's word back. Nobody's silence is a word."""
        plan = self.state.plans.get(self.state.agents[agent_id].plan_id)
        request = self.state.approvals.get(plan.request_id) if plan else None
        return request is not None and request.status == "rejected" and self.state.agents[agent_id].desired != "none"

    def _kept_from_working(self, agent_id: str) -> bool:
        agent = self.state.agents[agent_id]
        return ev.LEVELS.index(agent.observed) >= ev.LEVELS.index("isolated") and agent.plan != "probation"

    def _shared(self, key: str) -> str:
        return next((in_common(cohort) for cohort in self.assessment.cohorts if cohort.key == key), key)

    def _follow_cohort(self, record: Record, incident: IncidentState, cohort: CohortFinding | None) -> None:
        if cohort is not None and cohort.present:
            names = {self.mirror.agents[index]: None for index in cohort.agents}
            agents = tuple(dict.fromkeys((*incident.agents, *names)))
            self._update(record, incident, cohort, agents, self._severity(cohort))
        elif self._away_us(incident, self.mirror.cohort_present_us.get(incident.cohort_key, 0)) >= self.policy.detection.close_after_s * US:
            self._close(record, incident, *self._over(incident))

    def _over(self, incident: IncidentState) -> tuple[str, str]:
        """How a shared incident ended: what became its members' normal did not go away."""
        normal = len(set(incident.taken_over) & set(incident.agents))
        if 2 * normal < max(len(incident.agents), 1):
            return "recovered", self._stayed_away()
        return "new_normal", f"it has become normal for {normal} of {len(incident.agents)} members"

    def _away_us(self, incident: IncidentState, present_us: int) -> int:
        return self.assessment.now_us - max(present_us, incident.opened_at_us)

    def _stayed_away(self) -> str:
        return f"no symptoms for {self.policy.detection.close_after_s:g} s"

    def _update(self, record: Record, incident: IncidentState, finding: Finding | CohortFinding, agents: tuple[str, ...], harm: Severity) -> str:
        if finding.nats < FADING * incident.nats and len(agents) == len(incident.agents):
            return ""  # what is left while evidence fades looks like another illness than the one that was there
        # a differential for every open incident in every tick would cost more than all the rest; it is made when one is due
        rose = harm.value >= incident.severity + 1.0
        if not rose and self.assessment.now_us - incident.updated_at_us < self.policy.detection.update_every_s * US:
            return ""
        judgement = self._judge(finding)
        reason = "severity rose" if rose else _what_changed(incident, agents, finding.nats, judgement)
        if not reason:
            return ""
        event = ev.IncidentUpdated(
            incident_id=incident.incident_id,
            agents=agents,
            nats=finding.nats,
            severity=judgement.severity.value,
            severity_why=judgement.severity.why,
            evidence=_notes(judgement.evidence),
            diagnosis=_hypotheses(judgement.differential),
            ruled_out=_ruled_out(judgement.differential),
            reason=reason,
        )
        return record(incident.subject, event, correlation=incident.incident_id, cause=ev.event_id(incident.opened_seq))

    def _close(self, record: Record, incident: IncidentState, outcome: str, reason: str) -> None:
        event = ev.IncidentClosed(incident_id=incident.incident_id, outcome=outcome, reason=reason)  # type: ignore[arg-type]
        record(incident.subject, event, correlation=incident.incident_id, cause=ev.event_id(incident.opened_seq))
        if incident.scope == "agent":
            self.changes.recovered.append(self.state.agents[incident.agents[0]].index)


def _what_changed(incident: IncidentState, agents: tuple[str, ...], nats: float, judgement: Judgement) -> str:
    """Why an update that is due is worth an event; empty when the picture is the same."""
    if judgement.differential.top.kind != incident.top_kind:
        return "another diagnosis leads"
    if len(agents) > len(incident.agents):
        return "more agents"
    if abs(judgement.severity.value - incident.severity) >= CHANGE_WORTH_TELLING:
        return "severity changed"
    return "evidence grew" if nats >= incident.nats + GROWTH_WORTH_TELLING_NATS else ""


def in_common(cohort: CohortFinding) -> str:
    """What the agents of a shared cause have in common, in words: ``model=m-2``, or ``fleet``."""
    return f"{cohort.field}={cohort.value}" if cohort.field else "fleet"


def _is_silence(incident: IncidentState) -> bool:
    """Whether silence is what it is about: that others fell silent too says nothing of what an agent did before."""
    return bool(incident.evidence) and incident.evidence[0].vital == SILENCE


def _facts(finding: Finding | CohortFinding) -> tuple[ev.FactNote, ...]:
    return tuple(ev.FactNote(field=field, before=before, after=after, at_us=at_us) for field, before, after, at_us in finding.changed)


def _notes(evidence: tuple[VitalEvidence, ...]) -> tuple[ev.EvidenceNote, ...]:
    return tuple(
        ev.EvidenceNote(
            vital=item.vital,
            direction=item.direction,
            nats=item.nats,
            ratio=item.ratio,
            observed=item.observed,
            expected=item.expected,
            effect=item.effect,
            growth=item.growth,
            onset_us=item.onset_us,
            calibration=item.calibration,
            basis=item.basis,
        )
        for item in evidence[:EVIDENCE_KEPT]
    )


def _hypotheses(found: Differential) -> tuple[ev.HypothesisNote, ...]:
    return tuple(
        ev.HypothesisNote(kind=h.kind, confidence=h.confidence, evidence_for=h.evidence_for, evidence_against=h.evidence_against)
        for h in found.hypotheses
    )


def _ruled_out(found: Differential) -> tuple[str, ...]:
    return tuple(f"{kind}: {reason}" for kind, reason in found.ruled_out)
