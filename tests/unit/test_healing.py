from __future__ import annotations

from dataclasses import replace

import pytest

from immune.actions import ACTIONS
from immune.core import healing
from immune.core.acts import StepNote
from immune.core.events import EvidenceNote, HypothesisNote
from immune.core.policy import HealingPolicy
from immune.core.state import Experience, IncidentState, PlanState, RunState, StepState, memory_key
from immune.infections import CATALOGUE

NOW = 1_767_225_600_000_000
US = 1_000_000
POLICY = HealingPolicy()
ALLOWED = {action.name: action for action in ACTIONS}
SIGNATURE = "token_explosion[output_tokens:up]"
LADDER = ["reset_memory", "restart_agent", "reset_agent", "replace_agent"]


def incident(agent="a-1", kind="token_explosion", incident_id="inc-2"):
    note = EvidenceNote(
        vital="output_tokens",
        direction="up",
        nats=9.0,
        ratio=4.0,
        observed=4.0,
        expected=1.0,
        effect=2.0,
        growth=0.0,
        onset_us=NOW,
        calibration=1.0,
        basis="own",
    )
    return IncidentState(
        incident_id=incident_id,
        scope="agent",
        cohort="",
        agents=(agent,),
        onset_us=NOW,
        opened_at_us=NOW,
        opened_seq=1,
        nats=9.0,
        severity=3.0,
        peak_severity=3.0,
        severity_why=(),
        evidence=(note,),
        diagnosis=(HypothesisNote(kind=kind, confidence=1.0, evidence_for=(), evidence_against=()),),
        ruled_out=(),
        changed=(),
        updated_at_us=NOW,
    )


def plan(*actions, plan_id="plan-1", agent="a-1", incident_id="inc-2", kind="token_explosion", started_s=-10.0, statuses=(), **more):
    steps = [
        StepState(note=ALLOWED[name].note(), status="succeeded", started_at_us=NOW + round(started_s * US), finished_nth=n + 1)
        for n, name in enumerate(actions)
    ]
    steps = [replace(step, status=status) for step, status in zip(steps, statuses or ["succeeded"] * len(steps), strict=True)]
    return PlanState(
        plan_id=plan_id,
        agent_id=agent,
        incident_id=incident_id,
        signature=SIGNATURE,
        diagnosis=kind,
        rung=0,
        steps=tuple(steps),
        skipped=(),
        plan_hash="h",
        severity=3.0,
        needs_approval=False,
        rule="",
        trigger="auto",
        proposed_at_us=NOW,
        deadline_us=NOW,
        seq=1,
        started_at_us=NOW + round(started_s * US),
        **more,
    )


def state(*plans, memory=(), failed_here=()):
    return RunState(
        run_id="r",
        plans={one.plan_id: one for one in plans},
        memory={memory_key(SIGNATURE, action): experience for action, experience in memory},
        failed_here={memory_key(SIGNATURE, action, "a-1"): 1 for action in failed_here},
    )


def rung(known, *, policy=POLICY, actions=ALLOWED, about=None):
    return healing.next_rung(known, about or incident(), CATALOGUE, actions, policy, NOW)


def names(chosen):
    return [step.action for step in chosen.steps]


def test_the_first_rung_is_the_gentlest():
    chosen = rung(state())
    assert names(chosen) == ["reset_memory"]
    assert (chosen.number, chosen.skipped) == (0, ())


def test_an_unknown_illness_gets_the_default_ladder():
    assert healing.ladder_for("unknown", CATALOGUE) == healing.DEFAULT_LADDER
    assert names(rung(state(), about=incident(kind="unknown"))) == ["reset_memory"]


def test_what_was_tried_for_this_incident_is_not_tried_again_and_the_count_makes_the_probation_longer():
    chosen = rung(state(plan("reset_memory")))
    assert names(chosen) == ["restart_agent"]
    assert chosen.number == 1
    assert chosen.skipped == (("reset_memory", "tried on this agent for this illness already"),)


def test_a_plan_that_never_started_was_not_tried():
    assert names(rung(state(replace(plan("reset_memory"), started_at_us=0)))) == ["reset_memory"]


def test_a_relapse_goes_to_the_next_rung_and_an_old_illness_starts_afresh():
    assert names(rung(state(plan("reset_memory", incident_id="inc-1", started_s=-POLICY.relapse_window_s + 1)))) == ["restart_agent"]
    assert names(rung(state(plan("reset_memory", incident_id="inc-1", started_s=-POLICY.relapse_window_s - 1)))) == ["reset_memory"]


def test_what_was_tried_on_another_agent_counts_nothing_here():
    assert names(rung(state(plan("reset_memory", agent="a-2")))) == ["reset_memory"]


