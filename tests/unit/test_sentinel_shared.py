"""Many at once: a shared cause is one finding, bystanders are explained, the truly sick are not."""

from __future__ import annotations

import numpy as np

from tests.unit.sentinel_fleet import ERRORS, LATENCY, OUTPUT, TOOLS, Watch, alarms


def outage(agents: range, factor: float, start: int):
    def change(tick: int, values: np.ndarray) -> None:
        if tick >= start:
            values[list(agents), LATENCY] *= factor

    return change


def test_an_outage_of_a_third_of_the_fleet_is_one_cause_and_nobody_is_blamed() -> None:
    watch = Watch(60, seed=31)
    watch.run(0, 150)
    after = watch.run(150, 190, outage(range(20), 3.0, 150))
    assert alarms(after) == set()
    assert {len(a.cohorts) for a in after[10:]} == {1}
    cause = after[-1].cohorts[0]
    assert cause.alarm
    assert cause.present
    assert set(range(18)) <= set(cause.agents) | set(range(2, 18))
    assert len(set(cause.agents) - set(range(20))) <= 1
    assert cause.evidence[0].vital.startswith("latency")


def test_the_outage_is_known_within_ten_ticks() -> None:
    watch = Watch(60, seed=32)
    watch.run(0, 150)
    after = watch.run(150, 160, outage(range(20), 3.0, 150))
    assert after[-1].cohorts


def test_a_sick_agent_inside_an_outage_is_still_found() -> None:
    watch = Watch(60, seed=33)
    watch.run(0, 150)

    def both(tick: int, values: np.ndarray) -> None:
        values[:20, LATENCY] *= 3
        values[7, TOOLS] = values[7, TOOLS] * 5 + 3
        values[3, OUTPUT] *= 6

    assert alarms(watch.run(150, 180, both)) == {3, 7}


def test_three_agents_sick_in_three_ways_are_no_shared_cause() -> None:
    watch = Watch(15, seed=34, types=4)
    watch.run(0, 300)

    def three(tick: int, values: np.ndarray) -> None:
        values[1, LATENCY] *= 5
        values[6, OUTPUT] *= 5
        values[11, ERRORS] += 1 + tick % 2

    after = watch.run(300, 330, three)
    assert alarms(after) == {1, 6, 11}
    assert not any(a.cohorts for a in after)


def test_a_service_that_falls_silent_at_once_is_one_cause() -> None:
    watch = Watch(12, seed=35)
    watch.run(0, 100)
    from immune.core.vitals import SampleBatch
    from tests.unit.sentinel_fleet import at

    quiet = watch.sentinel.observe(SampleBatch.empty(), at(130))
    assert quiet.silent.all()
    assert alarms([quiet]) == set()
    assert len(quiet.cohorts) == 1
