"""Every event has its sentence, and every id of acting leads to its events, its rule, its deciders and its way back."""

from __future__ import annotations

import dataclasses
import types
import typing

import pytest

from immune.core import acts
from immune.core import events as ev
from immune.core.events import Draft, EvidenceNote, seal
from immune.core.fold import fold
from immune.core.state import RunState
from immune.errors import UnknownIdError
from immune.reports.explain import explain, say
from immune.reports.live import happening
from immune.reports.sentences import rule_of
from immune.stores.memory import MemoryJournal

US = 1_000_000
NOW = 1_767_225_600 * US


def any_of(hint):
    """Some value of a type; the last one of a choice."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return inside[-1]
    if origin is tuple:
        return (any_of(inside[0]),) if len(inside) == 2 and inside[1] is Ellipsis else tuple(map(any_of, inside))
    if origin in (typing.Union, types.UnionType):
        return any_of(inside[0])
    if dataclasses.is_dataclass(hint):
        return example(hint)
    return {str: "thing", int: 7, float: 2.5, bool: True}[hint]


def example(cls, **given):
    hints = typing.get_type_hints(cls)
    return cls(**{field.name: any_of(hints[field.name]) for field in dataclasses.fields(cls)} | given)


def told(event, *, subject="coder-1", actor="system"):
    return seal("run-1", [Draft(at_us=NOW, subject=subject, event=event, actor=actor)], 0, ev.GENESIS)[0]


@pytest.mark.parametrize("kind", sorted(ev.KINDS))
def test_every_kind_of_event_has_a_sentence_of_its_own(kind):
    envelope = told(example(ev.KINDS[kind]))
    sentence = say(envelope)
    assert sentence != kind.replace("_", " ")
    assert len(sentence.split()) > 2
    happening(envelope)


def choices_of(cls):
    """Every value of every field that has a choice of words."""
    hints = typing.get_type_hints(cls)
    return [(name, word) for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal for word in typing.get_args(hint)]


@pytest.mark.parametrize(("kind", "name", "word"), [(kind, *choice) for kind, cls in sorted(ev.KINDS.items()) for choice in choices_of(cls)])
def test_every_word_that_an_event_can_carry_is_told_without_a_fall(kind, name, word):
    envelope = told(example(ev.KINDS[kind], **{name: word}))
    assert say(envelope) != kind.replace("_", " ")
    happening(envelope)


def test_a_block_that_failed_is_never_told_as_contained():
    failed = told(acts.EnforcementFailed(desired="isolated", observed="none", error="no answer", waited_s=5.0))
    assert say(failed) == "coder-1 is NOT isolated, though ordered 5 s ago; nothing is in force: no answer"
    assert happening(failed).tone == "bad"


def test_an_approval_is_told_with_the_person_and_the_reason():
    granted = acts.ApprovalGranted(request_id="req-0001", plan_hash="ab", reason="looked at it", not_before_us=NOW + 5 * US)
    sentence = say(told(granted, actor="person:ada"))
    assert "approved by ada (a person): looked at it" in sentence
    assert "nothing starts before 00:00:05" in sentence


def test_a_plan_names_its_steps_and_what_it_left_out():
    steps = (example(acts.StepNote, action="revoke_tools"), example(acts.StepNote, action="reset_memory"))
    plan = example(acts.PlanProposed, plan_id="plan-0001", steps=steps, skipped=(("clear_cache", "failed before"),), needs_approval=True, rule="mode")
    sentence = say(told(plan))
    assert "revoke tools, then reset memory" in sentence
    assert "left out: clear cache (failed before)" in sentence
    assert "waits for a person because of mode" in sentence


def test_in_mode_observe_the_sentence_claims_nothing():
    proposed = example(ev.ContainmentProposed, mode="observe", level="isolated", rule="containment.isolate_at")
    assert "would have been isolated by rule containment.isolate_at" in say(told(proposed))


def test_the_rule_is_the_events_own_or_that_of_the_rule_that_acted():
    assert rule_of(told(example(acts.Contained, rule="containment.isolate_at"))) == "containment.isolate_at"
    assert rule_of(told(example(acts.ApprovalClosed), actor="policy:approvals.expire_after_s")) == "approvals.expire_after_s"
    assert rule_of(told(example(acts.StepStarted))) == ""


# -- a short run -------------------------------------------------------------------------------------------------------

NOTE = EvidenceNote(
    vital="errors", direction="up", nats=20, ratio=4, observed=4, expected=1, effect=2, growth=0, onset_us=NOW, calibration=1, basis="own"
)  # fmt: skip
STEP = acts.StepNote(action="reset_memory", tier=1, reversible=True, compensation="put the memory back", timeout_s=30, summary="s")


def course():
    """An agent falls sick, is isolated, a person approves, a step is done."""
    opened = example(ev.IncidentOpened, incident_id="inc-0001", scope="agent", cohort_key="", agents=("coder-1",), onset_us=NOW, policy_version="v1")
    contained = example(
        acts.Contained, containment_id="con-0001-isolated", scope="agent", target="coder-1", incident_id="inc-0001", level="isolated",
        rule="containment.isolate_at", automatic=True, policy_version="v1",
    )  # fmt: skip
    plan = example(
        acts.PlanProposed, plan_id="plan-0001", incident_id="inc-0001", steps=(STEP,), skipped=(), needs_approval=True,
        rule="approvals.severity_at", policy_version="v1",
    )  # fmt: skip
    asked = example(acts.ApprovalRequested, request_id="req-0001", about="plan", plan_id="plan-0001", incident_id="inc-0001")
    granted = acts.ApprovalGranted(request_id="req-0001", plan_hash="h", reason="go on", not_before_us=NOW)
    return [
        (example(ev.AgentEnrolled, index=0), "system", ""),
        (opened, "system", ""),
        (contained, "policy:containment.isolate_at", "e2"),
        (plan, "system", "e2"),
        (asked, "system", "e4"),
        (granted, "person:ada", "e5"),
        (acts.PlanStarted(plan_id="plan-0001", request_id="req-0001", trigger="after_approval"), "system", "e6"),
    ]


@pytest.fixture
def recorded():
    journal = MemoryJournal()
    epoch = journal.acquire("run-1", "test", NOW)
    drafts = [
        Draft(at_us=NOW + n * US, subject="coder-1", event=event, actor=actor, causation_id=cause, correlation_id="inc-0001" if n else "")
        for n, (event, actor, cause) in enumerate(course())
    ]
    journal.append("run-1", drafts, expected_seq=0, epoch=epoch)
    return journal, fold(RunState(), journal.read("run-1"))


def test_a_plan_is_explained_by_its_events_its_rule_its_person_and_its_undo(recorded):
    why = explain(*recorded, "plan-0001")
    assert [link["kind"] for link in why["chain"]] == ["incident_opened", "plan_proposed", "approval_requested", "plan_started"]
    assert why["rule"] == "approvals.severity_at"
    assert why["policy_version"] == "v1"
    assert why["undo"] == "reset memory: put the memory back"
    assert "plan-0001 heals coder-1" in why["sentence"]


def test_a_request_is_explained_with_who_answered_it(recorded):
    why = explain(*recorded, "req-0001")
    assert why["who"][0] == "person:ada"
    assert "by ada (a person)" in why["sentence"]
    assert [link["kind"] for link in why["chain"]][-2:] == ["approval_granted", "plan_started"]


def test_a_containment_is_explained_with_its_way_back(recorded):
    why = explain(*recorded, "con-0001-isolated")
    assert (why["rule"], why["undo"]) == ("containment.isolate_at", "immune release coder-1 --reason TEXT")
    assert "still holds" in why["sentence"]


@pytest.mark.parametrize("subject", ["e3", "inc-0001", "coder-1"])
def test_events_incidents_and_agents_are_explained_as_before(recorded, subject):
    why = explain(*recorded, subject)
    assert why["chain"]
    assert why["run_id"] == "run-1"


@pytest.mark.parametrize("subject", ["e99", "plan-0009", "req-0007", "con-1", "nobody", ""])
def test_an_unknown_id_is_refused_with_a_way_out(recorded, subject):
    with pytest.raises(UnknownIdError) as refused:
        explain(*recorded, subject)
    assert refused.value.way_out
