"""The parts of the sentinel that need no fleet. The statistical claims: tests/statistics."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from immune.core.sentinel.arena import Arena
from immune.core.sentinel.eprocess import ROWS, advance, alarm_nats
from immune.core.sentinel.hashing import sample_keys, uniforms


def test_the_threshold_follows_from_the_budget_alone() -> None:
    assert alarm_nats(1.0, 0.001) == math.log(1000 * 86_400)
    assert alarm_nats(12.0, 0.001) < alarm_nats(1.0, 0.001) < alarm_nats(1.0, 0.0001)


def test_uniforms_depend_on_seed_agent_and_sample_only() -> None:
    agents = np.arange(1000)
    a = uniforms(sample_keys(1, agents, np.zeros(1000, dtype=np.int64)), 4)[0]
    b = uniforms(sample_keys(1, agents[::-1], np.zeros(1000, dtype=np.int64)), 4)[0]
    assert np.array_equal(a, b[:, ::-1])
    assert not np.array_equal(a, uniforms(sample_keys(2, agents, np.zeros(1000, dtype=np.int64)), 4)[0])
    assert abs(a.mean() - 0.5) < 0.02
    assert a.min() > 0
    assert a.max() < 1


@given(st.integers(1, 5), st.integers(1, 40), st.integers(41, 200))
def test_an_arena_keeps_its_rows_when_it_grows_and_when_it_is_stored(lead: int, few: int, many: int) -> None:
    arena, other = Arena(), Arena()
    for one in (arena, other):
        one.declare("x", np.float32, fill=3, lead=(lead,))
        one.declare("y", np.int64, trail=(2,))
    arena.grow(few)
    arena["x"][:, :few] = np.arange(few)
    arena.grow(many)
    assert np.array_equal(arena["x"][0, :few], np.arange(few))
    assert (arena["x"][:, few:] == 3).all()
    other.unpack(arena.pack())
    assert other.pack() == arena.pack()


def test_the_run_length_of_one_stream_is_at_least_the_threshold() -> None:
    rng = np.random.default_rng(43)
    runs, c, limit = 400, 20.0, 200
    sr, length = np.zeros((2, ROWS, 1, runs), dtype=np.float32), np.full(runs, limit)
    for t in range(1, limit + 1):
        g = rng.standard_normal((1, runs)).astype(np.float32)
        mean = advance(sr, g, np.ones(g.shape, dtype=np.bool_), np.float32(1e30)).mean(axis=(0, 1))
        length[(length == limit) & (mean >= c)] = t
    assert length.mean() >= c
