"""What acting does, seen through an engine over a scripted world in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from immune.actions import ACTIONS
from immune.core import acts
from immune.core.commands import Commands, Principal
from immune.core.containing import NOT_IN_FORCE
from immune.core.policy import ApprovalsPolicy, ContainmentPolicy, DetectionPolicy, HealingPolicy, Policy
from immune.ports import Answer
from tests.doubles import HOURS_S, US, FlakyConnector, ScriptedSentinel, World, kinds, live

POLICY = Policy(
    mode="act",
    detection=DetectionPolicy(close_after_s=5.0),
    healing=HealingPolicy(settle_s=2.0, probation_samples=5, probation_timeout_s=20.0, plan_deadline_s=120.0),
    approvals=ApprovalsPolicy(severity_at=10.0, irreversible_needs_person=0, expire_after_s=20.0, undo_window_s=2.0),
)
ASKING = replace(POLICY, approvals=replace(POLICY.approvals, severity_at=0.0))
ANN = Principal(name="ann", role="approver")


def sick_world(agents=4, sick=1, ratio=8.0):
    world = World(agents=agents)
    for patient in world.patients[:sick]:
        patient.ratio = ratio
    return world


def decide(decision="approve"):
    def now(engine, now_us):
        request = engine.state.approvals[engine.state.open_approvals[0]]
        commands = Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us)
        engine.submit(commands.decide(request.request_id, decision, "because", request.plan_hash))

    return now


def ends(engine):
    return [event.outcome for _, event in kinds(engine, "plan_ended")]


class Hands(FlakyConnector):
    """Answers of actions by name: an outcome, or ``hang``."""

    def __init__(self, world, **answers):
        super().__init__(world)
        self.answers = answers

    async def perform(self, agent_id, action, *, key, epoch):
        if self.answers.get(action) == "hang":
            self.effects.append((agent_id, action, "do"))
            self.answers[action] = "failed"
            await asyncio.sleep(HOURS_S)
        if action in self.answers:
            return Answer(outcome=self.answers[action], detail="as told")
        return await super().perform(agent_id, action, key=key, epoch=epoch)

    async def compensate(self, agent_id, action, *, key, epoch):
        if self.answers.get("undo"):
            return Answer(outcome=self.answers["undo"], detail="as told")
        return await super().compensate(agent_id, action, key=key, epoch=epoch)


def test_a_sick_agent_is_contained_healed_proved_and_released():
    world = sick_world()
    engine = live(world, ticks=40, policy=POLICY)
    told = [event.kind for subject, event in kinds(engine) if subject == "a-0"]
    story = ["incident_opened", "contained", "enforcement_observed", "plan_started", "step_finished", "probation_started", "plan_ended", "released"]
    assert [kind for kind in told if kind in story] == [*story, "enforcement_observed"]
    assert ends(engine) == ["succeeded"]
    assert engine.state.incidents["inc-0001"].outcome == "healed"
    assert (engine.state.agents["a-0"].health, engine.state.agents["a-0"].observed) == ("healthy", "none")


@pytest.mark.parametrize(("mode", "contained", "asked"), [("observe", 0, set()), ("recommend", 0, {"containment", "plan"}), ("act", 1, set())])
def test_the_mode_says_whether_it_looks_asks_or_acts(mode, contained, asked):
    engine = live(sick_world(), ticks=8, policy=replace(POLICY, mode=mode))
    assert len(kinds(engine, "contained")) == contained
    assert {request.about for request in engine.state.approvals.values()} == asked
    assert len(kinds(engine, "containment_proposed")) == 1


def test_a_persons_yes_to_a_recommended_containment_contains_and_is_used_up():
    def say_yes(engine, now_us):
        request = next(r for r in engine.state.approvals.values() if r.about == "containment")
        commands = Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us)
        engine.submit(commands.decide(request.request_id, "approve", "", request.plan_hash))

    engine = live(sick_world(), ticks=12, policy=replace(POLICY, mode="recommend"), at={5: say_yes})
    assert engine.state.agents["a-0"].observed == "isolated"
    assert [r.status for r in engine.state.approvals.values() if r.about == "containment"] == ["used"]


def test_nothing_starts_before_a_person_said_yes_and_the_undo_window_is_over():
    engine = live(sick_world(), ticks=14, policy=ASKING, at={8: decide()})
    granted = next(e for e in engine.journal.read("r-1") if e.kind == "approval_granted")
    started = next(e for e in engine.journal.read("r-1") if e.kind == "plan_started")
    assert started.at_us - granted.at_us == 2 * US
    assert engine.state.approvals["req-0001"].status == "used"


@pytest.mark.fault("F38")
def test_a_request_nobody_answers_is_denied_and_the_agent_stays_contained():
    engine = live(sick_world(), ticks=60, policy=ASKING)
    assert [r.status for r in engine.state.approvals.values()] == ["expired"]
    assert kinds(engine, "plan_started") == []
    assert (engine.state.agents["a-0"].plan, engine.state.agents["a-0"].observed) == ("rejected", "isolated")


def test_a_rejection_stays_a_rejection_until_a_person_says_heal_now_by_name():
    def heal_now(engine, now_us):
        engine.submit(Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us).heal("a-0", now=True))

    engine = live(sick_world(), ticks=60, policy=ASKING, at={6: decide("reject"), 30: heal_now})
    started = [e for e in engine.journal.read("r-1") if e.kind == "plan_started"]
    assert [e.event().trigger for e in started] == ["heal_now"]
    assert engine.state.plans["plan-0001"].status == "rejected"
    assert ends(engine) == ["succeeded"]


def test_a_grant_that_cannot_be_used_in_time_expires_instead_of_waiting_for_ever():
    world = sick_world(agents=6, sick=3)
    hands = Hands(world, reset_memory="hang")
    policy = replace(ASKING, healing=replace(POLICY.healing, plans_at_once=1))

    def grant_all(engine, now_us):
        for key in engine.state.open_approvals:
            request = engine.state.approvals[key]
            commands = Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us)
            engine.submit(commands.decide(key, "approve", "", request.plan_hash))

    engine = live(world, hands, ticks=40, policy=policy, at={8: grant_all}, actions=ACTIONS)
    statuses = sorted(request.status for request in engine.state.approvals.values())
    assert statuses == ["expired", "expired", "used"]
    assert all(envelope.kind != "approval_granted" or envelope.actor == "person:ann" for envelope in engine.journal.read("r-1"))


@pytest.mark.fault("F41")
def test_an_approver_who_lost_the_role_before_the_start_approved_nothing():
    def lose(engine, now_us):
        engine.rules = replace(engine.rules, approvers=frozenset({"bob"}))

    engine = live(sick_world(), ticks=14, policy=ASKING, at={8: decide(), 9: lose})
    assert kinds(engine, "plan_started") == []
    assert engine.state.approvals["req-0001"].status == "withdrawn"
    assert engine.state.plans["plan-0001"].status == "withdrawn"
    assert engine.state.approvals["req-0002"].status == "pending"


def test_an_incident_that_closes_in_the_tick_its_request_expires_ends_the_request_once():
    policy = replace(ASKING, mode="recommend", approvals=replace(ASKING.approvals, expire_after_s=10.0))

    for tick in (12, 13, 14, 15):
        world = sick_world()
        engine = live(world, ticks=30, policy=policy, at={tick: lambda *_, world=world: setattr(world, "outage", True)})
        closed = [event.request_id for _, event in kinds(engine, "approval_closed")]
        assert len(closed) == len(set(closed)) == len(engine.state.approvals)


def test_no_more_are_contained_automatically_than_the_budget_allows_and_the_brake_asks_once():
    policy = replace(POLICY, containment=ContainmentPolicy(cap_at_least=2), healing=replace(POLICY.healing, settle_s=600.0))
    engine = live(sick_world(agents=8, sick=5), ticks=15, policy=policy)
    assert len(kinds(engine, "contained")) == 2
    assert [r.about for r in engine.state.approvals.values()] == ["brake"]
    assert len(kinds(engine, "containment_deferred")) == 1
    lifted = live(sick_world(agents=8, sick=5), ticks=15, policy=policy, at={8: decide()})
    assert len(kinds(lifted, "contained")) == 5
    assert [event.allowed for _, event in kinds(lifted, "budget_overridden")] == [8]


def test_an_outage_that_explains_an_incident_lets_its_containment_go():
    world = sick_world()

    def outage(engine, now_us):
        world.outage = True

    engine = live(world, ticks=10, policy=replace(POLICY, healing=replace(POLICY.healing, settle_s=60.0)), at={5: outage})
    assert engine.state.incidents["inc-0001"].outcome == "explained"
    assert [event.basis for _, event in kinds(engine, "released")] == ["explained"]


@pytest.mark.parametrize(("quiet", "outcome"), [(False, "explained"), (True, "open")])
def test_that_all_fall_silent_explains_no_incident_that_was_about_something_else(quiet, outcome):
    world = sick_world()

    def outage(engine, now_us):
        world.outage, world.quiet = True, quiet

    engine = live(world, ticks=10, policy=replace(POLICY, mode="observe"), at={5: outage})
    assert engine.state.incidents["inc-0001"].outcome == outcome


def test_an_outage_does_not_release_whom_a_person_refused_to_heal():
    world = sick_world()

    def outage(engine, now_us):
        world.outage = True

    engine = live(world, ticks=60, policy=ASKING, at={6: decide("reject"), 10: outage})
    assert kinds(engine, "released") == []
    assert (engine.state.agents["a-0"].plan, engine.state.agents["a-0"].observed) == ("rejected", "isolated")
    assert engine.state.incidents["inc-0001"].open


def test_a_plan_under_way_comes_to_its_own_end_before_an_outage_explains_the_incident():
    world = sick_world()
    hands = Hands(world, reset_memory="hang")

    def outage(engine, now_us):
        world.outage = True

    engine = live(world, hands, ticks=60, policy=POLICY, at={7: outage})
    order = [event.kind for _, event in kinds(engine, "plan_started", "plan_ended", "incident_closed")]
    assert order == ["plan_started", "plan_ended", "incident_closed"]


def test_a_persons_word_on_the_cause_stops_neither_containment_nor_healing():
    def name_the_cause(engine, now_us):
        commands = Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us)
        engine.submit(commands.feedback("inc-0001", "cause", "a bad deploy", ""))

    world = sick_world()
    engine = live(world, ticks=40, policy=POLICY, at={3: name_the_cause})
    assert engine.state.incidents["inc-0001"].feedback == (("person:ann", "cause: a bad deploy"),)
    assert ends(engine) == ["succeeded"]


@pytest.mark.fault("F50")
def test_a_step_of_unknown_outcome_is_undone_and_the_next_rung_is_tried():
    world = sick_world()
    hands = Hands(world, reset_memory="unknown")
    engine = live(world, hands, ticks=60, policy=POLICY)
    assert ends(engine) == ["compensated", "succeeded"]
    assert ("a-0", "reset_memory", "undo") in hands.effects
    assert [event.rung for _, event in kinds(engine, "plan_proposed")] == [0, 1]
    assert [event.samples_needed for _, event in kinds(engine, "probation_started")] == [10]


@pytest.mark.fault("F51")
def test_a_step_that_says_it_failed_is_not_undone():
    world = sick_world()
    hands = Hands(world, reset_memory="failed")
    engine = live(world, hands, ticks=60, policy=POLICY)
    assert ends(engine)[0] == "compensated"
    assert ("a-0", "reset_memory", "undo") not in hands.effects


@pytest.mark.fault("F51")
def test_an_undoing_that_fails_calls_a_person():
    world = sick_world()
    engine = live(world, Hands(world, reset_memory="unknown", undo="failed"), ticks=60, policy=POLICY)
    assert ends(engine) == ["escalated"]
    assert engine.state.agents["a-0"].plan == "exhausted"
    assert engine.state.agents["a-0"].observed == "isolated"


def test_what_no_connector_can_do_becomes_a_persons_task_and_never_a_success():
    world = sick_world()
    engine = live(world, Hands(world, reset_memory="unsupported"), ticks=60, policy=POLICY)
    assert ends(engine) == ["escalated"]
    (task,) = engine.state.tasks.values()
    assert (task.agent_id, task.action) == ("a-0", "reset_memory")
    assert kinds(engine, "released") == []


class Helpless(FlakyConnector):
    """Can hold agents, and cannot heal any."""

    def can(self, agent_id, action):
        return False


def test_without_hands_that_heal_nothing_is_planned_and_a_person_is_reminded_once():
    world = sick_world()
    policy = replace(POLICY, healing=replace(POLICY.healing, task_deadline_s=20.0))
    engine = live(world, Helpless(world), ticks=60, policy=policy)
    assert kinds(engine, "plan_proposed", "plan_started") == []
    (task,) = engine.state.tasks.values()
    assert (task.agent_id, task.status, engine.state.agents["a-0"].plan) == ("a-0", "overdue", "exhausted")
    assert len(kinds(engine, "task_overdue")) == 1
    assert engine.state.agents["a-0"].observed == "isolated"


def test_a_cure_that_does_not_cure_is_found_out_on_fresh_samples_and_nobody_is_released():
    world = sick_world()
    hands = FlakyConnector(world, cures=0.0)
    engine = live(world, hands, ticks=200, policy=POLICY)
    assert set(ends(engine)) == {"compensated"}
    assert len(ends(engine)) == 4
    assert engine.state.agents["a-0"].plan == "exhausted"
    assert kinds(engine, "released") == []


def test_missing_samples_never_pass_a_probation():
    world = sick_world()

    class Mute(FlakyConnector):
        async def allow(self, agent_id, dispatches, *, epoch):
            return Answer(outcome="succeeded")  # it says so, and lets nothing through

    engine = live(world, Mute(world), ticks=60, policy=POLICY)
    _, ended = kinds(engine, "probation_ended")[0]
    assert (ended.passed, ended.samples) == (False, 0)
    assert "missing data never passes" in ended.reason


def test_samples_of_an_agent_that_is_not_judged_yet_prove_nothing():
    world = sick_world()
    sentinel = ScriptedSentinel(world)
    engine = live(world, ticks=60, policy=POLICY, sentinel=sentinel, at={4: lambda *_: setattr(sentinel, "ready", False)})
    assert not any(event.passed for _, event in kinds(engine, "probation_ended"))
    assert kinds(engine, "probation_ended")


def test_a_probation_ends_by_the_plans_deadline():
    policy = replace(POLICY, healing=replace(POLICY.healing, plan_deadline_s=12.0, probation_timeout_s=600.0))
    world = sick_world()

    class Mute(FlakyConnector):
        async def allow(self, agent_id, dispatches, *, epoch):
            return Answer(outcome="succeeded")

    engine = live(world, Mute(world), ticks=30, policy=policy)
    plan = engine.state.plans["plan-0001"]
    ended = next(e for e in engine.journal.read("r-1") if e.kind == "plan_ended")
    assert ended.at_us <= plan.deadline_us + 2 * US


@pytest.mark.fault("F49")
def test_a_relapse_takes_the_success_back_and_goes_to_the_next_rung():
    world = sick_world()

    def relapse(engine, now_us):
        world.patients[0].ratio = 8.0

    engine = live(world, ticks=120, policy=POLICY, at={40: relapse})
    assert len(kinds(engine, "relapsed")) == 1
    assert [event.steps[0].action for _, event in kinds(engine, "plan_proposed")] == ["reset_memory", "restart_agent"]
    assert ends(engine) == ["succeeded", "succeeded"]


def test_whoever_disobeys_is_an_alarm_is_tried_again_and_never_shown_as_contained():
    world = sick_world()
    world.patients[0].obeys = False
    hands = FlakyConnector(world, supported=frozenset())
    engine = live(world, hands, ticks=40, policy=POLICY)
    (failed,) = kinds(engine, "enforcement_failed")
    assert failed[0] == "a-0"
    assert failed[1].error == NOT_IN_FORCE, "the order was taken, and nothing came of it"
    assert len(hands.orders["a-0"]) >= 5
    assert engine.state.agents["a-0"].word != "isolated"
    assert kinds(engine, "enforcement_observed") == []


@pytest.mark.parametrize("at_tick", range(25, 31))  # whenever the old order happens to be due again
def test_an_old_order_that_is_tried_again_never_comes_after_the_one_of_this_tick(at_tick):
    class NeverLetsGo(FlakyConnector):
        async def contain(self, agent_id, level, *, epoch):
            self.orders.setdefault(agent_id, []).append(level)
            if level != "none":
                self._set(agent_id, level)
            return Answer(outcome="failed", detail="stuck")

    world = sick_world()
    hands = NeverLetsGo(world)

    def relapse(engine, now_us):
        world.patients[0].nats, world.patients[0].shows, world.patients[0].ratio = 60.0, True, 8.0

    engine = live(world, hands, ticks=at_tick + 4, policy=POLICY, at={at_tick: relapse})
    contained = [event for subject, event in kinds(engine, "contained") if subject == "a-0"]
    assert len(contained) == 2, "it was let go, though nobody saw it, and contained once more"
    let_go = hands.orders["a-0"].index("none")
    assert "none" not in hands.orders["a-0"][hands.orders["a-0"].index("isolated", let_go) :]


def test_the_alarm_says_what_came_back_of_the_order():
    class Unreachable(FlakyConnector):
        async def contain(self, agent_id, level, *, epoch):
            return Answer(outcome="failed", detail="cannot connect: connection refused")

    world = sick_world()
    world.patients[0].obeys = False
    ((_, alarm),) = kinds(live(world, Unreachable(world, supported=frozenset()), ticks=40, policy=POLICY), "enforcement_failed")
    assert alarm.error == "cannot connect: connection refused"


def test_healing_waits_until_the_block_holds_or_is_known_not_to():
    world = sick_world()
    world.patients[0].obeys = False
    engine = live(world, ticks=30, policy=POLICY)
    order = [event.kind for _, event in kinds(engine, "enforcement_failed", "plan_started")]
    assert order[:2] == ["enforcement_failed", "plan_started"]


def test_only_so_many_plans_run_at_once_and_all_get_their_turn():
    policy = replace(POLICY, containment=ContainmentPolicy(cap_at_least=9), healing=replace(POLICY.healing, plans_at_once=2))
    engine = live(sick_world(agents=6, sick=5), ticks=120, policy=policy)
    running = most = 0
    for _, event in kinds(engine, "plan_started", "plan_ended"):
        running += 1 if isinstance(event, acts.PlanStarted) else -1
        most = max(most, running)
    assert most == 2
    assert ends(engine) == ["succeeded"] * 5


@pytest.mark.fault("F52")
def test_an_answer_that_was_lost_on_its_way_is_given_up_as_unknown():
    world = sick_world()
    hands = FlakyConnector(world)

    def lose_answers(engine, now_us):
        engine.executor.report = lambda effect, answer: None

    def listen_again(engine, now_us):
        engine.executor.report = engine._step_answered

    engine = live(world, hands, ticks=200, policy=POLICY, at={0: lose_answers, 50: listen_again})
    first = kinds(engine, "step_finished")[0][1]
    assert (first.outcome, first.detail) == ("unknown", "no answer was recorded")
    assert ends(engine)[0] == "compensated"


@pytest.mark.fault("F39")
def test_a_grant_for_another_plan_starts_nothing():
    def swap_the_plan(engine, now_us):
        request = replace(engine.state.approvals["req-0001"], plan_hash="0" * 64)
        engine.state = replace(engine.state, approvals={"req-0001": request})

    engine = live(sick_world(), ticks=20, policy=ASKING, at={8: decide(), 9: swap_the_plan})
    assert kinds(engine, "plan_started") == []


def test_an_agent_that_was_retired_while_contained_is_not_let_out_by_that():
    def retire(engine, now_us):
        engine.submit(Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us).retire("a-0", "end of life"))

    engine = live(sick_world(), ticks=20, policy=ASKING, at={8: retire})
    assert engine.state.incidents["inc-0001"].outcome == "retired"
    assert kinds(engine, "released") == []
    assert engine.state.agents["a-0"].observed == "isolated"
