from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core.policy import LimitsPolicy
from immune.core.vitals import CONTEXT_FIELDS, Lexicon, Roster, Status, VitalSchema
from immune.ports import Desk
from immune.sources.ingest import IngestSource

US = 1_000_000
NOW_US = 1_767_225_600 * US


def opened(roster_limit=1000, **limits):
    source = IngestSource(replace(LimitsPolicy(), **limits))
    desk = Desk(roster=Roster(limit=roster_limit), lexicon=Lexicon(), schema=VitalSchema())
    source.open(desk)
    return source, desk


def collect(source):
    return asyncio.run(source.collect(NOW_US))


def test_a_sample_arrives_as_it_was_said():
    source, desk = opened()
    row = {
        "agent": "a",
        "at": NOW_US / US - 1,
        "latency_ms": 12.5,
        "errors": 0,
        "model": "m1",
        "task_id": "t",
        "step": 3,
        "status": "working",
        "type": "w",
        "service": "s",
    }
    assert source.offer([row], NOW_US) == []
    batch = collect(source)
    assert desk.roster.identities[0].type == "w"
    assert desk.roster.identities[0].service == "s"
    assert batch.at_us.tolist() == [NOW_US - US]
    assert batch.values[0, desk.schema.column("latency_ms")] == 12.5
    assert batch.values[0, desk.schema.column("errors")] == 0
    assert math.isnan(batch.values[0, desk.schema.column("cost_usd")]), "absent is missing, never 0"
    assert desk.lexicon.word(batch.codes[0, CONTEXT_FIELDS.index("model")]) == "m1"
    assert (batch.step[0], batch.status[0]) == (3, Status.WORKING)


def test_samples_without_a_time_are_of_now_one_after_the_other():
    source, _ = opened()
    source.offer([{"agent": "a"}, {"agent": "b"}, {"agent": "a"}], NOW_US)
    source.offer([{"agent": "a"}], NOW_US)
    assert collect(source).at_us.tolist() == [NOW_US, NOW_US, NOW_US + 1, NOW_US + 2]


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"agent": "a", "latency_ms": "fast"}, "latency_ms", "not_a_number"),
        ({"agent": "a", "latency_ms": float("nan")}, "latency_ms", "nan"),
        ({"agent": "a", "latency_ms": float("inf")}, "latency_ms", "infinite"),
        ({"agent": "a", "latency_ms": -1}, "latency_ms", "negative"),
        ({"agent": "a", "latency_ms": 10**400}, "latency_ms", "absurd"),
        ({"agent": "a", "latency_ms": True}, "latency_ms", "not_a_number"),
        ({"agent": "a", "latency_ms": [1]}, "latency_ms", "not_a_number"),
        ({"agent": "a", "at": "soon"}, "at", "bad_time"),
        ({"agent": "a", "at": NOW_US / US + 301}, "at", "future"),
        ({"agent": ""}, "agent", "missing_agent"),
        ({"agent": 7}, "agent", "bad_id"),
        ({"agent": "a\nb"}, "agent", "bad_id"),
        ({"agent": "a" * 129}, "agent", "bad_id"),
        ({"agent": "\ud800"}, "agent", "encoding"),
        ({}, "agent", "missing_agent"),
        ("text", "", "not_an_object"),
        (None, "", "not_an_object"),
        ([], "", "not_an_object"),
    ],
)
def test_what_cannot_be_taken_is_named_with_index_field_and_reason(row, field, reason):
    source, desk = opened()
    [away] = source.offer([{"agent": "good"}, row], NOW_US, first_index=250)
    assert (away.index, away.field, away.reason) == (251, field, reason)
    assert len(away.value) <= 80
    assert len(desk.roster) == 1
    assert source.counts.rejected == {reason: 1}


def test_a_full_queue_takes_no_more_and_says_so():
    source, _ = opened(ingest_queue_samples=3)
    away = source.offer([{"agent": f"a{n}"} for n in range(5)], NOW_US)
    assert [one.reason for one in away] == ["queue_full", "queue_full"]
    assert (source.waiting, source.room) == (3, 0)
    collect(source)
    assert (source.waiting, source.room) == (0, 3)


@pytest.mark.fault("F30")
def test_new_agents_come_in_as_fast_as_the_policy_lets_them_and_known_ones_are_not_harmed():
    source, desk = opened(roster_limit=100_000, enrolments_at_once=100, enrolments_per_s=10)
    source.offer([{"agent": "known"}], NOW_US)
    away = source.offer([{"agent": f"new-{n}"} for n in range(1_000)], NOW_US)
    assert {one.reason for one in away} == {"enrolling_too_fast"}
    assert len(desk.roster) == 100
    assert source.offer([{"agent": "known"}], NOW_US) == []
    assert len(source.offer([{"agent": f"later-{n}"} for n in range(50)], NOW_US + 2 * US)) == 30
    assert source.counts.enrolled == 120


def test_a_full_fleet_takes_no_new_agent():
    source, desk = opened(roster_limit=2)
    away = source.offer([{"agent": name} for name in "abca"], NOW_US)
    assert [(one.index, one.reason) for one in away] == [(2, "fleet_full")]
    assert len(desk.roster) == 2


@pytest.mark.fault("F23")
def test_a_clock_that_goes_back_gives_no_extra_enrolments():
    source, _ = opened(enrolments_at_once=1, enrolments_per_s=1)
    assert source.offer([{"agent": "a"}], NOW_US) == []
    assert len(source.offer([{"agent": "b"}], NOW_US - 3600 * US)) == 1


@pytest.mark.fault("F26")
def test_what_comes_out_of_order_is_handed_over_in_order():
    source, _ = opened()
    source.offer([{"agent": "a", "at": NOW_US / US - back} for back in (1, 3, 2)], NOW_US)
    assert np.all(np.diff(collect(source).at_us) > 0)


rows = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.fixed_dictionaries(
        {"agent": st.one_of(st.text(max_size=4), st.integers(), st.none())},
        optional={
            "at": st.one_of(st.floats(), st.text(max_size=5)),
            "latency_ms": st.one_of(st.floats(), st.text(max_size=3)),
            "step": st.integers(),
        },
    ),
)


@given(st.lists(st.lists(rows, max_size=8), max_size=5))
def test_the_account_is_exact_whatever_comes(requests):
    source, desk = opened(roster_limit=5, ingest_queue_samples=12, enrolments_at_once=4)
    for request in requests:
        away = source.offer(request, NOW_US)
        assert len({one.index for one in away}) == len(away)
    counts = source.counts
    assert counts.offered == sum(map(len, requests)) == counts.accepted + sum(counts.rejected.values())
    assert counts.accepted == source.waiting + counts.delivered
    assert len(collect(source)) == counts.accepted
    assert counts.delivered == counts.accepted
    assert len(desk.roster) <= 4
