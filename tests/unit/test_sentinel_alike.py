"""How alike the steps of a task are: learned from tasks of many lengths, guessed before."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.sentinel import alike
from immune.core.sentinel.arena import Arena

USUAL = 14.0


def types(count: int) -> Arena:
    arena = Arena()
    alike.declare(arena)
    arena.grow(count)
    return arena


def taught(between: float, tasks: int, *, seed: int = 1) -> float:
    """Learn from tasks of one type whose means vary by `between` beyond ``1 / steps``, in units of the variance at `USUAL` steps."""
    rng, arena = np.random.default_rng(seed), types(1)
    one = np.zeros(1, dtype=np.int32)
    for _ in range(tasks // 10):
        steps = rng.geometric(1 / USUAL, 10).astype(np.float32)
        scale = between + 1 / USUAL
        square = (between + 1 / steps) / scale * rng.standard_normal(10) ** 2
        held = float(alike.of_types(arena, one)[0])
        expected = ((held + 1 / steps) / (held + 1 / USUAL)).astype(np.float32)
        alike.learn(arena, np.zeros(10, dtype=np.int32), steps, np.full(10, USUAL, dtype=np.float32), expected, square.astype(np.float32))
    return float(alike.of_types(arena, one)[0])


def test_before_any_task_the_guess_stands_for_every_type() -> None:
    assert alike.of_types(types(3), np.array([0, 2], dtype=np.int32)).tolist() == pytest.approx([alike.ALIKE] * 2)


def test_one_task_moves_the_guess_little() -> None:
    assert taught(0.0, 10) == pytest.approx(alike.ALIKE, rel=0.7)


@pytest.mark.parametrize("between", [0.02, 0.1, 0.3])
def test_what_tasks_have_in_common_is_learned(between: float) -> None:
    assert taught(between, 3000) == pytest.approx(between, rel=0.4)


def test_steps_that_have_nothing_in_common_are_counted_almost_in_full() -> None:
    assert np.median([taught(0.0, 3000, seed=seed) for seed in range(7)]) < 1 / 200


def test_a_wild_task_counts_for_no_more_than_an_outlier() -> None:
    calm, wild = types(1), types(1)
    for arena, square in ((calm, alike.OUTLIER), (wild, 1e12)):
        alike.learn(arena, *(np.array([value], dtype=kind) for value, kind in ((0, np.int32), (14, "f4"), (14, "f4"), (1, "f4"), (square, "f4"))))
    np.testing.assert_array_equal(calm["alike"], wild["alike"])


def test_types_do_not_teach_one_another() -> None:
    arena = types(2)
    rng = np.random.default_rng(3)
    steps = rng.geometric(1 / USUAL, 500).astype(np.float32)
    ones = np.ones(500, dtype=np.float32)
    alike.learn(arena, np.ones(500, dtype=np.int32), steps, USUAL * ones, ones, ones)
    first, second = alike.of_types(arena, np.array([0, 1], dtype=np.int32))
    assert first == pytest.approx(alike.ALIKE)
    assert second > 4 * alike.ALIKE
