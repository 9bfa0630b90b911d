"""Holds every event, every answer and every second of work against what must always hold (`invariants`, I1 to I32).

It folds the events itself, one by one, and keeps what the events alone do not say: who spoke, who worked, what was scored,
what was acknowledged. Each breach names its invariant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from immune.clock import US
from immune.core.containing import allowed_containments, automatically_contained
from immune.core.decision import Rules
from immune.core.events import GENESIS, LEVELS, Envelope
from immune.core.fold import fold
from immune.core.probation import CANARY_FACTOR
from immune.core.state import PlanState, RunState
from proving.world import ISOLATED, Patient, World

STATE_ONLY_SLACK_US = 140 * US
"""How long after its deadline a plan may still be undone: the timeouts of its steps, and the grace of their answers."""


class BreachError(AssertionError):
    """Something does not hold that must always hold."""

    def __init__(self, rule: str, what: str) -> None:
        self.rule = rule
        super().__init__(f"{rule}: {what}")


class Alarm(SystemExit):
    """A breach on its way out: a SystemExit, so that no handler of the daemon takes it for a mistake of a connector or a request."""

    def __init__(self, rule: str, what: str) -> None:
        self.breach = BreachError(rule, what)
        super().__init__(str(self.breach))


def hold(condition: object, rule: str, what: str) -> None:
    """Raise the alarm unless the condition is true."""
    if not condition:
        raise Alarm(rule, what)


class Auditor:
    """One history's auditor. Fed by journal, desk and world; checks at once.

    rules     the rules of the engine that runs now
    rank      role by name at this moment
    speaking  names with a request under way
    """

    def __init__(self, world: World, rules: Callable[[], Rules], rank: Callable[[str], str], speaking: Callable[[], set[str]]) -> None:
        self.world, self.rules, self.rank, self.speaking = world, rules, rank, speaking
        self.state = RunState()
        self.kinds: Counter[str] = Counter()
        self.latest_us = 0
        self.lives = 0
        self.faultless = False
        self.escaped = 0
        self.work_while_free = 0
        self.excused_us = 0
        self.answers: dict[str, tuple[int, Any]] = {}
        self.scored_count: Counter[str] = Counter()
        self._last_scored: dict[str, int] = {}
        self._fresh_from: dict[str, int] = {}
        self._canary: Counter[str] = Counter()
        self._granted: dict[str, str] = {}
        self._closed: dict[str, str] = {}
        self._ends: dict[str, str] = {}
        self._undone: dict[str, list[int]] = {}
        self._keys: set[str] = set()
        self._step_starts: list[tuple[int, str, str]] = []
        self._answered: set[str] = set()
        self._excused_before: dict[str, int] = {}
        world.on_work = self.worked

    # -- the journal ---------------------------------------------------------------------------------------------------

    def hear(self, envelopes: Sequence[Envelope]) -> None:
        """Events that are durable from now on."""
        for envelope in envelopes:
            before = self.state
            hold(envelope.seq == before.seq + 1, "I1", f"event {before.seq + 1} is missing")
            hold(envelope.prev_hash == (before.head if before.seq else GENESIS), "I1", "it does not follow the one before it")
            hold(envelope.hash == envelope.computed_hash(), "I1", f"the hash of event {envelope.seq} does not cover its envelope")
            event = envelope.event()
            self.state = fold(before, (envelope,))
            self.kinds[envelope.kind] += 1
            self.latest_us = max(self.latest_us, envelope.at_us)
            check = getattr(self, "_" + envelope.kind, None)
            if check is not None:
                check(envelope, event, before)
            self._bounds(envelope)

    def recovered(self, found: Sequence[Envelope], acknowledged: Sequence[Envelope]) -> None:
        """What a new process found on the disk, and what the dead one had acknowledged."""
        hold(len(found) >= len(acknowledged), "I2", f"{len(acknowledged) - len(found)} acknowledged events are gone")
        for mine, theirs in zip(acknowledged[-50:], found[max(0, len(acknowledged) - 50) : len(acknowledged)], strict=True):
            hold(mine.hash == theirs.hash, "I3", f"event {mine.seq} is not the one that was acknowledged")
        self.hear(found[self.state.seq :])
        hold(self.state.seq == len(found), "I3", "the journal is not what was appended")

    def a_new_life(self) -> None:
        """A process starts: what was judged before counts no more, and canary work may be opened once again."""
        self.lives += 1
        self._last_scored = {}
        for plan in self.state.plans.values():
            if plan.status == "probation":
                self._canary[plan.agent_id] += plan.samples_needed * CANARY_FACTOR
                self._fresh_from[plan.plan_id] = self.scored_count[plan.agent_id]

    def _bounds(self, envelope: Envelope) -> None:
        live = [self.state.plans[key] for key in self.state.open_plans if self.state.plans[key].live]
        hold(len(live) <= self.rules().policy.healing.plans_at_once, "I21", "more plans at once than the policy allows")
        hold(len({plan.agent_id for plan in live}) == len(live), "I21", "two plans on one agent")
        hold(all(self.state.incidents[key].open for key in self.state.open_incidents), "I4", "an open incident is closed")

    def _run_started(self, envelope: Envelope, event: Any, before: RunState) -> None:
        hold(event.epoch > before.epoch, "I28", "a new writer without a higher epoch")

    def _command_refused(self, envelope: Envelope, event: Any, before: RunState) -> None:
        after = replace(self.state, run_id=before.run_id, seq=before.seq, head=before.head, at_us=before.at_us)
        hold(after == before, "I6", "a refused command changed the state")

    def _command_answered(self, envelope: Envelope, event: Any, before: RunState) -> None:
        hold(event.key not in self._answered, "I7", "one command had two effects")
        self._answered.add(event.key)

    def answered(self, key: str, status: int, document: Any, durable_seq: int) -> None:
        """Somebody was told something."""
        hold(status < 500 or status == 503, "I29", f"status {status}: {document}")
        if status >= 500 or status in {401, 429}:
            return  # nothing was done, it may be asked again
        known = self.answers.setdefault(key, (status, document))
        hold(known == (status, document) or "request_id" in document, "I7", f"{key} was answered twice and differently")
        if status < 300 and isinstance(document, dict):
            newest = max((int(one[1:]) for one in document.get("events", ())), default=0)
            hold(newest <= durable_seq, "I29", "it was told before it was durable")

    # -- work and samples ------------------------------------------------------------------------------------------------

    def worked(self, patient: Patient, by_canary: bool) -> None:
        """An agent does a second of work."""
        agent = self.state.agents.get(patient.agent_id)
        if agent is None or not patient.obeys:
            return
        if LEVELS.index(agent.desired) < ISOLATED or LEVELS.index(agent.observed) < ISOLATED:
            self.work_while_free += 1
            return
        self.escaped += not by_canary
        hold(by_canary, "I9", f"{patient.agent_id} worked while it was isolated")
        plan = self.state.plans.get(agent.plan_id)
        if self.faultless:  # hands that fail may also fail to take canary work back; the bound holds all the same
            hold(plan is not None and plan.status == "probation", "I9", f"{patient.agent_id} does canary work outside a probation")
        self._canary[patient.agent_id] -= 1
        hold(self._canary[patient.agent_id] >= 0, "I9", f"{patient.agent_id} does more canary work than its probations allow")

    def let_through(self, agent_id: str, allowed: bool, level: str) -> None:
        """The gate answered."""
        agent = self.state.agents.get(agent_id)
        if allowed and agent is not None and LEVELS.index(agent.desired) >= ISOLATED and LEVELS.index(level) < ISOLATED:
            self.escaped += 1
            raise Alarm("I9", f"the gate let {agent_id} through, and it is to be isolated")

    def scored(self, agent_id: str, at_us: int) -> None:
        """The sentinel scored a sample."""
        hold(at_us > self._last_scored.get(agent_id, -1), "I24", f"a sample of {agent_id} that is not newer than its last was scored")
        self._last_scored[agent_id] = at_us
        self.scored_count[agent_id] += 1

    # -- containment -----------------------------------------------------------------------------------------------------

    def _contained(self, envelope: Envelope, event: Any, before: RunState) -> None:
        if not event.automatic:
            self._by_person(envelope, ("operator", "approver", "admin"), "I13")
            return
        hold(event.evidence and event.policy_version and envelope.actor.startswith("policy:"), "I13", "a containment without evidence or policy")
        if event.target not in automatically_contained(before):  # a stronger level for somebody contained is none more contained
            allowed = allowed_containments(before, self.rules(), envelope.at_us)
            hold(len(automatically_contained(self.state)) <= allowed, "I11", f"more than {allowed} are contained automatically")

    def _budget_overridden(self, envelope: Envelope, event: Any, before: RunState) -> None:
        self._by_person(envelope, ("approver", "admin"), "I11")
        hold(event.reason and event.until_us > envelope.at_us, "I11", "an override without reason or end")

    def _released(self, envelope: Envelope, event: Any, before: RunState) -> None:
        containment = before.containments[event.containment_id]
        hold(containment.active, "I10", "released twice")
        if event.basis == "person":
            self._by_person(envelope, ("operator", "approver", "admin"), "I10")
        elif event.basis == "explained":
            hold(before.incidents[containment.incident_id].outcome == "explained", "I10", "released as explained, and nothing explains it")
        else:
            plan = next((p for p in before.plans.values() if p.incident_id == containment.incident_id and p.outcome == "succeeded"), None)
            hold(plan is not None, "I10", "released without a probation")
            if plan is not None:
                self._fresh_enough(plan)

    def _fresh_enough(self, plan: PlanState) -> None:
        fresh = self.scored_count[plan.agent_id] - self._fresh_from.get(plan.plan_id, 0)
        hold(fresh >= plan.samples_needed >= self.rules().policy.healing.probation_samples, "I10", f"passed on {fresh} fresh samples")

    def _enforcement_observed(self, envelope: Envelope, event: Any, before: RunState) -> None:
        patient = self.world.find(envelope.subject)
        if patient is None or (patient.gated and LEVELS.index(event.after) < ISOLATED):
            return  # nobody needs to ask the gate to be free
        in_force = patient.told if patient.gated else patient.held
        hold(event.after == in_force, "I12", f"shown as {event.after}, and {in_force} is in force")

    def _by_person(self, envelope: Envelope, roles: tuple[str, ...], rule: str) -> None:
        kind, _, name = envelope.actor.partition(":")
        hold(kind == "person" and self.rank(name) in roles, rule, f"{envelope.actor} may not do this")
        hold(name in self.speaking(), rule, f"{envelope.actor} did not say so")

    # -- approvals -------------------------------------------------------------------------------------------------------

    def _approval_requested(self, envelope: Envelope, event: Any, before: RunState) -> None:
        hold(event.request_id not in before.approvals, "I15", "a request with a name that is taken")

    def _approval_granted(self, envelope: Envelope, event: Any, before: RunState) -> None:
        request = before.approvals[event.request_id]
        self._by_person(envelope, ("approver", "admin"), "I14")
        hold(request.status == "pending", "I15", f"granted when it was {request.status}")
        hold(envelope.at_us < request.expires_us, "I14", "granted after it had expired")
        hold(event.plan_hash == request.plan_hash, "I18", "granted for another plan than the one that waits")
        hold(envelope.actor != request.requested_by, "I14", "who asks cannot approve")
        hold(event.request_id not in self._granted and event.request_id not in self._closed, "I15", "decided twice")
        self._granted[event.request_id] = envelope.actor

    def _approval_closed(self, envelope: Envelope, event: Any, before: RunState) -> None:
        hold(event.request_id not in self._closed, "I15", "a request with two ends")
        hold(before.approvals[event.request_id].status in ("pending", "granted"), "I15", "closed after it was used")
        if event.outcome == "rejected":
            self._by_person(envelope, ("approver", "admin"), "I14")
        self._closed[event.request_id] = event.outcome

    # -- plans -----------------------------------------------------------------------------------------------------------

    def _plan_proposed(self, envelope: Envelope, event: Any, before: RunState) -> None:
        hold({step.action for step in event.steps} <= set(self.rules().actions), "I22", "an action that the policy does not allow")
        if event.trigger == "heal_now":
            self._by_person(envelope, ("approver", "admin"), "I14")

    def _plan_started(self, envelope: Envelope, event: Any, before: RunState) -> None:
        plan, policy = before.plans[event.plan_id], self.rules().policy
        self._excused_before[event.plan_id] = self.excused_us
        hold(not plan.started_at_us and not plan.settled, "I15", "started twice, or after its end")
        hold(before.incidents[plan.incident_id].open, "I19", "started for an incident that is closed")
        if plan.needs_approval:
            request = before.approvals.get(event.request_id)
            hold(request is not None and request.status == "granted", "I14", "started without a grant")
            if request is not None:
                hold(request.request_id not in self._closed, "I16", "started after the request was closed")
                hold(request.plan_hash == plan.plan_hash, "I14", "started on the grant of another plan")
                hold(request.not_before_us <= envelope.at_us, "I14", "started within the undo window")
                hold(envelope.at_us < request.expires_us + policy.approvals.undo_window_s * US, "I14", "started after the grant had expired")
                hold(request.decided_by.removeprefix("person:") in self.rules().approvers, "I14", "who granted it lost the role")
        elif plan.trigger != "heal_now":
            hold(plan.severity < policy.approvals.severity_at, "I14", "severe, and nobody was asked")
            hold(all(step.note.reversible or step.note.tier < 3 for step in plan.steps), "I14", "cannot be undone, and nobody was asked")

    def _step_started(self, envelope: Envelope, event: Any, before: RunState) -> None:
        plan = before.plans[event.plan_id]
        hold(plan.status == "running" and plan.steps[event.step].status == "pending", "I20", "a step that was not due")
        hold(all(step.status == "succeeded" for step in plan.steps[: event.step]), "I20", "a step after one that failed")
        hold(plan.steps[event.step].note.action == event.action, "I22", "another action than the plan's")
        hold(event.key not in self._keys, "I20", "a key used twice")
        self._keys.add(event.key)
        policy = self.rules().policy.healing
        since_us = envelope.at_us - round(policy.action_window_s * US)
        self._step_starts.append((envelope.at_us, plan.agent_id, event.action))
        same = sum(at > since_us and (agent, action) == (plan.agent_id, event.action) for at, agent, action in self._step_starts)
        hold(same <= policy.action_starts, "I21", f"{event.action} was started {same} times on {plan.agent_id}")

    def _compensation_started(self, envelope: Envelope, event: Any, before: RunState) -> None:
        plan = before.plans[event.plan_id]
        undone = self._undone.setdefault(event.plan_id, [])
        hold(event.step not in undone, "I20", "undone twice")
        waiting = [n for n, step in enumerate(plan.steps) if step.status in ("succeeded", "unknown") and step.note.reversible]
        hold(waiting and event.step == max(waiting, key=lambda n: plan.steps[n].finished_nth), "I20", "not undone in reverse order")
        undone.append(event.step)

    def _probation_started(self, envelope: Envelope, event: Any, before: RunState) -> None:
        plan = before.plans[event.plan_id]
        hold(all(step.status == "succeeded" for step in plan.steps), "I20", "a probation after a step that failed")
        self._canary[plan.agent_id] += event.dispatches
        self._fresh_from[event.plan_id] = self.scored_count[plan.agent_id]

    def _probation_ended(self, envelope: Envelope, event: Any, before: RunState) -> None:
        plan = before.plans[event.plan_id]
        hold(plan.status == "probation", "I19", "a probation that was not under way ended")
        if event.passed:
            hold(event.samples >= plan.samples_needed, "I10", f"passed on {event.samples} samples")
            self._fresh_enough(plan)

    def _plan_ended(self, envelope: Envelope, event: Any, before: RunState) -> None:
        plan = before.plans[event.plan_id]
        hold(plan.live and event.plan_id not in self._ends, "I19", "a plan with two ends")
        self._ends[event.plan_id] = event.outcome
        left = {n for n, step in enumerate(plan.steps) if step.status in ("succeeded", "unknown") and step.note.reversible}
        hold(event.outcome == "succeeded" or not left, "I20", "something was left standing")
        broken = any(step.status == "uncompensated" for step in plan.steps)
        hold(event.outcome == "escalated" or not broken, "I20", "an undoing failed and nobody was called")
        excused_us = self.excused_us - self._excused_before.get(event.plan_id, 0)
        late_us = envelope.at_us - plan.deadline_us - (1 + 2 * len(plan.steps)) * STATE_ONLY_SLACK_US
        hold(late_us <= excused_us, "I19", f"ended {late_us / US:.0f} s after its deadline")

    # -- the end ---------------------------------------------------------------------------------------------------------

    def last_words(self) -> None:
        """When all has come to rest."""
        state = self.state
        started = {plan.plan_id for plan in state.plans.values() if plan.started_at_us}
        hold(started == set(self._ends), "I19", f"plans without an end: {sorted(started - set(self._ends))}")
        for agent in state.agents.values():
            patient = self.world.find(agent.agent_id)
            if patient is None:
                continue
            held = patient.held
            hold(held == agent.observed == agent.desired, "I12", f"{agent.agent_id} is {held}, shown {agent.observed}, to be {agent.desired}")
        hold(all(one.status not in ("pending", "granted") for one in state.approvals.values()), "I32", "a request that still waits")
        self._effects_once_or_undone()

    def _effects_once_or_undone(self) -> None:
        """What the plans did is in the world once, or was taken back, or a person was called."""
        times = Counter(key for key, _, _ in self.world.effects)
        hold(all(count == 1 for count in times.values()), "I20", f"an effect happened twice: {[k for k, n in times.items() if n > 1]}")
        for plan in self.state.plans.values():
            for step in plan.steps:
                key = f"{self.state.run_id}/{plan.plan_id}/{plan.steps.index(step)}"
                stands = f"{key}/do" in times and f"{key}/undo" not in times
                known = plan.outcome == "succeeded" or not step.note.reversible or step.status in ("uncompensated", "failed")
                hold(not stands or known, "I20", f"{step.note.action} of {plan.plan_id} still stands, and the plan was {plan.outcome}")
