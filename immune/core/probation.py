"""Probation: a bounded number of canary dispatches, judged on fresh samples only."""

from __future__ import annotations

from dataclasses import dataclass

from immune.core import acts
from immune.core import events as ev
from immune.core.bench import US, Bench
from immune.core.decision import AllowCanary, JudgeAfresh
from immune.core.events import LEVELS
from immune.core.state import PlanState

CANARY_FACTOR = 3
"""Canary dispatches for every sample needed: evidence that is neither way asks for more samples, up to this bound."""

CLEAR_SHARE = 0.25
"""A probation passes early only below this share of the threshold; what lies between that and suspicion waits for more samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a probation ended: on how many fresh samples, with how much evidence, and why."""

    passed: bool
    samples: int
    nats: float
    reason: str


@dataclass(slots=True, kw_only=True)
class Probation(Bench):
    """The only way to success."""

    def start(self, plan: PlanState) -> None:
        """Let canary work through and judge afresh from here."""
        policy = self.rules.policy.healing
        needed = policy.probation_samples * (1 + plan.rung)
        dispatches = needed * CANARY_FACTOR
        timeout_us = round(policy.probation_timeout_s * (1 + plan.rung) * US)
        event = acts.ProbationStarted(
            plan_id=plan.plan_id,
            dispatches=dispatches,
            samples_needed=needed,
            deadline_us=min(self.now_us + timeout_us, max(plan.deadline_us, self.now_us)),
        )
        self.docket.add(plan.agent_id, event, correlation=plan.incident_id, cause=ev.event_id(plan.seq))
        self._let_through(plan, dispatches)
        self.mirror.probation_samples[plan.plan_id] = self._samples(self.state.agents[plan.agent_id].index)

    def _samples(self, index: int) -> int:
        return int(self.assessment.samples[index]) if index < len(self.assessment.samples) else 0

    def _let_through(self, plan: PlanState, dispatches: int) -> None:
        agent = self.state.agents[plan.agent_id]
        self.docket.effects.append(JudgeAfresh(agents=(agent.index,)))
        if LEVELS.index(agent.desired) >= LEVELS.index("isolated"):
            self.docket.effects.append(AllowCanary(agent_id=plan.agent_id, dispatches=dispatches))

    def verdict(self, plan: PlanState) -> Verdict | None:
        """What the fresh samples say so far; None while they say too little."""
        index = self.state.agents[plan.agent_id].index
        since = self.mirror.probation_samples.get(plan.plan_id)
        seen = self._samples(index)
        if since is None:
            # the daemon was restarted: judged afresh from here, never on what was before
            self.mirror.probation_samples[plan.plan_id] = seen
            self._let_through(plan, plan.samples_needed * CANARY_FACTOR)
            return None
        fresh, nats = seen - since, float(self.assessment.nats[index])
        finding = next((f for f in self.assessment.findings if f.agent == index), None)
        present = finding is not None and finding.present
        suspect_nats = self.rules.policy.detection.suspect_share * self.assessment.threshold_nats
        if finding is not None and (finding.alarm or (present and finding.nats >= suspect_nats)):
            return Verdict(passed=False, samples=fresh, nats=nats, reason="symptoms on fresh samples")
        if fresh >= plan.samples_needed and not present and self._clear(plan, fresh, index, nats, suspect_nats):
            return Verdict(passed=True, samples=fresh, nats=nats, reason=f"{fresh} fresh samples without symptoms")
        if self.now_us >= plan.probation_until_us:
            reason = f"only {fresh} of {plan.samples_needed} fresh samples in time; missing data never passes"
            return Verdict(passed=False, samples=fresh, nats=nats, reason=reason)
        return None

    def _clear(self, plan: PlanState, fresh: int, index: int, nats: float, suspect_nats: float) -> bool:
        """Whether fresh samples count as healthy; a half cure shows itself between clear and suspected.

        An agent that is not judged yet (a restart without its baseline) has shown nothing, however many samples it sends.
        """
        spent = fresh >= plan.samples_needed * CANARY_FACTOR - 1
        return bool(self.assessment.ready[index]) and nats < (suspect_nats if spent else CLEAR_SHARE * self.assessment.threshold_nats)
