"""Faults that are made to be missed: one that creeps in, one that was there from the start, one that spreads."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.sentinel_fleet import INPUT, LATENCY, Watch, alarms, learned

AGENTS = 20


@pytest.mark.fault("F45")
@pytest.mark.parametrize(("growth", "within"), [(0.002, 500), (0.01, 250)])
def test_a_fault_that_creeps_in_is_found_before_it_has_tripled(growth, within):
    watch = learned(AGENTS, 200)

    def creep(tick: int, values: np.ndarray) -> None:
        values[3, INPUT] *= np.exp(growth * max(0, tick - 200))

    found = 0
    for start in range(200, 200 + within, 25):
        if alarms(watch.run(start, start + 25, creep)) == {3}:
            found = start + 25 - 200
            break
    assert found, "a boiled frog"
    assert np.exp(growth * found) < 8


@pytest.mark.fault("F46")
def test_a_poisoned_warm_up_neither_blinds_to_others_nor_accuses_them_and_its_end_is_noticed():
    """One of twelve is sick from its first sample on. Nothing tells its illness from its normal until it changes."""
    watch = Watch(12, seed=4)

    def poisoned(tick: int, values: np.ndarray) -> None:
        if tick < 60:
            values[5, INPUT] *= 8
        if tick >= 200:
            values[8, LATENCY] *= 5

    quiet = watch.run(0, 60, poisoned)
    assert alarms(quiet) <= {5}, "the healthy are not accused for being unlike the sick"
    ended = watch.run(60, 200, poisoned)
    assert alarms(ended) == {5}, "that it ended is noticed, and is no reason to suspect the others"
    assert 8 in alarms(watch.run(200, 240, poisoned)), "others fall ill and are found all the same"


@pytest.mark.fault("F48")
def test_an_outage_that_spreads_from_one_to_the_next_is_one_cause_and_nobody_is_blamed():
    watch = learned(AGENTS, 200)

    def spreading(tick: int, values: np.ndarray) -> None:
        for member in range(7):
            if tick >= 200 + 4 * member:
                values[member, LATENCY] *= 5

    after = watch.run(200, 260, spreading)
    assert alarms(after[-10:]) == set()
    assert {agent for cohort in after[-1].cohorts for agent in cohort.agents} >= set(range(7))
    assert len(after[-1].cohorts) == 1
