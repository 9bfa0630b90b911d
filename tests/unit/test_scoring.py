"""Each rule of scoring, with an example that fails if the rule is broken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.scoring import SeenIncident, SeenQuarantine, nearest_rank, score
from simulation.truth import Label

US = 1_000_000


def label(agent="a", kind="tool_loop", onset_s=100, ended_s=200, **more):
    ended_us = None if ended_s is None else ended_s * US
    return Label(kind=kind, agents=(agent,), onset_us=onset_s * US, reached_us=(onset_s * US,), ended_us=ended_us, strength=4.0, **more)


def shared(reached=(("a", 100), ("b", 150), ("c", 300)), ended_s=400):
    agents, times_s = zip(*reached, strict=True)
    times_us = tuple(time_s * US for time_s in times_s)
    return Label(
        kind="shared_outage", agents=agents, onset_us=min(times_us), reached_us=times_us, ended_us=ended_s * US, strength=3.0, cause="provider north"
    )


def incident(agents="a", opened_s=110, kind="tool_loop", scope="agent", name="i1"):
    return SeenIncident(incident_id=name, scope=scope, agents=tuple(agents), opened_at_us=opened_s * US, onset_us=opened_s * US, kind=kind)


def quarantine(agent="a", at_s=110):
    return SeenQuarantine(agent=agent, at_us=at_s * US)


@pytest.mark.parametrize(("opened_s", "found"), [(99, False), (100, True), (200, True), (260, True), (261, False)])
def test_an_infection_is_found_between_its_onset_and_its_end_and_a_minute(opened_s, found):
    result = score([label()], [incident(opened_s=opened_s)], [])
    assert (len(result.detected), len(result.missed)) == ((1, 0) if found else (0, 1))


def test_an_infection_that_never_ended_is_found_however_late():
    assert score([label(ended_s=None)], [incident(opened_s=9999)], []).detected[0].delay_s == 9899.0


def test_only_an_incident_of_its_own_agent_finds_an_infection():
    assert not score([label("a")], [incident("b")], []).detected
    assert not score([label("a")], [incident("a", scope="fleet"), incident("a", scope="service")], []).detected


def test_the_first_incident_in_time_counts_whatever_the_order_they_are_given_in():
    seen = [incident(opened_s=150, name="late"), incident(opened_s=120, name="early"), incident(opened_s=50, name="before")]
    (detection,) = score([label()], seen, []).detected
    assert (detection.incident_id, detection.delay_s) == ("early", 20.0)


def test_one_agent_infected_twice_is_two_infections():
    labels = [label(), label(onset_s=2000, ended_s=2100, kind="frozen")]
    result = score(labels, [incident(opened_s=2010, kind="frozen")], [])
    assert [d.label.kind for d in result.detected] == ["frozen"]
    assert [m.kind for m in result.missed] == ["tool_loop"]


def test_top1_is_the_share_of_the_found_that_were_called_by_their_name():
    labels = [label("a"), label("b", kind="frozen"), label("c")]
    result = score(labels, [incident("a"), incident("b", kind="unknown")], [])
    assert result.top1 == 0.5
    assert [d.right for d in result.detected] == [True, False]


def test_delays_are_summed_up_by_median_and_nearest_rank():
    labels = [label(name) for name in "abcde"]
    result = score(labels, [incident(name, opened_s=100 + delay) for name, delay in zip("abcde", (9, 1, 5, 3, 40), strict=True)], [])
    assert (result.delay_median_s, result.delay_p95_s) == (5.0, 40.0)


def test_where_nothing_was_found_there_is_no_delay_and_no_share():
    result = score([label()], [], [])
    assert (result.delay_median_s, result.delay_p95_s, result.top1) == (None, None, None)


@pytest.mark.parametrize(("at_s", "false"), [(99, True), (100, False), (200, False), (800, False), (801, True)])
def test_a_quarantine_is_false_unless_there_was_an_infection_up_to_ten_minutes_before(at_s, false):
    assert bool(score([label()], [], [quarantine(at_s=at_s)]).false_quarantines) is false


def test_a_quarantine_of_another_agent_is_false():
    assert score([label("a")], [], [quarantine("b")]).false_quarantines == (quarantine("b"),)


def test_every_false_quarantine_counts():
    assert len(score([], [], [quarantine("b"), quarantine("b", 200), quarantine("c")]).false_quarantines) == 3


@pytest.mark.parametrize(("agent", "at_s", "false"), [("a", 120, False), ("c", 120, True), ("c", 310, False), ("c", 1001, True), ("d", 310, True)])
def test_a_shared_cause_excuses_the_agents_it_had_reached_by_then(agent, at_s, false):
    assert bool(score([shared()], [], [quarantine(agent, at_s)]).false_quarantines) is false


@pytest.mark.parametrize(
    ("scope", "agents", "found"), [("fleet", "abc", True), ("service", "b", True), ("agent", "a", False), ("fleet", "xy", False)]
)
def test_a_shared_cause_is_found_by_an_incident_of_many_that_names_a_member(scope, agents, found):
    result = score([shared()], [incident(agents, scope=scope, kind="shared_outage")], [])
    assert bool(result.detected) is found


def test_a_relapse_is_no_infection_of_its_own_and_excuses_a_quarantine():
    labels = [label(ended_s=200), label(onset_s=1500, ended_s=None, relapse=True)]
    result = score(labels, [], [quarantine(at_s=1600)])
    assert len(result.injected) == len(result.missed) == 1
    assert not result.false_quarantines


def test_an_incident_about_somebody_who_was_well_is_reported_as_false():
    result = score([label("a")], [incident("a"), incident("b", name="i2"), incident(opened_s=50, name="i3")], [])
    assert [seen.incident_id for seen in result.false_incidents] == ["i2", "i3"]


def test_the_report_has_the_fields_that_people_rely_on():
    labels = [label("a"), label("b", kind="frozen"), shared()]
    seen = [incident("a"), incident("abc", scope="fleet", kind="shared_outage", name="i2")]
    report = json.loads(json.dumps(score(labels, seen, [quarantine("z")]).as_json()))
    assert [(one["agent"], one["kind"]) for one in report["injected"]] == [("a", "tool_loop"), ("b", "frozen"), ("provider north", "shared_outage")]
    assert report["injected"][0]["at"] == "1970-01-01T00:01:40.000000Z"
    assert {key: report["detected"][0][key] for key in ("agent", "kind", "delay_s", "diagnosed")} == {
        "agent": "a",
        "kind": "tool_loop",
        "delay_s": 10.0,
        "diagnosed": "tool_loop",
    }
    assert [(one["agent"], one["kind"]) for one in report["missed"]] == [("b", "frozen")]
    assert report["false_quarantines"] == [{"agent": "z", "at": "1970-01-01T00:01:50.000000Z"}]
    assert report["delay_s"] == {"median": 10.0, "p95": 10.0}
    assert report["diagnosis_top1"] == 1.0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 500)), max_size=8),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 900)), max_size=8),
)
def test_every_infection_is_either_found_or_missed_and_no_delay_is_negative(infected, opened):
    labels = [label(agent, onset_s=at_s, ended_s=at_s + 50) for agent, at_s in infected]
    result = score(labels, [incident(agent, opened_s=at_s) for agent, at_s in opened], [])
    assert len(result.detected) + len(result.missed) == len(labels)
    assert all(0 <= detection.delay_s <= 110 for detection in result.detected)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_nearest_rank_is_the_smallest_value_that_enough_values_do_not_exceed(values, share):
    found = nearest_rank(sorted(values), share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)
