"""What takes the sentinel hundreds of ticks to show, or not to show."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.sentinel import causes, drift, episodes
from immune.core.vitals import CONTEXT_FIELDS
from immune.core.words import Words
from tests.unit.sentinel_fleet import LATENCY, OUTPUT, RETRIES, TOOLS, Watch, alarms, at, learned
from tests.unit.test_sentinel_looping import run
from tests.unit.test_sentinel_shared import causes_in, outage
from tests.unit.test_sentinel_tasks import Tasks

TOOL = CONTEXT_FIELDS.index("tool")


def spree(tick: int, values: np.ndarray) -> None:
    """Four agents of one service, sick in four ways at once and for good."""
    if tick >= 200:
        values[1, OUTPUT] *= 6
        values[6, TOOLS] = values[6, TOOLS] * 4 + 3
        values[11, LATENCY] *= 4
        values[14, RETRIES] += 3


def handful(tick: int, values: np.ndarray) -> None:
    """Three of twelve say more from now on: too few to be taken for normal without anybody's word."""
    values[[1, 4, 7], OUTPUT] *= 2.5


def test_tasks_that_take_four_times_the_steps_are_evidence_though_every_step_is_usual() -> None:
    fleet = Tasks(3, seed=52, longer=2, longer_from=120)
    fleet.run(0, 300)
    shown = {item.vital for item in episodes.evidence(fleet.watch.sentinel.arena, 2, 4.0) if item.direction == "up"}
    others = [item for agent in (0, 1) for item in episodes.evidence(fleet.watch.sentinel.arena, agent, 7.0) if item.direction == "up"]
    assert {"task_steps", "task_duration_s", "task_tokens"} <= shown
    assert others == []


def test_a_slow_rise_is_found_against_the_reference_that_hardly_moves() -> None:
    watch = Watch(2, seed=56)
    watch.run(0, 330)

    def creep(tick: int, values: np.ndarray) -> None:
        values[1, OUTPUT] *= 1.006 ** ((tick - 330) / 2)

    assert alarms(watch.run(330, 600, creep)) == {1}
    assert np.log(1.1) > drift.TOLERANCE


def test_who_always_polled_in_runs_is_not_looping() -> None:
    def polls(tick: int, values: np.ndarray, codes: np.ndarray) -> None:
        if tick % 20 < 12:
            codes[:, TOOL], values[:, OUTPUT] = 1, 24

    assert alarms(run(Watch(6, seed=4), 0, 400, polls)) == set()


def test_a_change_of_a_few_becomes_normal_by_a_persons_word_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "LASTING_US", 60_000_000)
    monkeypatch.setattr(causes, "LEFT_OVER_US", 60_000_000)
    for word in (False, True):
        watch = learned(12, 100)
        if word:
            watch.sentinel.heed(Words(announced=(("fleet", ""),)), at(100))
        after = watch.run(100, 220, handful)
        assert any(found.taken_over for found in after) is word
        shown = {finding.agent for finding in after[-1].findings if finding.alarm}
        assert (shown == set()) if word else (shown >= {4, 7})


def test_different_symptoms_that_began_together_are_no_shared_cause_and_all_are_alarms_to_the_end() -> None:
    after = learned(16).run(200, 300, spree)
    assert causes_in(after) == set()
    assert alarms(after[-1:]) == {1, 6, 11, 14}


def test_who_was_blamed_alone_is_not_explained_by_a_cause_that_comes_later() -> None:
    watch = learned(20, 100)
    shared = outage(range(7, 14), 4.0, 260)

    def both(tick: int, values: np.ndarray) -> None:
        values[3, LATENCY] *= 4
        shared(tick, values)

    after = watch.run(100, 275, both)
    (found,) = after[-1].cohorts
    assert 3 not in found.agents
    assert alarms(after[-1:]) == {3}


def test_an_agent_whose_learning_is_stopped_keeps_its_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "ANNOUNCED_US", 30_000_000)
    watch = learned(12, 100)
    watch.sentinel.heed(Words(announced=(("fleet", ""),)), at(100))
    watch.sentinel.hold([4])
    after = watch.run(100, 200, handful)
    assert {agent for found in after for agents, _, _ in found.taken_over for agent in agents} == {1, 7}
