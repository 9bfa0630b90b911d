from __future__ import annotations

from dataclasses import replace

import pytest

from immune.core.commands import CommandError, Commands, Principal
from immune.core.decision import Enforce, Rebase, ResumeLearning, Retire
from immune.core.events import seal
from immune.core.fold import fold
from immune.core.policy import ApprovalsPolicy, HealingPolicy, Policy
from tests.doubles import START_US, US, World, live

POLICY = Policy(
    mode="act",
    healing=HealingPolicy(settle_s=2.0, probation_samples=5),
    approvals=ApprovalsPolicy(severity_at=0.0, expire_after_s=20.0, undo_window_s=5.0),
)
MILD = replace(POLICY, approvals=replace(POLICY.approvals, severity_at=10.0))
NOW_US = START_US + 12 * US


def engine_with(*, policy=POLICY, sick=1, ticks=12):
    world = World(agents=4)
    for patient in world.patients[:sick]:
        patient.ratio = 8.0
    return live(world, ticks=ticks, policy=policy)


@pytest.fixture(scope="module")
def asked():
    """a-0 is isolated, and its plan waits for a person; a-1 is well."""
    return engine_with().state, engine_with().rules


def speak(role="approver", name="ann", *, at_us=NOW_US):
    def commands(asked):
        state, rules = asked
        return Commands(state=state, rules=rules, principal=Principal(name=name, role=role), now_us=at_us)

    return commands


def after(commands, decision, at_us=None):
    """The state once a decision is durable, as commands of somebody at that time."""
    envelopes = seal("r-1", decision.drafts, commands.state.seq, commands.state.head)
    return replace(commands, state=fold(commands.state, envelopes), now_us=at_us or commands.now_us)


def events(decision):
    return [draft.event.kind for draft in decision.drafts]


def refused(call, status):
    with pytest.raises(CommandError) as error:
        call()
    assert error.value.status == status, str(error.value)
    assert error.value.way_out
    assert error.value.exit_code == 4
    return error.value


def yes(commands, request_id="req-0001"):
    return commands.decide(request_id, "approve", "because", commands.state.approvals[request_id].plan_hash)


# -- approvals


@pytest.mark.parametrize("role", ["viewer", "agent", "operator"])
def test_only_an_approver_decides(asked, role):
    commands = speak(role)(asked)
    refused(lambda: yes(commands), 403)
    refused(lambda: commands.take_back("req-0001", ""), 403)


def test_an_approver_and_an_admin_may_decide_and_the_journal_names_them(asked):
    for role in ("approver", "admin"):
        (draft,) = yes(speak(role)(asked)).drafts
        assert draft.actor == "person:ann"
        assert draft.event.not_before_us == NOW_US + 5 * US


def test_what_is_neither_yes_nor_no_is_bad_input(asked):
    refused(lambda: speak()(asked).decide("req-0001", "maybe", "", "h"), 400)


def test_an_unknown_request_is_not_found(asked):
    refused(lambda: speak()(asked).decide("req-9", "approve", "", "h"), 404)
    refused(lambda: speak()(asked).take_back("req-9", ""), 404)


@pytest.mark.fault("F39")
def test_another_plan_than_the_one_that_was_seen_is_refused(asked):
    refused(lambda: speak()(asked).decide("req-0001", "approve", "", "0" * 64), 412)


def test_a_rejection_needs_a_reason(asked):
    commands = speak()(asked)
    plan_hash = commands.state.approvals["req-0001"].plan_hash
    refused(lambda: commands.decide("req-0001", "reject", " ", plan_hash), 400)
    assert events(commands.decide("req-0001", "reject", "too drastic", plan_hash)) == ["approval_closed"]


@pytest.mark.fault("F38")
def test_the_moment_it_expires_it_is_gone(asked):
    expires_us = asked[0].approvals["req-0001"].expires_us
    assert yes(speak(at_us=expires_us - 1)(asked))
    refused(lambda: yes(speak(at_us=expires_us)(asked)), 410)


@pytest.mark.fault("F39")
def test_a_request_is_decided_once_and_the_second_is_told_by_whom_and_when(asked):
    for decision in ("approve", "reject"):
        commands = speak()(asked)
        plan_hash = commands.state.approvals["req-0001"].plan_hash
        later = after(commands, commands.decide("req-0001", decision, "because", plan_hash))
        error = refused(lambda later=later: yes(replace(later, principal=Principal(name="bob", role="approver"))), 409)
        assert "person:ann" in error.what
        assert "2026-01-01" in error.what