def test_what_never_worked_for_the_signature_is_left_out_with_the_reason():
    chosen = rung(state(memory=[("reset_memory", Experience(failed=POLICY.memory_failures))]))
    assert names(chosen) == ["restart_agent"]
    assert chosen.skipped[0][1] == f"reset_memory failed {POLICY.memory_failures} times for {SIGNATURE} and never worked"


@pytest.mark.parametrize("known", [Experience(failed=1), Experience(worked=1, failed=5)])
def test_one_failure_or_one_success_leaves_it_in(known):
    assert "reset_memory" in names(rung(state(memory=[("reset_memory", known)])))


def test_what_failed_on_this_very_agent_is_left_out_even_if_it_helps_others():
    chosen = rung(state(memory=[("reset_memory", Experience(worked=5, failed=1))], failed_here=["reset_memory"]))
    assert names(chosen) == ["restart_agent"]
    assert "failed on this agent" in chosen.skipped[0][1]


def test_what_worked_for_the_signature_goes_first():
    assert names(rung(state(memory=[("reset_agent", Experience(worked=2)), ("restart_agent", Experience(worked=1))]))) == ["reset_agent"]


def test_experience_with_another_signature_does_not_count():
    known = RunState(memory={memory_key("tool_loop[tool_calls:up]", "reset_agent"): Experience(worked=9)})
    assert names(rung(known)) == ["reset_memory"]


@pytest.mark.fault("F49")
def test_an_action_is_not_started_more_often_than_the_limit_within_the_window():
    busy = [plan("reset_memory", plan_id=f"p{n}", agent=f"b-{n}") for n in range(POLICY.action_starts)]
    chosen = rung(state(*busy))
    assert names(chosen) == ["restart_agent"]
    assert "times within" in chosen.skipped[0][1]
    long_ago = [plan("reset_memory", plan_id=f"p{n}", agent=f"b-{n}", started_s=-POLICY.action_window_s - 1) for n in range(POLICY.action_starts)]
    assert names(rung(state(*long_ago))) == ["reset_memory"]


def test_an_action_that_is_not_in_the_policy_is_never_planned():
    chosen = rung(state(), actions={"reset_agent": ALLOWED["reset_agent"]})
    assert names(chosen) == ["reset_agent"]
    assert [name for name, _ in chosen.skipped] == ["reset_memory", "restart_agent", "replace_agent"]


def test_a_ladder_that_is_used_up_has_no_steps_and_says_why_for_every_rung():
    chosen = rung(state(*[plan(name, plan_id=name) for name in LADDER]))
    assert chosen.steps == ()
    assert [name for name, _ in chosen.skipped] == LADDER


def test_the_plan_hash_covers_everything_a_person_approves():
    first = rung(state())
    base = {"run_id": "r", "agent_id": "a", "incident_id": "i", "rung": first, "diagnosis": "d", "policy_version": "v"}
    other_step = replace(first, steps=(replace(first.steps[0], timeout_s=31.0),))
    changes = [{"run_id": "x"}, {"agent_id": "x"}, {"incident_id": "x"}, {"diagnosis": "x"}, {"policy_version": "x"}]
    changes += [{"rung": other_step}, {"rung": replace(first, number=1)}]
    hashes = {healing.plan_hash(**base), *(healing.plan_hash(**{**base, **change}) for change in changes)}
    assert len(hashes) == 1 + len(changes)


def test_undoing_goes_in_reverse_order_of_completion_over_what_took_or_may_have_taken_effect():
    done = plan("reset_memory", "rollback_prompt", "clear_cache", "revoke_tools", statuses=("succeeded", "unknown", "succeeded", "failed"))
    assert healing.to_undo(done) == [1, 0]
    swapped = replace(done, steps=(replace(done.steps[0], finished_nth=9), *done.steps[1:]))
    assert healing.to_undo(swapped) == [0, 1]
    assert healing.lasting(done) == ("clear_cache",)


def test_a_key_is_the_same_on_every_retry_and_another_one_for_undoing():
    assert healing.step_key("r", "p", 0) == healing.step_key("r", "p", 0)
    assert len({healing.step_key(*key, undo=undo) for key in (("r", "p", 0), ("r", "p", 1), ("r", "q", 0)) for undo in (True, False)}) == 6


def test_every_rung_of_every_ladder_is_made_of_known_actions():
    for infection in CATALOGUE:
        assert {name for one in infection.ladder for name in one} <= set(ALLOWED), infection.kind
    assert {name for one in healing.DEFAULT_LADDER for name in one} <= set(ALLOWED)


def test_an_action_says_how_it_is_undone_exactly_if_it_can_be():
    for action in ACTIONS:
        assert bool(action.compensation) == action.reversible, action.name
        assert isinstance(action.note(), StepNote)
