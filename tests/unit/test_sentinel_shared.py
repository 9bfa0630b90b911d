"""Many at once: a shared cause is one finding, and nobody is blamed for it. Larger fleets: tests/statistics and benchmarks/detection.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from immune.core.evidence import Assessment
from immune.core.vitals import SampleBatch
from immune.core.words import Words
from tests.unit.sentinel_fleet import COST, INPUT, LATENCY, OUTPUT, Watch, alarms, at, batch, learned

VERSION = 2
Change = Callable[[int, np.ndarray], None]


def outage(agents: range, factor: float, start: int, *, apart: int = 0) -> Change:
    """Latency of these agents, one after the other."""

    def change(tick: int, values: np.ndarray) -> None:
        hit = [agent for nth, agent in enumerate(agents) if tick >= start + nth * apart]
        values[hit, LATENCY] *= factor

    return change


def causes_in(assessments: list[Assessment]) -> set[tuple[str, str, str]]:
    return {(cohort.key, cohort.field, cohort.value) for found in assessments for cohort in found.cohorts}


def test_the_outage_is_known_within_ten_ticks() -> None:
    watch = learned(20, 100)
    after = watch.run(100, 110, outage(range(7), 5.0, 100))
    assert after[-1].cohorts
    assert alarms(after) == set()


def test_a_truly_sick_agent_inside_an_outage_is_found() -> None:
    watch = learned(20, 100)
    shared = outage(range(7), 4.0, 100)

    def both(tick: int, values: np.ndarray) -> None:
        shared(tick, values)
        if tick >= 105:
            values[3, OUTPUT] *= 6
        if tick >= 105:
            values[4, LATENCY] *= 8

    assert alarms(watch.run(100, 150, both)) == {3, 4}


def test_agents_that_came_a_moment_ago_do_not_vote() -> None:
    """Invented agents that all look alike must not make a sick one look like one of many."""
    watch = Watch(12)
    for tick in range(100):
        watch.sentinel.observe(batch(tick, watch.healthy()[:4], np.arange(4)), at(tick))
    after = watch.run(100, 129, outage(range(3, 12), 8.0, 111))
    assert causes_in(after) == set()
    assert 3 in alarms(after)


def test_a_service_that_falls_silent_at_once_is_one_cause() -> None:
    watch = learned(20, 100)
    quiet = watch.sentinel.observe(SampleBatch.empty(), at(130))
    assert quiet.silent.all()
    assert alarms([quiet]) == set()
    assert len(quiet.cohorts) == 1


@pytest.mark.slow
def test_who_falls_silent_later_is_no_part_of_it_and_the_others_stay_explained() -> None:
    watch = learned(20, 100)
    for tick in range(100, 240):
        speaking = np.arange(8 if tick < 180 else 7)
        found = watch.sentinel.observe(batch(tick, watch.healthy()[: len(speaking)], speaking), at(tick))
        if tick in (120, 170, 230):
            assert alarms([found]) == ({7} if tick == 230 else set())
            assert len({cohort.key for cohort in found.cohorts}) == 1


@pytest.mark.slow
def test_two_agents_sick_in_two_ways_are_no_shared_cause() -> None:
    watch = learned()

    def two(tick: int, values: np.ndarray) -> None:
        values[1, LATENCY] *= 5
        values[6, OUTPUT] *= 5

    after = watch.run(200, 225, two)
    assert alarms(after) == {1, 6}
    assert not any(a.cohorts for a in after)


def test_samples_that_come_late_open_nothing_twice() -> None:
    watch = learned(20, 100)
    change = outage(range(7), 5.0, 100)
    seen = watch.run(100, 130, change)
    for tick in range(130, 150):
        fresh, old = watch.healthy(), watch.healthy()
        change(tick, fresh)
        change(tick, old)
        late = batch(tick - 8, old[10:], np.arange(10, 20))
        seen.append(watch.sentinel.observe(SampleBatch.concatenate([batch(tick, fresh[:10], np.arange(10)), late]), at(tick)))
    assert len(causes_in(seen)) == 1


def test_causes_and_cohorts_go_on_after_a_restart_bit_for_bit() -> None:
    watch, twin = learned(20, 100), learned(20, 100)
    words = Words(announced=(("type", "kind0"),))
    watch.sentinel.heed(words, at(100))
    watch.run(100, 130, outage(range(7), 5.0, 100))
    stored = watch.sentinel.snapshot()
    twin.sentinel.restore(stored)
    assert twin.sentinel.snapshot() == stored
    twin.rng = np.random.default_rng(5)
    watch.rng = np.random.default_rng(5)
    for one in (watch, twin):
        one.sentinel.heed(words, at(130))
        one.run(130, 170, outage(range(7), 5.0, 100))
    assert watch.sentinel.snapshot() == twin.sentinel.snapshot()


def test_what_one_member_of_a_small_outage_shows_is_no_symptom_of_the_outage() -> None:
    shared = outage(range(3), 5.0, 100)

    def both(tick: int, values: np.ndarray) -> None:
        shared(tick, values)
        if tick >= 130:
            values[1, OUTPUT] *= 5
            values[1, COST] = 3e-6 * values[1, INPUT] + 12e-6 * values[1, OUTPUT]

    after = learned(20, 100).run(100, 150, both)
    (found,) = after[-1].cohorts
    assert set(found.agents) == {0, 1, 2}
    assert alarms(after) == {1}


# -- who was blamed before


@pytest.mark.slow
def test_who_was_blamed_before_the_cause_was_known_and_shows_what_the_others_show_is_let_go() -> None:
    after = learned(20, 100).run(100, 205, outage(range(7), 4.0, 100, apart=20))
    assert alarms(after[:24]) == {0}, "the first one stands alone for a while"
    assert alarms(after[-3:]) == set()


def test_who_was_blamed_before_the_cause_was_known_and_shows_far_more_is_not() -> None:
    watch = learned(20, 100)
    shared = outage(range(7), 2.5, 130)

    def both(tick: int, values: np.ndarray) -> None:
        shared(tick, values)
        values[2, LATENCY] *= 12 if tick < 130 else 12 / 2.5

    assert alarms(watch.run(100, 160, both)[-5:]) == {2}