@pytest.mark.fault("F40")
def test_who_asks_for_a_plan_cannot_approve_it():
    mild = engine_with(policy=replace(MILD, healing=replace(MILD.healing, settle_s=600.0)))
    ann = Commands(state=mild.state, rules=mild.rules, principal=Principal(name="ann", role="approver"), now_us=NOW_US)
    ann = after(ann, ann.heal("a-0", now=False))
    assert ann.state.approvals["req-0001"].requested_by == "person:ann"
    refused(lambda: yes(ann), 403)
    assert yes(replace(ann, principal=Principal(name="bob", role="approver")))


def test_a_grant_can_be_taken_back_until_it_is_used(asked):
    commands = speak()(asked)
    refused(lambda: commands.take_back("req-0001", ""), 409)
    granted = after(commands, yes(commands))
    taken = after(granted, granted.take_back("req-0001", "wait"))
    assert taken.state.approvals["req-0001"].status == "rejected"
    assert taken.state.plans["plan-0001"].status == "rejected"
    refused(lambda: taken.take_back("req-0001", ""), 409)


# -- containment


@pytest.mark.parametrize("role", ["viewer", "agent"])
def test_containing_releasing_healing_and_the_like_need_an_operator(asked, role):
    commands = speak(role)(asked)
    for call in (
        lambda: commands.contain("agent", "a-1", "isolated", "odd"),
        lambda: commands.release("a-0", "fine"),
        lambda: commands.heal("a-0", now=False),
        lambda: commands.feedback("inc-0001", "cause", "x", ""),
        lambda: commands.announce("version=2", NOW_US + US, ""),
        lambda: commands.retire("a-1", ""),
    ):
        refused(call, 403)


def test_an_operator_may_not_heal_now(asked):
    refused(lambda: speak("operator")(asked).heal("a-0", now=True), 403)


@pytest.mark.parametrize(
    ("scope", "target", "level", "reason", "status"),
    [
        ("planet", "earth", "isolated", "odd", 400),
        ("agent", "a-1", "none", "odd", 400),
        ("agent", "a-1", "frozen", "odd", 400),
        ("agent", "a-1", "isolated", "  ", 400),
        ("tool", "", "isolated", "odd", 400),
        ("agent", "nobody", "isolated", "odd", 404),
        ("service", "nothing", "isolated", "odd", 404),
    ],
)
def test_a_containment_that_means_nothing_is_refused(asked, scope, target, level, reason, status):
    refused(lambda: speak("operator")(asked).contain(scope, target, level, reason), status)


def test_a_containment_reaches_everybody_it_covers_and_never_lowers_a_level(asked):
    commands = speak("operator")(asked)
    decision = commands.contain("service", "search", "throttled", "odd")
    assert {(e.agent_id, e.level) for e in decision.effects if isinstance(e, Enforce)} == {("a-0", "isolated"), ("a-2", "throttled")}
    assert decision.drafts[0].event.automatic is False


@pytest.mark.parametrize("target", ["", "fleet", "whatever"])
def test_one_event_stops_the_fleet_and_it_is_released_by_that_name(asked, target):
    commands = speak("operator")(asked)
    decision = commands.contain("fleet", target, "isolated", "stop everything")
    assert events(decision) == ["contained"]
    stopped = after(commands, decision)
    assert {agent.desired for agent in stopped.state.agents.values()} == {"isolated"}
    gone = stopped.release("fleet", "go on")
    assert {(e.agent_id, e.level) for e in gone.effects if isinstance(e, Enforce)} >= {("a-0", "isolated"), ("a-1", "none")}
    assert {agent.agent_id for agent in after(stopped, gone).state.agents.values() if agent.desired != "none"} == {"a-0"}


def test_a_release_ends_all_of_an_agents_containments_and_closes_its_incident_by_name(asked):
    commands = speak("operator")(asked)
    decision = commands.release("a-0", "looked at it")
    assert events(decision)[:2] == ["released", "incident_closed"]
    assert {draft.actor for draft in decision.drafts} == {"person:ann"}
    assert after(commands, decision).state.agents["a-0"].desired == "none"
    assert any(isinstance(effect, ResumeLearning) for effect in decision.effects)


def test_a_release_of_nothing_is_refused(asked):
    commands = speak("operator")(asked)
    refused(lambda: commands.release("nobody", "because"), 404)
    refused(lambda: commands.release("a-1", "because"), 409)
    refused(lambda: commands.release("a-0", ""), 400)


def test_while_a_plan_is_under_way_nobody_releases_forgives_or_retires():
    engine = engine_with(policy=MILD, ticks=7)
    assert engine.state.plans["plan-0001"].live
    commands = Commands(state=engine.state, rules=engine.rules, principal=Principal(name="ann", role="admin"), now_us=NOW_US)
    refused(lambda: commands.release("a-0", "because"), 409)
    refused(lambda: commands.feedback("inc-0001", "false_alarm", "", ""), 409)
    refused(lambda: commands.retire("a-0", ""), 409)
    refused(lambda: commands.heal("a-0", now=True), 409)


