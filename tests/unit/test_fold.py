from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immune.core import acts
from immune.core import events as ev
from immune.core.events import GENESIS, Draft, seal
from immune.core.fold import HANDLERS, canonical_hash, fold
from immune.core.state import ANSWERS_KEPT, RunState
from tests.drawn_events import EVENTS, drafts
from tests.effort import examples

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_767_225_600_000_000
STEP = acts.StepNote(action="reset_memory", tier=1, reversible=True, compensation="", timeout_s=30.0, summary="")


def folded(*events, state=None, at_us=NOW):
    """The state after (subject, event) pairs, one second apart."""
    state = state or RunState()
    some = [Draft(at_us=at_us + n * 1_000_000, subject=subject, event=event, actor="person:ann") for n, (subject, event) in enumerate(events)]
    return fold(state, seal("r", some, state.seq, state.head))


def enrolled(agent_id, index=0, service="search"):
    return agent_id, ev.AgentEnrolled(index=index, type="coder", service=service)


def contained(key, scope, target, level="isolated"):
    return target, acts.Contained(
        containment_id=key,
        scope=scope,
        target=target,
        level=level,
        automatic=False,
        reason="",
        incident_id="",
        rule="",
        evidence=(),
        policy_version="",
    )


def released(key, target="a-1"):
    return target, acts.Released(containment_id=key, basis="person", reason="")


def planned(plan_id="plan-1", request_id=""):
    events = [
        (
            "a-1",
            acts.PlanProposed(
                plan_id=plan_id,
                incident_id="inc-1",
                signature="s",
                diagnosis="unknown",
                rung=0,
                steps=(STEP,),
                skipped=(),
                plan_hash="h",
                severity=1.0,
                mode="act",
                needs_approval=bool(request_id),
                rule="",
                trigger="auto",
                deadline_us=NOW,
                policy_version="",
            ),
        )
    ]
    if request_id:
        events.append(("a-1", asked(request_id, plan_id=plan_id)))
    return events


def asked(request_id, plan_id="", about="plan"):
    return acts.ApprovalRequested(
        request_id=request_id,
        about=about,
        plan_id=plan_id,
        incident_id="inc-1",
        plan_hash="h",
        severity=1.0,
        rule="",
        level="isolated",
        expires_us=NOW,
        requested_by="policy:x",
    )


def granted(request_id):
    return "a-1", acts.ApprovalGranted(request_id=request_id, plan_hash="h", reason="", not_before_us=NOW)


def closed(request_id, outcome):
    return "a-1", acts.ApprovalClosed(request_id=request_id, outcome=outcome, reason="")


@settings(max_examples=examples(60))
@given(st.lists(drafts(), max_size=14), st.lists(st.integers(0, 14), max_size=4))
def test_any_chunking_gives_the_same_state_and_no_event_is_ever_refused(some, cuts):
    envelopes = seal("r", some, 0, GENESIS)
    whole = fold(RunState(), envelopes)
    state = RunState()
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(envelopes)], strict=True):
        state = fold(state, envelopes[first:last])
    assert canonical_hash(state) == canonical_hash(whole)
    assert whole.seq == len(some)


@given(st.lists(drafts(), max_size=10), EVENTS)
def test_folding_leaves_the_state_it_started_from_alone(some, event):
    before = fold(RunState(), seal("r", some, 0, GENESIS))
    kept = canonical_hash(before)
    folded(("a-1", event), state=before)
    assert canonical_hash(before) == kept


def test_every_kind_of_event_is_handled_or_known_to_change_nothing():
    changes_nothing = {"fact_changed", "containment_deferred", "enforcement_failed", "rebased", "command_refused", "journal_interrupted"}
    changes_nothing |= {"loop_stalled", "person_told"}
    assert {cls.kind for cls in HANDLERS} | changes_nothing == set(ev.KINDS)


def a_whole_story():
    agents = [enrolled(f"a-{n}", n) for n in range(9)]
    counts = ("r", ev.SamplesRejected(counts=(("late", 3), ("duplicate", 1))))
    return canonical_hash(folded(*agents, contained("con-1", "fleet", "fleet"), *planned(request_id="req-1"), counts, released("con-1", "fleet")))


