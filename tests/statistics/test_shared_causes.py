"""Shared causes that take their time: outages that spread, deploys, changes that last."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # behind the root: there is a dashboard.py in it, too

from trials.watching import sentinel_over
from workloads import START_US, STRONG, Fleet, strong_fault, struck

from immune.core.evidence import Assessment
from immune.core.sentinel import causes
from immune.core.words import Words
from tests.unit.sentinel_fleet import COST, INPUT, LATENCY, OUTPUT, TOOLS, Watch, alarms, at, batch, learned
from tests.unit.test_sentinel_shared import Change, causes_in, outage

VERSION = 2


def deploy(members: list[int], start: int) -> Change:
    """These agents say more and read less from now on."""

    def change(tick: int, values: np.ndarray) -> None:
        if tick >= start:
            values[members, OUTPUT] = np.rint(values[members, OUTPUT] * 2.0)
            values[members, INPUT] = np.rint(values[members, INPUT] / 1.8)
            values[members, COST] = 3e-6 * values[members, INPUT] + 12e-6 * values[members, OUTPUT]

    return change


def run(watch: Watch, first: int, last: int, change: Change, version: np.ndarray | None = None) -> list[Assessment]:
    """As `Watch.run`, with a version in every sample."""
    found = []
    for tick in range(first, last):
        values = watch.healthy()
        change(tick, values)
        sample = batch(tick, values)
        if version is not None:
            sample.codes[:, VERSION] = version
        found.append(watch.sentinel.observe(sample, at(tick)))
    return found


def test_an_outage_that_spreads_is_one_cause_and_blames_hardly_anyone() -> None:
    watch = learned(40, 100)
    after = watch.run(100, 190, outage(range(12), 4.0, 100, apart=5))
    assert len(causes_in(after)) == 1
    assert len(alarms(after)) <= 1
    assert alarms(after[-30:]) == set(), "whoever was blamed before it was known is let go"


def test_agents_infected_one_after_the_other_are_no_shared_cause() -> None:
    watch = learned(40, 100)

    def spree(tick: int, values: np.ndarray) -> None:
        for nth, agent in enumerate((2, 11, 23, 35)):
            if tick >= 100 + 20 * nth:
                values[agent, TOOLS] = values[agent, TOOLS] * 5 + 3

    after = watch.run(100, 200, spree)
    assert alarms(after) == {2, 11, 23, 35}
    assert causes_in(after) == set()


# -- changes of behaviour


MEMBERS = [1, 5, 9, 13, 17]


def versions(watch: Watch, members: list[int]) -> np.ndarray:
    version = np.full(watch.agents, watch.lexicon.code("1"))
    version[members] = watch.lexicon.code("2")
    return version


@pytest.mark.parametrize("told", [True, False])
def test_a_deploy_to_a_part_of_the_fleet_is_one_cause_by_name_and_nobody_in_it_is_blamed(told: bool) -> None:
    watch = learned(20, 120)
    if told:
        run(watch, 119, 120, deploy(MEMBERS, 121), versions(watch, []))
    after = run(watch, 120, 250, deploy(MEMBERS, 121), versions(watch, MEMBERS) if told else None)
    assert alarms(after) == set()
    ((_, field, value),) = causes_in(after)
    assert (field, value) == (("version", "2") if told else ("", ""))
    named = {change[:3] for found in after for cohort in found.cohorts for change in cohort.changed}
    assert named == ({("version", "1", "2")} if told else set())


def test_an_announced_change_soon_becomes_normal_and_that_is_told() -> None:
    watch = learned(20, 100)
    watch.sentinel.heed(Words(announced=(("version", "2"),)), at(100))
    after = run(watch, 100, 240, deploy(MEMBERS, 101), versions(watch, MEMBERS))
    assert alarms(after) == set()
    assert len(causes_in(after)) == 1
    taken = [(agents, basis) for found in after for agents, _, basis in found.taken_over]
    assert {basis for _, basis in taken} == {"announced"}
    assert {agent for agents, _ in taken for agent in agents} == set(MEMBERS)
    assert not any(finding.alarm for finding in after[-1].findings), "and then it is over"


def test_a_lone_agent_whose_change_was_announced_is_not_blamed_and_one_that_goes_far_beyond_is() -> None:
    watch = learned(20, 100)
    watch.sentinel.heed(Words(announced=(("version", "2"),)), at(100))
    version = versions(watch, [5, 9])

    def change(tick: int, values: np.ndarray) -> None:
        values[5, OUTPUT] *= 2.5
        values[9, OUTPUT] *= 30

    assert alarms(run(watch, 101, 160, change, version)) == {9}


def test_a_change_that_lasts_becomes_normal_after_a_while_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "LASTING_US", 100_000_000)
    watch = learned(20, 120)
    after = run(watch, 120, 300, deploy(MEMBERS, 121))
    assert alarms(after) == set()
    assert {basis for found in after for _, _, basis in found.taken_over} == {"lasting"}


def test_a_sick_agent_among_those_that_were_changed_is_found() -> None:
    watch = learned(20, 100)
    shared = deploy(MEMBERS, 101)

    def both(tick: int, values: np.ndarray) -> None:
        shared(tick, values)
        if tick >= 130:
            values[9, OUTPUT] *= 5
            values[13, TOOLS] = values[13, TOOLS] * 5 + 3

    assert alarms(run(watch, 100, 190, both, versions(watch, MEMBERS))) == {9, 13}


def test_a_cohort_that_moves_a_little_is_noticed_and_is_no_incident_until_it_explains_an_alarm() -> None:
    watch = learned(40, 200)

    def little(tick: int, values: np.ndarray) -> None:
        values[:, LATENCY] *= 1.25

    after = watch.run(200, 240, little)
    assert watch.sentinel.shared.causes
    assert causes_in(after) == set()
    assert alarms(after) == set()


def test_a_cause_is_not_named_after_the_cohort_that_happened_to_show_it_first() -> None:
    watch = learned(20, 120, types=4)
    after = run(watch, 120, 200, deploy([0, 4, 8, 1, 5, 2, 6, 3, 7], 121))
    assert alarms(after) == set()
    assert {(field, value) for _, field, value in causes_in(after[-20:])} == {("", "")}


# -- singles


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7000, 1070])
def test_six_faults_at_once_in_a_fleet_of_24_share_no_cause_and_none_of_them_becomes_normal(seed: int) -> None:
    """Each in its own way. Sums over services of three once carried a single sick agent, which was explained and then learned."""
    rng = np.random.default_rng([seed, 10])
    fleet = Fleet("diurnal", 24, seed)
    faults = [strong_fault(kind, 3 * index, 900, rng) for index, kind in enumerate(STRONG)]
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    found = [sentinel.observe(sample, START_US + t * 1_000_000) for t, sample in struck(fleet, faults, 1500)]
    assert {fault.agent for fault in faults} <= alarms(found[-30:])
    sick_explained = {f.explained_by for a in found for f in a.findings if f.explained_by and f.agent in {fault.agent for fault in faults}}
    assert sick_explained == set()
    assert not any(a.taken_over for a in found)
