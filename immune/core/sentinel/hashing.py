"""Uniform numbers that depend on nothing but seed, agent and sample number, so that a replay is exact.

The 64-bit finaliser is that of SplitMix64 (Steele, Lea, Flood 2014), the 32-bit one of MurmurHash3.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TO_UNIT = np.float32(2.0**-24)


def sample_keys(seed: int, agents: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One 64-bit key for each (agent, sample number), shape (n,)."""
    key = _mix(agents.astype(np.uint64) + np.uint64(seed * int(_GOLDEN) & 0xFFFFFFFFFFFFFFFF))
    return _mix(key ^ (samples.astype(np.uint64) * _GOLDEN))


def uniforms(keys: NDArray[np.uint64], rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two independent tables of uniforms in (0, 1), each (rows, n), from one key a sample."""
    words = np.empty((2, 1, len(keys)), dtype=np.uint32)
    words[0, 0] = keys & np.uint64(0xFFFFFFFF)
    words[1, 0] = keys >> np.uint64(32)
    unit = _unit(words ^ _offsets(rows))
    return unit[0], unit[1]


@functools.cache
def _offsets(rows: int) -> NDArray[np.uint32]:
    return (np.arange(1, rows + 1, dtype=np.uint32) * np.uint32(0x9E3779B9))[:, None]


def _unit(hashed: NDArray[np.uint32]) -> NDArray[np.float32]:
    hashed ^= hashed >> np.uint32(16)
    hashed *= np.uint32(0x85EBCA6B)
    hashed ^= hashed >> np.uint32(13)
    hashed *= np.uint32(0xC2B2AE35)
    hashed ^= hashed >> np.uint32(16)
    unit = (hashed >> np.uint32(8)).astype(np.float32)
    unit += np.float32(0.5)
    unit *= _TO_UNIT
    return unit


def _mix(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