def test_whoever_joins_a_stopped_fleet_is_contained_from_the_start():
    state = folded(enrolled("a-1"), contained("con-1", "fleet", "fleet"), enrolled("a-2", 1))
    assert state.agents["a-2"].desired == "isolated"
    assert state.agents["a-2"].deviating_since_us > 0
    assert folded(released("con-1", "fleet"), state=state).agents["a-2"].desired == "none"


def test_a_second_enrolment_of_the_same_agent_lets_nobody_out():
    state = folded(enrolled("a-1"), contained("con-1", "agent", "a-1"), enrolled("a-1", 7))
    assert (state.agents["a-1"].desired, state.agents["a-1"].index) == ("isolated", 0)


def test_the_desired_level_is_the_strongest_of_all_containments_in_force():
    state = folded(enrolled("a-1"), contained("con-1", "service", "search", "isolated"), contained("con-2", "agent", "a-1", "throttled"))
    assert state.agents["a-1"].desired == "isolated"
    state = folded(released("con-1"), state=state)
    assert state.agents["a-1"].desired == "throttled"
    assert folded(released("con-2"), released("con-2"), state=state).agents["a-1"].desired == "none"


def test_a_tools_containment_holds_no_agent():
    assert folded(enrolled("a-1"), contained("con-1", "tool", "shell")).agents["a-1"].desired == "none"


def test_a_grant_about_a_plan_waits_for_its_start_and_one_about_anything_else_is_used_at_once():
    state = folded(enrolled("a-1"), *planned(request_id="req-1"), granted("req-1"), ("fleet", asked("req-2", about="brake")), granted("req-2"))
    assert state.approvals["req-1"].status == "granted"
    assert state.approvals["req-2"].status == "used"
    assert state.open_approvals == ("req-1",)
    state = folded(("a-1", acts.PlanStarted(plan_id="plan-1", request_id="req-1", trigger="after_approval")), state=state)
    assert (state.approvals["req-1"].status, state.open_approvals) == ("used", ())
    assert folded(closed("req-2", "withdrawn"), state=state).approvals["req-2"].status == "used"


def test_a_request_ends_once_and_a_rejected_plan_is_settled():
    state = folded(enrolled("a-1"), *planned(request_id="req-1"), closed("req-1", "rejected"), granted("req-1"), closed("req-1", "expired"))
    assert state.approvals["req-1"].status == "rejected"
    assert state.plans["plan-1"].settled
    assert (state.agents["a-1"].plan, state.open_plans) == ("rejected", ())


@pytest.mark.fault("F52")
def test_an_answer_after_the_outcome_was_given_up_changes_nothing():
    def answer(outcome):
        return "a-1", acts.StepFinished(plan_id="plan-1", step=0, action="reset_memory", outcome=outcome, detail="")

    started = ("a-1", acts.StepStarted(plan_id="plan-1", step=0, action="reset_memory", key="k"))
    state = folded(enrolled("a-1"), *planned(), started, answer("unknown"), answer("succeeded"))
    assert state.plans["plan-1"].steps[0].status == "unknown"


def test_answers_are_bounded_and_the_oldest_go_first():
    events = [("x", acts.CommandAnswered(key=f"k{n}", command="c", status=200, answer="")) for n in range(ANSWERS_KEPT + 2)]
    answers = folded(*events).answers
    assert len(answers) == ANSWERS_KEPT
    assert "k0" not in answers
    assert f"k{ANSWERS_KEPT + 1}" in answers


def test_memory_takes_a_success_back_when_the_illness_comes_back():
    started = ("a-1", acts.ProbationStarted(plan_id="plan-1", dispatches=9, samples_needed=3, deadline_us=NOW))
    ended = ("a-1", acts.ProbationEnded(plan_id="plan-1", passed=True, samples=3, nats=0.0, reason=""))
    state = folded(enrolled("a-1"), *planned(), started, ended)
    assert next(iter(state.memory.values())).worked == 1
    back = ("a-1", acts.Relapsed(plan_id="plan-1", incident_id="inc-2", after_s=3.0))
    known = next(iter(folded(back, back, state=state).memory.values()))
    assert (known.worked, known.failed) == (0, 1)


def test_closing_an_incident_frees_only_its_own_agents():
    state = folded(enrolled("a-1"), ("a-1", ev.IncidentClosed(incident_id="inc-9", outcome="recovered", reason="")))
    assert state.agents["a-1"].incident_id == ""
