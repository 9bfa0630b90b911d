"""What was done, on the page and on the screen: only what was seen in force is told as done, and a waiting request cannot be missed."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import escape
from rich.console import Console

from immune.core import acts
from immune.core import events as ev
from immune.core.events import Draft, HypothesisNote
from immune.core.evidence import Assessment
from immune.core.fold import fold
from immune.core.policy import Policy
from immune.core.state import RunState
from immune.reports.chronicle import LOG_MAX, chronicle
from immune.reports.documents import incident_document
from immune.reports.from_run import run_page
from immune.reports.live import left_words, live_view
from immune.reports.page import headline, render
from immune.reports.terminal import screen
from immune.stores.memory import MemoryJournal
from tests.unit.test_explain import NOTE, NOW, STEP, US, example
from tests.unit.test_fold import enrolled, folded
from tests.unit.test_reports import HOSTILE, Measurements, Skeleton

WHO = "coder-1"
OPENED = ev.IncidentOpened(
    incident_id="inc-0001", scope="agent", cohort="", agents=(WHO,), onset_us=NOW + 600 * US, nats=20.0, threshold_nats=18.3, severity=6.0,
    severity_why=(), evidence=(NOTE,), diagnosis=(HypothesisNote(kind="error_burst", confidence=0.9, evidence_for=(), evidence_against=()),),
    ruled_out=(), changed=(), policy_version="v1",
)  # fmt: skip
RULE = "containment.isolate_at"
PROPOSED = ev.ContainmentProposed(
    incident_id="inc-0001", level="isolated", mode="act", rule=RULE, severity=6.0, evidence=(NOTE,), policy_version="v1"
)
CONTAINED = acts.Contained(
    containment_id="con-0001-isolated", scope="agent", target=WHO, level="isolated", automatic=True, reason="error_burst", incident_id="inc-0001",
    rule=RULE, evidence=(NOTE,), policy_version="v1",
)  # fmt: skip
PLAN = acts.PlanProposed(
    plan_id="plan-0001", incident_id="inc-0001", signature="error_burst[errors:up]", diagnosis="error_burst", rung=0, steps=(STEP,), skipped=(),
    plan_hash="h", severity=6.0, mode="act", needs_approval=True, rule="approvals.severity_at", trigger="auto", deadline_us=NOW + 1800 * US,
    policy_version="v1",
)  # fmt: skip
ASKED = acts.ApprovalRequested(
    request_id="req-0001", about="plan", plan_id="plan-0001", incident_id="inc-0001", plan_hash="h", severity=6.0, rule="approvals.severity_at",
    level="isolated", expires_us=NOW + 1515 * US, requested_by="policy:approvals.severity_at",
)  # fmt: skip
IN_FORCE = acts.EnforcementObserved(before="none", after="isolated")
HEALED = (
    acts.ApprovalGranted(request_id="req-0001", plan_hash="h", reason="seen", not_before_us=NOW + 630 * US),
    acts.PlanStarted(plan_id="plan-0001", request_id="req-0001", trigger="after_approval"),
    acts.StepStarted(plan_id="plan-0001", step=0, action="reset_memory", key="k"),
    acts.StepFinished(plan_id="plan-0001", step=0, action="reset_memory", outcome="succeeded", detail=""),
    acts.ProbationStarted(plan_id="plan-0001", dispatches=60, samples_needed=20, deadline_us=NOW + 900 * US),
    acts.ProbationEnded(plan_id="plan-0001", passed=True, samples=20, nats=1.0, reason="20 fresh samples without symptoms"),
    acts.PlanEnded(plan_id="plan-0001", outcome="succeeded", reason="20 fresh samples without symptoms"),
    acts.Released(containment_id="con-0001-isolated", basis="probation", reason="20 fresh samples without symptoms"),
    ev.IncidentClosed(incident_id="inc-0001", outcome="healed", reason="reset_memory verified"),
    acts.EnforcementObserved(before="isolated", after="none"),
)
STARTED = ev.RunStarted(version="1", epoch=1, period_us=US, policy_version="v1", policy="", source="test")
ENROLLED = ev.AgentEnrolled(index=0, type="coder", service="")


def run_of(*events, actor="system"):
    """A journal of these events from the eleventh minute on, a second apart, and its state."""
    journal = MemoryJournal()
    epoch = journal.acquire("run-1", "test", NOW)
    drafts = [Draft(at_us=NOW, subject="run-1", event=STARTED), Draft(at_us=NOW, subject=WHO, event=ENROLLED)]
    for n, event in enumerate(events):
        by = "person:ada" if isinstance(event, acts.ApprovalGranted) else f"policy:{event.rule}" if isinstance(event, acts.Contained) else actor
        told = "" if isinstance(event, acts.EnforcementObserved) and event.after == "none" else "inc-0001"
        drafts.append(Draft(at_us=NOW + (610 + n) * US, subject=WHO, event=event, actor=by, correlation_id=told))
    journal.append("run-1", drafts, expected_seq=0, epoch=epoch)
    return journal, fold(RunState(), journal.read("run-1"))


def page_of(*events, mode="act", escaped=None):
    journal, state = run_of(*events)
    return run_page(state, Measurements(np.full(1200, 90.0)), title="t", policy=Policy(mode=mode), journal=journal, escaped=escaped)


WHOLE = (OPENED, PROPOSED, CONTAINED, IN_FORCE, PLAN, ASKED, *HEALED)


def test_an_incident_is_told_from_the_first_alarm_to_the_release_without_saying_anything_twice():
    stages = [moment.stage for moment in page_of(*WHOLE).cards[0].moments]
    assert stages == ["noticed", "contained", "in force", "planned", "asked", "approved", "step", "verified", "released", "free again"]


def test_every_event_on_the_page_has_one_anchor_and_every_reference_leads_to_one():
    seen = Skeleton(render(page_of(*WHOLE)))
    ids = [value for _, name, value in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {f"e{n}" for n in range(1, len(WHOLE) + 3)} <= set(ids)
    assert {value[1:] for _, name, value in seen.attributes if name == "href" and value.startswith("#")} <= set(ids)


def test_the_headline_says_what_was_done():
    assert "1 was contained and 1 healed and released on fresh evidence." in headline(page_of(*WHOLE))


def test_a_waiting_request_and_a_person_who_owns_an_agent_are_in_the_headline():
    assert "1 was contained and 1 waits for a person's answer." in headline(page_of(*WHOLE[:6]))
    owned = acts.LadderExhausted(incident_id="inc-0001", tried=("reset_memory",), reason="nothing helped")
    assert "1 is in a person's hands." in headline(page_of(OPENED, PROPOSED, CONTAINED, IN_FORCE, owned))


@pytest.mark.parametrize("mode", ["observe", "recommend", "act"])
def test_what_nobody_contained_is_told_as_what_would_have_been(mode):
    built = page_of(OPENED, replace(PROPOSED, mode=mode), mode=mode)
    written = render(built)
    assert "would have been isolated at 00:10:11" in written
    assert "isolated from" not in written
    assert "1 would have been contained, nothing was stopped." in headline(built)


def test_an_order_that_was_not_seen_in_force_is_an_alarm_and_never_a_containment():
    failed = acts.EnforcementFailed(desired="isolated", observed="none", error="no answer", waited_s=5.0)
    built = page_of(OPENED, PROPOSED, CONTAINED, failed)
    written = render(built)
    assert "ordered to be isolated at 00:10:11, not seen in force" in written
    assert 'class="alarm-line"' in written
    assert "coder-1 is NOT isolated" in written
    assert "was contained" not in headline(built)
    assert "1 order did not come into force." in headline(built)


def test_charts_shade_what_was_in_force_and_the_probation():
    chart = page_of(*WHOLE).cards[0].charts[0]
    kinds = {span.kind: (span.from_us, span.to_us) for span in chart.spans}
    assert kinds["held"] == (NOW + 613 * US, NOW + 625 * US)
    assert kinds["trial"] == (NOW + 620 * US, NOW + 621 * US)


def test_tables_tell_who_approved_what_helped_and_what_escaped():
    built = page_of(*WHOLE, escaped=0)
    row = built.acted.approvals[0]
    assert (row.by, row.reason, row.outcome, row.became) == ("person:ada", "seen", "approved", "verified")
    assert [(cure.treatment, cure.verified, cure.undone) for cure in built.acted.cures] == [("reset memory", 1, 0)]
    assert [(entry.action, entry.worked, entry.failed) for entry in built.acted.memory] == [("reset_memory", 1, 0)]
    assert built.acted.share_max == 1.0
    assert "<b>0</b> escaped" in render(built)


def test_the_log_keeps_the_newest_and_says_what_it_leaves_out():
    many = [example(acts.CommandRefused, target=f"t{n}") for n in range(LOG_MAX + 20)]
    journal, state = run_of(*many)
    told = chronicle(journal, state.run_id)
    assert (len(told.log), told.left_out) == (LOG_MAX, 22)
    assert "t519" in told.log[-1].text
    built = run_page(state, Measurements(np.ones(1200)), title="t", policy=Policy(), journal=journal)
    assert "22 more are in the journal" in render(built)


def test_hostile_words_of_acting_are_only_text():
    nasty = replace(PLAN, diagnosis=HOSTILE, signature=HOSTILE, rule=HOSTILE, steps=(replace(STEP, action=HOSTILE),))
    asked = replace(ASKED, rule=HOSTILE)
    granted = replace(HEALED[0], reason=HOSTILE)
    written = render(page_of(OPENED, PROPOSED, replace(CONTAINED, reason=HOSTILE, rule=HOSTILE), IN_FORCE, nasty, asked, granted, *HEALED[1:]))
    assert not {"img", "script"} & set(Skeleton(written).tags)
    assert str(escape(HOSTILE)) in written


def test_without_a_journal_the_page_still_stands_and_claims_nothing():
    _, state = run_of(*WHOLE[:4])
    written = render(run_page(state, Measurements(np.full(1200, 90.0)), title="t", policy=Policy(mode="act")))
    assert "isolated from" not in written
    assert "Every decision" not in written


# -- the screen --------------------------------------------------------------------------------------------------------


def view_of(*events, samples=500, answer="[a] approve  [r] reject", **more):
    _, state = run_of(*events)
    judged = Assessment(
        now_us=NOW + 660 * US, threshold_nats=18.3, nats=np.array([20.0], np.float32), samples=np.array([samples]), ready=np.array([True]),
        silent=np.array([False]), idle=np.array([False]), findings=(),
    )  # fmt: skip
    return live_view(
        state, judged, title="t", mode="act", phase="live", virtual=False, now_us=NOW + 660 * US, min_samples=15, last_seen_us={}, answer=answer,
        **more,
    )  # fmt: skip


def shown(view, width=110, height=40):
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(screen(view, width=width, height=height))
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(110, 40), (80, 24)])
def test_a_waiting_request_is_asked_across_the_screen_with_its_risk_its_time_and_its_keys(width, height):
    text = shown(view_of(*WHOLE[:6]), width, height)
    for words in ("req-0001 ASKS YOU: reset memory on coder-1?", "denied in 14:15 min", "severity 6.0", "can be undone", "[a] approve  [r] reject"):
        assert words in text
    assert "■ isolated · waits for approval" in text
    assert "asked: reset memory, 14:15 min left" in text
    assert len(text.splitlines()) <= height
    assert max(map(len, text.splitlines())) <= width


def test_what_cannot_be_undone_is_shouted():
    assert "CANNOT be undone" in shown(view_of(*WHOLE[:4], replace(PLAN, steps=(replace(STEP, reversible=False),)), ASKED), 80, 24)


def test_a_probation_says_how_far_it_is():
    on_probation = view_of(*WHOLE[:11], samples=512, probation_from={"plan-0001": 500})
    assert "isolated · probation 12/20" in shown(on_probation)
    assert "ASKS YOU" not in shown(on_probation)


def test_an_order_that_is_not_in_force_is_never_shown_as_contained():
    sick = ev.HealthChanged(before="healthy", after="sick", nats=20.0, samples=500, basis="own")
    text = shown(view_of(OPENED, PROPOSED, CONTAINED, sick))
    assert "✚ sick · NOT isolated" in text
    assert "■" not in text


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (acts.LadderExhausted(incident_id="inc-0001", tried=(), reason="x"), "isolated · a person owns it"),
        (acts.ApprovalClosed(request_id="req-0001", outcome="rejected", reason="no"), "isolated · rejected"),
    ],
)
def test_an_agent_that_is_a_persons_says_so(event, words):
    assert words in shown(view_of(*WHOLE[:6], event))


def test_time_left_is_told_in_minutes_and_at_last_in_seconds():
    assert [left_words(us) for us in (900 * US, 60 * US, 59 * US, -5)] == ["15:00 min", "1:00 min", "59 s", "0 s"]


def test_the_severity_of_a_closed_incident_comes_with_the_reasons_of_its_height():
    def updated(severity, why):
        return WHO, ev.IncidentUpdated(
            incident_id="inc-0001", agents=(WHO,), nats=20.0, severity=severity, severity_why=(why,), evidence=(), diagnosis=(), ruled_out=(),
            reason="",
        )  # fmt: skip

    story = [enrolled(WHO), (WHO, OPENED), updated(7.0, "cost ×8"), updated(5.0, "cost ×5")]
    now = incident_document(folded(*story).incidents["inc-0001"])
    assert (now["severity"], now["severity_why"], now["peak_severity_why"]) == (5.0, ["cost ×5"], ["cost ×8"])
    over = incident_document(folded(*story, (WHO, ev.IncidentClosed(incident_id="inc-0001", outcome="recovered", reason=""))).incidents["inc-0001"])
    assert (over["severity"], over["severity_why"]) == (7.0, ["cost ×8"])
