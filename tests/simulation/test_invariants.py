"""A few hundred short lives of an engine among flaky hands, sick agents and people who disagree; the invariants after every event."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from immune.actions import ACTIONS
from immune.clock import VirtualClock, run_virtual
from immune.core import acts
from immune.core import events as ev
from immune.core.commands import CommandError, Commands, Principal
from immune.core.containing import allowed_containments, automatically_contained
from immune.core.events import GENESIS, LEVELS
from immune.core.fold import canonical_hash, fold
from immune.core.policy import ApprovalsPolicy, ContainmentPolicy, DetectionPolicy, HealingPolicy, Policy
from immune.core.state import RunState
from immune.infections import CATALOGUE
from immune.stores.memory import MemoryJournal
from tests.doubles import ISOLATED, START_US, US, FlakyConnector, World, engine_over

HISTORIES = 300 if os.environ.get("CI") else 40
STORMY_TICKS = 50
QUIET_WITHIN_TICKS = 400
QUICK_ACTIONS = tuple(replace(action, timeout_s=3.0) for action in ACTIONS)
FEW_KINDS = tuple(kind for kind in CATALOGUE if kind.kind == "token_explosion")
POLICY = Policy(
    mode="act",
    detection=DetectionPolicy(close_after_s=5.0),
    containment=ContainmentPolicy(enforce_within_s=2.0, cap_at_least=2, override_for_s=15.0),
    healing=HealingPolicy(
        settle_s=0.0,
        plan_deadline_s=60.0,
        plans_at_once=2,
        probation_samples=5,
        probation_timeout_s=15.0,
        relapse_window_s=60.0,
        action_window_s=30.0,
        task_deadline_s=10.0,
    ),
    approvals=ApprovalsPolicy(severity_at=3.5, expire_after_s=12.0, undo_window_s=2.0),
)
ANN, BOB = Principal(name="ann", role="approver"), Principal(name="bob", role="approver")
PEOPLE = (ANN, BOB, Principal(name="oli", role="operator"), Principal(name="vic", role="viewer"), Principal(name="a-0", role="agent"))
RANKED = {f"person:{who.name}": who.role for who in PEOPLE if who.role != "agent"}


class Auditor:
    """Holds every event against what must always hold, with a state of its own, folded event by event."""

    def __init__(self, world):
        self.world = world
        self.state = RunState()
        self.rules = None
        self.deciding = ""
        self.faultless = False
        self.canary_allowed = {}
        self.ends, self.undone, self.closed, self.granted = {}, {}, {}, {}
        self.lives = 0
        self.seen_kinds = set()
        world.on_work = self.worked

    def hear(self, envelopes):
        for envelope in envelopes:
            self._chain(envelope)
            event = envelope.event()
            before, self.state = self.state, fold(self.state, [envelope])
            self.seen_kinds.add(envelope.kind)
            check = getattr(self, "_" + envelope.kind, None)
            if check:
                check(envelope, event, before)
            self._bounds(envelope)

    def _chain(self, envelope):
        assert envelope.seq == self.state.seq + 1, "I1"
        assert envelope.prev_hash == (self.state.head if self.state.seq else GENESIS), "I1"
        assert envelope.hash == envelope.computed_hash(), "I1"

    def _bounds(self, envelope):
        live = [self.state.plans[key] for key in self.state.open_plans if self.state.plans[key].live]
        assert len(live) <= POLICY.healing.plans_at_once, "I21"
        assert len({plan.agent_id for plan in live}) == len(live), "I21"
        if envelope.kind == "agent_enrolled":
            return
        for incident_id in self.state.open_incidents:
            assert self.state.incidents[incident_id].open

    # -- containment

    def worked(self, patient, by_canary, now_us):
        agent = self.state.agents.get(patient.agent_id)
        if agent is None or not patient.obeys:
            return
        if LEVELS.index(agent.desired) >= ISOLATED and LEVELS.index(agent.observed) >= ISOLATED:
            assert by_canary, "I9: it worked while it was isolated"
            plan = self.state.plans.get(agent.plan_id)
            if self.faultless:  # hands that fail may also fail to take canary work back; the bound holds all the same
                assert plan is not None, "I9: canary work outside a probation"
                assert plan.status == "probation", "I9: canary work outside a probation"
            self.canary_allowed[patient.agent_id] -= 1
            assert self.canary_allowed[patient.agent_id] >= 0, "I9: more canary work than its probations allow"

    def _contained(self, envelope, event, before):
        if not event.automatic:
            assert RANKED[envelope.actor] in ("operator", "approver"), "I13"
            return
        assert event.evidence, "I13"
        assert event.policy_version, "I13"
        assert envelope.actor.startswith("policy:"), "I13"
        if event.target not in automatically_contained(before):  # a stronger level for somebody contained is none more contained
            assert len(automatically_contained(self.state)) <= allowed_containments(before, self.rules(), envelope.at_us), "I11"

    def _budget_overridden(self, envelope, event, before):
        assert RANKED[envelope.actor] == "approver", "I11"
        assert event.reason, "I11"
        assert event.until_us > envelope.at_us, "I11"

    def _released(self, envelope, event, before):
        containment = before.containments[event.containment_id]
        assert containment.active
        if event.basis == "person":
            assert RANKED[envelope.actor] in ("operator", "approver"), "I10"
        elif event.basis == "explained":
            assert before.incidents[containment.incident_id].outcome == "explained", "I10"
        else:
            plan = next(p for p in before.plans.values() if p.incident_id == containment.incident_id and p.outcome == "succeeded")
            worked_at = self.world.find(plan.agent_id).worked_at
            fresh = [at for at in worked_at if at > plan.probation_us]
            assert len(fresh) >= plan.samples_needed >= POLICY.healing.probation_samples, "I10: released without fresh samples"

    def _enforcement_observed(self, envelope, event, before):
        assert event.after == self.world.find(envelope.subject).held, "I12: shown as something that is not in force"

    # -- approvals

    def _approval_requested(self, envelope, event, before):
        assert event.request_id not in before.approvals, "I15"

    def _approval_granted(self, envelope, event, before):
        request = before.approvals[event.request_id]
        assert self.deciding == envelope.actor, "I14, I16: a grant that nobody gave"
        assert RANKED[envelope.actor] == "approver", "I14, I16: a grant that nobody gave"
        assert request.status == "pending", "I14"
        assert envelope.at_us < request.expires_us, "I14"
        assert event.plan_hash == request.plan_hash, "I18"
        assert envelope.actor != request.requested_by, "I14: who asks cannot approve"
        assert event.request_id not in self.granted, "I15"
        assert event.request_id not in self.closed, "I15"
        self.granted[event.request_id] = envelope.actor

    def _approval_closed(self, envelope, event, before):
        assert event.request_id not in self.closed, "I15: two ends"
        assert before.approvals[event.request_id].status in ("pending", "granted"), "I15: closed after it was used"
        self.closed[event.request_id] = event.outcome

    # -- plans

    def _plan_started(self, envelope, event, before):
        plan = before.plans[event.plan_id]
        assert not plan.started_at_us, "I15, I16"
        assert not plan.settled, "I15, I16"
        assert before.incidents[plan.incident_id].open
        if plan.needs_approval:
            request = before.approvals[event.request_id]
            assert request.status == "granted", "I14, I15"
            assert request.plan_hash == plan.plan_hash, "I14, I15"
            assert request.not_before_us <= envelope.at_us, "I14: within the undo window"
            assert envelope.at_us < request.expires_us + POLICY.approvals.undo_window_s * US, "I14: expired"
            assert request.decided_by.removeprefix("person:") in self.rules().approvers, "I14: the role was lost"
            assert request.request_id not in self.closed, "I16"
        elif plan.trigger != "heal_now":
            assert plan.severity < POLICY.approvals.severity_at, "I14: severe, and nobody was asked"
            assert all(step.note.reversible or step.note.tier < 3 for step in plan.steps), "I14"

    def _plan_proposed(self, envelope, event, before):
        assert {step.action for step in event.steps} <= set(self.rules().actions), "I22"
        if event.trigger == "heal_now":
            assert RANKED[envelope.actor] == "approver", "I14: heal now is a decision by name"

    def _step_started(self, envelope, event, before):
        plan = before.plans[event.plan_id]
        assert plan.status == "running", "I20"
        assert plan.steps[event.step].status == "pending", "I20"
        assert all(step.status == "succeeded" for step in plan.steps[: event.step]), "I20"
        assert plan.steps[event.step].note.action == event.action, "I22"

    def _compensation_started(self, envelope, event, before):
        plan = before.plans[event.plan_id]
        assert event.step not in self.undone.setdefault(event.plan_id, []), "I20: undone twice"
        waiting = [n for n, step in enumerate(plan.steps) if step.status in ("succeeded", "unknown") and step.note.reversible]
        assert event.step == max(waiting, key=lambda n: plan.steps[n].finished_nth), "I20: not in reverse order"
        self.undone[event.plan_id].append(event.step)

    def _probation_started(self, envelope, event, before):
        plan = before.plans[event.plan_id]
        assert all(step.status == "succeeded" for step in plan.steps), "I20"
        self.canary_allowed[plan.agent_id] = self.canary_allowed.get(plan.agent_id, 0) + event.dispatches

    def _probation_ended(self, envelope, event, before):
        plan = before.plans[event.plan_id]
        assert plan.status == "probation"
        if event.passed:
            assert event.samples >= plan.samples_needed, "I10"

    def _plan_ended(self, envelope, event, before):
        plan = before.plans[event.plan_id]
        assert plan.live, "I19"
        assert event.plan_id not in self.ends, "I19"
        self.ends[event.plan_id] = event.outcome
        effective = {n for n, step in enumerate(plan.steps) if step.status in ("succeeded", "unknown")}
        left = {n for n in effective if plan.steps[n].note.reversible}
        assert event.outcome == "succeeded" or not left, "I20: left standing"
        assert (event.outcome == "escalated") >= any(step.status == "uncompensated" for step in plan.steps), "I20: a failed undoing calls a person"
        slack_us = (2 * len(plan.steps) + 1) * 70 * US
        assert envelope.at_us <= plan.deadline_us + slack_us, "I19: long after its deadline"

    def a_new_life(self):
        self.lives += 1
        for plan in self.state.plans.values():
            if plan.status == "probation":  # it is judged afresh after a restart, with as much canary work again
                self.canary_allowed[plan.agent_id] += plan.samples_needed * 3


class AuditedJournal(MemoryJournal):
    """A journal whose every append is audited."""

    auditor = None

    def append(self, run_id, drafts, *, expected_seq, epoch):
        envelopes = super().append(run_id, drafts, expected_seq=expected_seq, epoch=epoch)
        self.auditor.hear(envelopes)
        return envelopes

    def after_a_crash(self):
        """What a new process finds: the lock of the dead one is gone."""
        self.close()
        heir = AuditedJournal()
        heir._shelf, heir.auditor = self._shelf, self.auditor
        return heir


class History:
    """One run: a storm of faults and decisions with restarts in it, then calm."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.world = World(agents=6)
        self.world.enrolled = 5
        self.auditor = Auditor(self.world)
        self.auditor.rules = lambda: self.engine.rules
        self.hands = FlakyConnector(self.world, self.rng, faults=self.rng.choice((0.0, 0.15, 0.4)), cures=self.rng.choice((0.0, 0.5, 1.0)))
        if self.rng.random() < 0.2:
            self.hands.supported -= {"restart_agent"}
        self.auditor.faultless = self.hands.faults == 0.0
        self.policy = replace(POLICY, mode=self.rng.choice(("act", "act", "act", "recommend", "observe")))
        self.busy = self.rng.choice((0.1, 0.4))
        self.journal = AuditedJournal()
        self.journal.auditor = self.auditor
        self.clock = VirtualClock(START_US)
        self.engine = None
        self.deviating = {}

    async def live(self):
        now_us = START_US
        end_us = START_US + STORMY_TICKS * US
        while now_us < end_us:
            until_us = min(end_us, now_us + self.rng.randrange(8, 60) * US)
            await self.one_life(now_us, until_us, self.storm)
            now_us = -(-self.clock.now_us() // US) * US + self.rng.choice((0, 0, 5)) * US
        await self.calm(now_us)

    async def one_life(self, now_us, until_us, on_tick):
        self.begin(now_us)
        self.engine.on_tick = on_tick
        await self.engine.run(self.clock, first_us=now_us, until_us=until_us)
        if self.rng.random() < 0.5:
            await self.engine.finish(until_us, "the end of a chapter")
        else:
            await self.engine.executor.stop()  # what a kill does to calls under way
        assert canonical_hash(self.engine.state) == canonical_hash(self.auditor.state), "I4"
        self.journal = self.journal.after_a_crash()

    def begin(self, now_us):
        self.engine = engine_over(
            self.world,
            journal=self.journal,
            connectors=[self.hands],
            policy=self.policy,
            actions=QUICK_ACTIONS,
            approvers=("ann", "bob"),
            catalogue=FEW_KINDS,
        )
        self.engine.start(now_us)
        self.auditor.a_new_life()

    def storm(self, now_us):
        rng = self.rng
        for patient in self.world.patients:
            if rng.random() < 0.02:
                patient.ratio = rng.choice((1.4, 3.0, 8.0, 30.0)) if patient.ratio == 1.0 else 1.0
                patient.vital = rng.choice(("output_tokens", "errors", "latency_ms"))
            if rng.random() < 0.005:
                patient.obeys = not patient.obeys
        if rng.random() < 0.01:
            self.world.outage = not self.world.outage
        if rng.random() < 0.02:
            self.world.enrolled = len(self.world.patients)
        if rng.random() < 0.02:
            self.engine.rules = replace(self.engine.rules, approvers=frozenset(rng.choice((("ann",), ("ann", "bob"), ()))))
        if rng.random() < self.busy:
            self.somebody_says_something(now_us)
        self.deviations_are_acted_on(now_us)

    def somebody_says_something(self, now_us):
        who = self.rng.choice(PEOPLE)
        engine = self.engine
        commands = Commands(state=engine.state, rules=engine.rules, principal=who, now_us=now_us)
        self.auditor.deciding = who.actor
        before = engine.state
        try:
            engine.submit(self.a_command(commands))
        except CommandError as refused:
            engine.submit(commands.refusal("some command", "some target", refused))
            kept = replace(engine.state, seq=before.seq, head=before.head, at_us=before.at_us)
            assert kept == before, "I6: a refused command changes nothing"
        self.auditor.deciding = ""

    def a_command(self, commands):
        rng, state = self.rng, commands.state
        agent_id = rng.choice([*state.agents, "nobody"])
        incident_id = rng.choice([*state.incidents, "inc-none"])
        request_id = rng.choice([*(state.open_approvals * 3), *state.approvals, "req-none"])
        known = state.approvals.get(request_id)
        plan_hash = known.plan_hash if known and rng.random() < 0.9 else "0" * 64
        answer = rng.choice(
            ("approve",) * 8 + ("reject", "take_back", "contain", "release", "heal", "heal_now", "feedback", "report", "announce", "retire", "maybe")
        )
        match answer:
            case "take_back":
                return commands.take_back(request_id, "")
            case "contain":
                scope, target = rng.choice((("agent", agent_id), ("service", "search"), ("fleet", ""), ("tool", "shell"), ("planet", "earth")))
                return commands.contain(scope, target, rng.choice(("throttled", "isolated", "none")), rng.choice(("looks odd", "")))
            case "release":
                return commands.release(rng.choice((agent_id, "search", "fleet")), "looks well")
            case "heal" | "heal_now":
                return commands.heal(agent_id, now=answer == "heal_now")
            case "feedback":
                return commands.feedback(incident_id, rng.choice(("false_alarm", "new_normal", "cause", "hm")), rng.choice(("", "a bad deploy")), "")
            case "report":
                return commands.report(agent_id, "it is rude")
            case "announce":
                return commands.announce("version=2", commands.now_us + rng.choice((-1, 60)) * US, "deploy")
            case "retire":
                return commands.retire(agent_id, "") if rng.random() < 0.2 else commands.report(agent_id, "")
            case _:
                return commands.decide(request_id, answer, "because", plan_hash)

    def deviations_are_acted_on(self, now_us):
        """I12: whoever deviates for longer than the policy's span has been tried again or is an alarm."""
        for agent in self.engine.state.agents.values():
            orders = len(self.hands.orders.get(agent.agent_id, ()))
            if agent.desired == agent.observed:
                self.deviating.pop(agent.agent_id, None)
                continue
            since_us, first, life = self.deviating.setdefault(agent.agent_id, (now_us, orders, self.auditor.lives))
            if (agent.desired, life) != (agent.desired, self.auditor.lives):
                del self.deviating[agent.agent_id]
            elif now_us - since_us >= 20 * US:
                assert orders > first, "I12: nobody tried"
                del self.deviating[agent.agent_id]

    async def calm(self, now_us):
        """I32: with the faults stopped everything comes to an end by itself, and nobody had to be there."""
        self.hands.faults, self.hands.cures = 0.0, 1.0
        self.world.outage = False
        for patient in self.world.patients:
            patient.obeys = True
        self.begin(now_us)
        quiet_at = []

        def look(at_us):
            state = self.engine.state
            open_ends = state.open_plans or state.open_approvals or any(a.desired != a.observed for a in state.agents.values())
            if not open_ends:
                quiet_at.append(at_us)

        self.engine.on_tick = look
        await self.engine.run(self.clock, first_us=now_us, until_us=now_us + QUIET_WITHIN_TICKS * US, stopped=lambda: bool(quiet_at))
        assert quiet_at, f"I32: {self.engine.state.open_plans} {self.engine.state.open_approvals}"
        await self.engine.finish(quiet_at[0], "done")
        self.last_words()

    def last_words(self):
        state, auditor = self.engine.state, self.auditor
        started = {plan.plan_id for plan in state.plans.values() if plan.started_at_us}
        assert started == set(auditor.ends), "I19: every started plan ends exactly once"
        for agent in state.agents.values():
            assert self.world.find(agent.agent_id).held == agent.observed == agent.desired, "I12"
        assert all(request.status not in ("pending", "granted") for request in state.approvals.values()), "I15"
        whole = fold(RunState(), self.journal.read("r-1"))
        assert canonical_hash(whole) == canonical_hash(state) == canonical_hash(auditor.state), "I4"
        assert self.journal.verify("r-1") == state.seq, "I1"


@pytest.fixture(scope="module")
def kinds_seen():
    return set()


@pytest.mark.parametrize("tenth", range(10))
def test_whatever_happens_the_invariants_hold_and_everything_comes_to_an_end(tenth, kinds_seen):
    for seed in range(tenth, HISTORIES, 10):
        history = History(seed)
        try:
            run_virtual(history.live())
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        kinds_seen |= history.auditor.seen_kinds


def test_the_histories_are_rich_enough_to_mean_something(kinds_seen):
    never = {"fact_changed", "samples_rejected", "child_failed", "telemetry_lost", "command_answered", "memory_inherited", "liveness_changed"}
    never |= {"journal_interrupted"}  # disks that refuse are in tests/unit/test_outage.py
    never |= {"loop_stalled"}  # tests/unit/test_watchdog.py
    never |= {"person_told"}  # tests/unit/test_notifier.py
    never |= {"muted"}  # tests/unit/test_words.py
    assert set(ev.KINDS) - never - kinds_seen == set()
    assert acts.Relapsed.kind in kinds_seen
