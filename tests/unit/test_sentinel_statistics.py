"""The claims of docs/sentinel.md about the idealised detector, checked against random numbers."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from immune.core.arena import Arena, Block
from immune.core.eprocess import LAMBDAS, advance, alarm_nats
from immune.core.hashing import sample_keys, uniforms
from immune.core.peers import Peers
from immune.core.surprise import count_bins, declare, learn_ranks, p_values, z_bins


def run_lengths(c: float, shift: float, runs: int, limit: int) -> np.ndarray:
    """Samples until the mean e-detector of 3 streams reaches c."""
    rng = np.random.default_rng(41)
    sr = np.zeros((2, len(LAMBDAS), 3, runs), dtype=np.float32)
    length = np.full(runs, limit)
    for t in range(1, limit + 1):
        g = (rng.standard_normal((3, runs)) + shift).astype(np.float32)
        mean = advance(sr, g, np.ones(g.shape, dtype=np.bool_), np.float32(1e30)).mean(axis=(0, 1))
        length[(length == limit) & (mean >= c)] = t
    return length


def test_the_expected_run_length_to_a_false_alarm_is_at_least_the_threshold() -> None:
    c = 60.0
    assert run_lengths(c, shift=0.0, runs=2000, limit=600).mean() >= c


def test_the_bound_holds_at_the_margin_too() -> None:
    c = 40.0
    assert run_lengths(c, shift=0.25, runs=2000, limit=400).mean() >= c


def test_a_shift_of_two_is_found_in_a_dozen_samples() -> None:
    assert np.median(run_lengths(1e8, shift=2.0, runs=200, limit=60)) <= 16


def test_the_threshold_follows_from_the_budget_alone() -> None:
    assert alarm_nats(1.0, 0.001) == math.log(1000 * 86_400)
    assert alarm_nats(12.0, 0.001) < alarm_nats(1.0, 0.001) < alarm_nats(1.0, 0.0001)


def test_conformal_p_values_of_exchangeable_data_are_uniform() -> None:
    agents, streams = 400, 2
    arena = Arena()
    arena.declare("count", np.float32, lead=(streams,))
    declare(arena, streams)
    arena.grow(agents)
    peers = Peers(streams, 0)
    peers.grow(1)
    rng, types = np.random.default_rng(42), np.zeros(agents, dtype=np.int32)
    collected = []
    for t in range(150):
        z = rng.standard_t(3, (streams, agents)).astype(np.float32)
        bins = np.concatenate([z_bins(z[:1]), count_bins(rng.poisson(0.3, (1, agents)).astype(np.float32))])
        block = Block(arena, slice(0, agents))
        keys = sample_keys(7, np.arange(agents), np.full(agents, t))
        p = p_values(block, bins, peers.lent(), types, uniforms(keys, streams)[0])
        if t >= 20:
            collected.append(p)
        learn_ranks(block, bins, np.ones(bins.shape, dtype=np.bool_))
    p = np.concatenate(collected, axis=1)
    for level in (0.001, 0.01, 0.1, 0.5, 0.9):
        assert np.all(np.abs((p < level).mean(axis=1) - level) < 0.25 * level + 0.002)
    assert abs(ndtri(p[0]).std() - 1) < 0.05


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
