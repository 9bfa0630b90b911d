"""The sentinel over fleets and hours: no false alarm, faults that last, outages with bystanders and with the truly sick inside."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.sentinel_fleet import ERRORS, LATENCY, OUTPUT, TOOLS, Watch, alarms


def spike(agent: int, column: int, factor: float):
    def change(tick: int, values: np.ndarray) -> None:
        values[agent, column] *= factor

    return change


def outage(agents: range, factor: float, start: int):
    def change(tick: int, values: np.ndarray) -> None:
        if tick >= start:
            values[list(agents), LATENCY] *= factor

    return change


def test_a_healthy_fleet_gives_no_alarm() -> None:
    assert alarms(Watch(60, seed=11).run(0, 200)) == set()


def test_a_lone_agent_does_not_cry_wolf_while_young_but_a_tenfold_fault_after_an_hundred_samples_is_found() -> None:
    for seed in range(4):
        lone = Watch(1, seed=seed)
        assert alarms(lone.run(0, 100)) == set()
        found = lone.run(100, 130, spike(0, LATENCY, 10.0))
        assert alarms(found) == {0}


def test_a_sustained_fault_is_still_an_alarm_after_an_hour() -> None:
    watch = Watch(2, seed=7)
    watch.run(0, 300)
    last = watch.run(300, 3900, spike(0, OUTPUT, 4.0))[-1]
    assert [finding.agent for finding in last.findings if finding.alarm and finding.present] == [0]


@pytest.mark.fault("F47")
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
