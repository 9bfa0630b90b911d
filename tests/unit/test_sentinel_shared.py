"""Many at once: a shared cause is one finding, and nobody is blamed for it. Larger fleets: tests/statistics."""

from __future__ import annotations

import numpy as np

from immune.core.vitals import SampleBatch
from tests.unit.sentinel_fleet import LATENCY, OUTPUT, alarms, at, learned


def outage(agents: range, factor: float, start: int):
    def change(tick: int, values: np.ndarray) -> None:
        if tick >= start:
            values[list(agents), LATENCY] *= factor

    return change


def test_the_outage_is_known_within_ten_ticks() -> None:
    watch = learned(20, 100)
    after = watch.run(100, 110, outage(range(7), 5.0, 100))
    assert after[-1].cohorts
    assert alarms(after) == set()


def test_a_service_that_falls_silent_at_once_is_one_cause() -> None:
    watch = learned(20, 100)
    quiet = watch.sentinel.observe(SampleBatch.empty(), at(130))
    assert quiet.silent.all()
    assert alarms([quiet]) == set()
    assert len(quiet.cohorts) == 1


def test_two_agents_sick_in_two_ways_are_no_shared_cause() -> None:
    watch = learned()

    def two(tick: int, values: np.ndarray) -> None:
        values[1, LATENCY] *= 5
        values[6, OUTPUT] *= 5

    after = watch.run(200, 225, two)
    assert alarms(after) == {1, 6}
    assert not any(a.cohorts for a in after)
