"""A run that goes on for months keeps what is open, what open things rest on, and the newest of what has ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immune.core import acts, forgetting
from immune.core import events as ev
from immune.core.events import GENESIS, seal
from immune.core.fold import canonical_hash, fold
from immune.core.forgetting import GROWING, ROOM, SLACK
from immune.core.state import RunState
from immune.stores.archive import read_archive
from tests.drawn_events import drafts
from tests.effort import examples
from tests.unit.test_fold import NOW, contained, enrolled, folded, planned, released

GOLDEN = min((Path(__file__).resolve().parents[1] / "golden").glob("journal-*.jsonl.gz"))


def opened(incident_id, agent_id):
    event = ev.IncidentOpened(
        incident_id=incident_id, scope="agent", cohort="", agents=(agent_id,), onset_us=0, nats=20.0, threshold_nats=18.0, severity=5.0,
        severity_why=(), evidence=(), diagnosis=(), ruled_out=(), changed=(), policy_version="",
    )  # fmt: skip
    return agent_id, event


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(forgetting, "SLACK", 0)


@pytest.mark.fault("F55")
@pytest.mark.parametrize("keep", [1, 3, 10])
def test_a_whole_story_ends_with_the_same_open_things_however_little_is_kept(eager, keep):
    envelopes = list(read_archive(GOLDEN))
    for cut in range(20, len(envelopes), 20):
        whole, some = fold(RunState(), envelopes[:cut]), fold(RunState(keep=keep), envelopes[:cut])
        assert some.agents == whole.agents
        for name in ("open_incidents", "active_containments", "open_plans", "open_approvals", "open_tasks"):
            assert getattr(some, name) == getattr(whole, name)
        for kind, open_ones in (("incidents", "open_incidents"), ("plans", "open_plans"), ("containments", "active_containments")):
            kept, all_of_them = getattr(some, kind), getattr(whole, kind)
            assert set(getattr(whole, open_ones)) <= set(kept) <= set(all_of_them)
            assert {key: all_of_them[key] for key in kept} == kept, "what is kept is what it was"
            assert some.ever(kind) == whole.ever(kind), "and names go on where they were"
        for plan_id in some.open_plans:
            assert some.plans[plan_id].incident_id in some.incidents
        for containment in (some.containments[key] for key in some.active_containments):
            assert not containment.incident_id or containment.incident_id in some.incidents


@settings(max_examples=examples(40))
@given(st.lists(drafts(), max_size=14), st.lists(st.integers(0, 14), max_size=4))
def test_any_chunking_forgets_the_same(some, cuts):
    envelopes = seal("r", some, 0, GENESIS)
    whole = fold(RunState(keep=2), envelopes)
    state = RunState(keep=2)
    for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), len(envelopes)], strict=True):
        state = fold(state, envelopes[first:last])
    assert canonical_hash(state) == canonical_hash(whole)


@pytest.mark.fault("F55")
def test_the_state_of_a_run_that_never_ends_stops_growing():
    story = [enrolled("a-0", 0)]
    for n in range(1, 400):
        incident_id = f"inc-{n:04d}"
        story += [opened(incident_id, "a-0"), contained(f"con-{n}", "agent", "a-0"), released(f"con-{n}", "a-0")]
        story.append(("a-0", ev.IncidentClosed(incident_id=incident_id, outcome="recovered", reason="")))
    state = folded(*story, state=RunState(keep=20))
    assert len(state.incidents) <= 20 + SLACK + 1
    assert len(state.containments) <= 20 + SLACK + 1
    assert list(state.incidents)[-1] == "inc-0399"
    assert state.forgotten["incidents"] == 399 - len(state.incidents)
    assert folded(*story).ever("incidents") == state.ever("incidents") == 399


def cured(n, agent_id="a-0"):
    proposed = replace(planned(f"plan-{n}")[0][1], incident_id=f"inc-{n}")
    started = acts.PlanStarted(plan_id=f"plan-{n}", trigger="auto", request_id="")
    ended = acts.PlanEnded(plan_id=f"plan-{n}", outcome="succeeded", reason="")
    return [(agent_id, proposed), (agent_id, started), (agent_id, ended)]


def test_a_cure_is_known_for_an_hour_however_many_came_after_it_so_that_a_relapse_takes_it_back():
    later = [event for n in range(1, 200) for event in cured(n)]
    state = folded(*cured(0), *later, state=RunState(keep=60))
    assert next(iter(state.plans)) == "plan-0", "200 cures in ten minutes, and 60 ended plans are kept"
    aware = folded(("a-0", acts.Relapsed(plan_id="plan-0", incident_id="inc-later", after_s=600.0)), state=state)
    assert aware.plans["plan-0"].relapsed
    an_hour_on = folded(*[event for n in range(200, 300) for event in cured(n)], state=aware, at_us=NOW + 2 * 3_600_000_000)
    assert "plan-0" not in an_hour_on.plans
    assert len(an_hour_on.plans) <= ROOM * 60 + SLACK


def test_cures_are_bounded_too():
    state = folded(*[event for n in range(400) for event in cured(n)], state=RunState(keep=20))
    assert len(state.plans) <= ROOM * 20 + SLACK
    assert state.ever("plans") == 400


def test_experience_is_bounded_too():
    entries = tuple((f"kind-{n}", "restart_agent", 1, 0) for n in range(200))
    state = folded(("r", acts.MemoryInherited(from_run="r-0", entries=entries)), state=RunState(keep=10))
    assert len(state.memory) == ROOM * 10
    assert state.forgotten["memory"] == 200 - ROOM * 10


def test_nothing_is_forgotten_unless_a_run_was_told_to():
    assert RunState().keep == 0
    assert replace(RunState(), keep=5).keep == 5


def test_every_event_that_adds_something_is_known_to():
    adding = {ev.IncidentOpened, acts.Contained, acts.PlanProposed, acts.ApprovalRequested, acts.TaskAssigned}
    assert adding <= GROWING
