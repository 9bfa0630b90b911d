"""The whole daemon in a world of faults: crashes at every await and write, bad disks, bad networks, bad clocks, bad hands, people who disagree.

A history that breaks a rule is cut down to the shortest that still does. `benchmarks/reliability.py` plays as many as there is time for.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from immune.core import acts
from immune.core import events as ev
from immune.core.commands import Commands
from proving.auditor import BreachError
from proving.history import History
from proving.script import Fault, Script, Setting, write, write_for_the_sentinel
from proving.shrink import shrink

CI = bool(os.environ.get("CI"))
QUICK = 10
"""Played in half a second."""
RICH = 120
"""From here on they are played in CI only."""
ENOUGH = 400
"""Among so many, everything that can happen does: the rarest, a relapse, comes once in some eighty."""
MANY = 3000
HISTORIES_AT_ONCE = 5


def play(script: Script):
    """Play it; if a rule breaks, say which, and the shortest history that breaks it."""
    try:
        return History(script).play()
    except BreachError as breach:
        rule = breach.rule
        shortest = shrink(script, lambda fewer: breaks(fewer, rule), tries=120)
        raise AssertionError(f"{breach}\nseed {script.setting.seed}, cut down to:\n{shortest}") from breach


def breaks(script: Script, rule: str) -> bool:
    try:
        History(script).play()
    except BreachError as breach:
        return breach.rule == rule
    return False


@pytest.fixture(scope="module")
def kinds_seen():
    return set()


@pytest.mark.fault("F23", "F24", "F25", "F26", "F27", "F28", "F50", "F51", "F52", "F57")
@pytest.mark.parametrize("first", range(HISTORIES_AT_ONCE))
def test_whatever_happens_the_invariants_hold_and_everything_comes_to_an_end(first, kinds_seen):
    outcomes = [play(write(seed)) for seed in range(first, QUICK, HISTORIES_AT_ONCE)]
    assert sum(outcome.escaped for outcome in outcomes) == 0
    assert sum(outcome.crashes for outcome in outcomes) > 0
    kinds_seen |= {kind for outcome in outcomes for kind in outcome.kinds}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, RICH))
def test_a_hundred_more(seed, kinds_seen):
    kinds_seen |= set(play(write(seed)).kinds)


@pytest.mark.slow
def test_the_histories_are_rich_enough_to_mean_something(kinds_seen):
    elsewhere = {
        "fact_changed",  # tests/unit/test_sentinel.py: facts are what the real sentinel compares
        "child_failed",  # tests/unit/test_supervisor and tests/integration: the histories have no children
        "memory_inherited",  # tests/unit/test_engine.py: a warm start
        "loop_stalled",  # the watchdog's thread has no place on a virtual clock
        "muted",  # words of people about single vitals: tests/unit/test_commands.py
        "rebased",
        "person_told",  # no notifier in the histories: tests/unit and tests/integration of notify
    }
    for seed in range(RICH, ENOUGH):
        if set(ev.KINDS) - elsewhere <= kinds_seen:
            break
        kinds_seen |= set(play(write(seed)).kinds)
    assert set(ev.KINDS) - elsewhere - kinds_seen == set()
    assert acts.Relapsed.kind in kinds_seen


@pytest.mark.slow
@pytest.mark.skipif(not CI, reason="thousands of histories belong to CI")
@pytest.mark.parametrize("part", range(50))
def test_thousands_more(part):
    for seed in range(RICH + part, RICH + MANY, 50):
        play(write(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2, 320, 1400])  # the last two once took an hour without the daemon for everybody's silence
def test_nothing_breaks_under_the_eyes_of_the_real_sentinel_either(seed):
    outcome = play(write_for_the_sentinel(seed))
    assert "incident_opened" in outcome.kinds, "it has learnt enough to see somebody fall ill"
    assert outcome.crashes + outcome.restarts > 1, "and was put down and taken up again"
    assert outcome.escaped == 0


def test_a_seed_is_played_the_same_way_every_time():
    first, second = History(write(11)).play(), History(write(11)).play()
    assert first == second
    assert History(write(12)).play().head != first.head


def test_a_fault_that_is_taken_out_leaves_the_others_as_they_are():
    script = write(5)
    fewer = replace(script, faults=script.faults[1:])
    assert set(script.faults) - set(fewer.faults) == {script.faults[0]}


@pytest.mark.slow
def test_a_seed_that_fails_prints_the_shortest_history_that_still_does(monkeypatch):
    monkeypatch.setattr(Commands, "_still_open", lambda self, request: None)  # a request may be decided as often as one likes
    with pytest.raises(AssertionError) as failed:
        play(write(7))
    rule, seed, *shortest = str(failed.value).splitlines()
    assert rule.startswith("I15: ")
    assert seed == "seed 7, cut down to:"
    assert len(shortest) - 1 < len(write(7).faults) / 4, "the setting, and the few faults that are needed"
    assert {fault.split()[2] for fault in shortest[1:]} == {"sick", "agree"}


def test_the_shortest_history_is_found():
    """Which two of many faults are needed is found out, and nothing else is kept."""
    needed = {Fault(7, "sick", 1), Fault(31, "crash", 2)}
    script = Script(setting=Setting(), faults=tuple(sorted(needed | {Fault(n, "say", n) for n in range(40)})))
    shortest = shrink(script, lambda fewer: needed <= set(fewer.faults))
    assert set(shortest.faults) == needed
