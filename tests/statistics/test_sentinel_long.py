"""What takes the sentinel hundreds of ticks to show, or not to show."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.sentinel import causes, drift, episodes
from immune.core.vitals import CONTEXT_FIELDS
from immune.core.words import Words
from tests.unit.sentinel_fleet import OUTPUT, Watch, alarms, at, learned
from tests.unit.test_sentinel_looping import run
from tests.unit.test_sentinel_shared import handful
from tests.unit.test_sentinel_tasks import Tasks

TOOL = CONTEXT_FIELDS.index("tool")


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
