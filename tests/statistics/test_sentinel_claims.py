"""The claims of docs/sentinel.md about the idealised detector, checked against random numbers."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.eprocess import ROWS, advance
from immune.core.sentinel.hashing import sample_keys, uniforms
from immune.core.sentinel.peers import Peers
from immune.core.sentinel.surprise import count_bins, declare, learn_ranks, p_values, z_bins


def run_lengths(c: float, shift: float, runs: int, limit: int) -> np.ndarray:
    """Samples until the mean e-detector of 3 streams reaches c."""
    rng = np.random.default_rng(41)
    sr = np.zeros((2, ROWS, 3, runs), dtype=np.float32)
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
        p = p_values(block, bins, peers.lent(types), uniforms(keys, streams)[0])
        if t >= 20:
            collected.append(p)
        learn_ranks(block, bins, np.ones(bins.shape, dtype=np.bool_))
    p = np.concatenate(collected, axis=1)
    for level in (0.001, 0.01, 0.1, 0.5, 0.9):
        assert np.all(np.abs((p < level).mean(axis=1) - level) < 0.25 * level + 0.002)
    assert abs(ndtri(p[0]).std() - 1) < 0.05