# -- healing


def test_heal_is_refused_where_there_is_nothing_to_heal(asked):
    refused(lambda: speak()(asked).heal("nobody", now=False), 404)
    refused(lambda: speak()(asked).heal("a-1", now=False), 409)


def test_a_plan_that_waits_is_not_doubled_but_heal_now_replaces_it(asked):
    commands = speak()(asked)
    refused(lambda: commands.heal("a-0", now=False), 409)
    decision = commands.heal("a-0", now=True)
    assert events(decision) == ["approval_closed", "plan_withdrawn", "plan_proposed"]
    proposed = decision.drafts[-1]
    assert (proposed.event.needs_approval, proposed.event.trigger, proposed.actor) == (False, "heal_now", "person:ann")
    refused(lambda: yes(after(commands, decision)), 409)


def test_after_a_rejection_only_heal_now_goes_on(asked):
    commands = speak()(asked)
    plan_hash = commands.state.approvals["req-0001"].plan_hash
    rejected = after(commands, commands.decide("req-0001", "reject", "no", plan_hash))
    assert "rejected" in refused(lambda: rejected.heal("a-0", now=False), 409).what
    assert events(rejected.heal("a-0", now=True)) == ["plan_proposed"]


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(asked):
    commands = speak("viewer")(asked)
    assert [step.action for step in commands.dry_run("a-0").steps] == ["reset_memory"]


# -- what people know


def test_feedback_is_checked(asked):
    commands = speak("operator")(asked)
    refused(lambda: commands.feedback("inc-9", "false_alarm", "", ""), 404)
    refused(lambda: commands.feedback("inc-0001", "hm", "", ""), 400)
    refused(lambda: commands.feedback("inc-0001", "cause", "", ""), 400)


@pytest.mark.parametrize("verdict", ["false_alarm", "new_normal"])
def test_a_verdict_ends_the_incident_its_containment_and_its_plan(asked, verdict):
    commands = speak("operator")(asked)
    decision = commands.feedback("inc-0001", verdict, "", "")
    state = after(commands, decision).state
    assert state.incidents["inc-0001"].outcome == verdict
    assert state.agents["a-0"].desired == "none"
    assert (state.open_plans, state.open_approvals, state.open_incidents) == ((), (), ())
    assert any(isinstance(effect, Rebase) for effect in decision.effects) == (verdict == "new_normal")


def test_a_report_is_evidence_with_a_name_and_no_order(asked):
    decision = speak("agent", "a-3")(asked).report("a-0", "it is rude" * 100)
    (draft,) = decision.drafts
    assert (draft.actor, draft.event.kind, decision.effects) == ("agent:a-3", "sickness_reported", ())
    assert len(draft.event.reason) == 500
    refused(lambda: speak("viewer")(asked).report("a-0", "x"), 403)
    refused(lambda: speak("agent")(asked).report("nobody", "x"), 404)
    refused(lambda: speak("agent")(asked).report("a-0", ""), 400)


@pytest.mark.parametrize("cohort", ["", "version", "version=", "shoe_size=44"])
def test_an_announcement_names_a_cohort_and_a_time_to_come(asked, cohort):
    commands = speak("operator")(asked)
    refused(lambda: commands.announce(cohort, NOW_US + US, ""), 400)
    refused(lambda: commands.announce("version=2", NOW_US, ""), 400)
    assert after(commands, commands.announce("version=2", NOW_US + US, "deploy")).state.announced == (("version=2", NOW_US + US, "deploy"),)


def test_a_retired_agent_leaves_nothing_open_but_its_containment(asked):
    commands = speak("operator")(asked)
    decision = commands.retire("a-0", "end of life")
    assert isinstance(decision.effects[-1], Retire)
    retired = after(commands, decision)
    agent = retired.state.agents["a-0"]
    assert (agent.liveness, agent.word, agent.incident_id, agent.desired) == ("retired", "retired", "", "isolated")
    assert (retired.state.open_plans, retired.state.open_approvals, retired.state.open_incidents) == ((), (), ())
    refused(lambda: retired.retire("a-0", ""), 409)


def test_a_refused_attempt_is_on_record_and_changes_nothing(asked):
    commands = speak("viewer")(asked)
    error = refused(lambda: commands.contain("agent", "a-1", "isolated", "odd"), 403)
    decision = commands.refusal("contain", "x" * 500, error)
    assert (events(decision), decision.effects) == (["command_refused"], ())
    before, now = commands.state, after(commands, decision).state
    assert replace(now, seq=before.seq, head=before.head, at_us=before.at_us) == before
