"""Every random number of the simulation comes from a generator named by (seed, purpose, numbers).

Two purposes never share a stream, so that one more draw of chaos shifts nothing in the life of a healthy agent.
"""

from __future__ import annotations

import zlib

import numpy as np

from immune.errors import InputError


def check_seed(seed: int) -> int:
    """The seed. Raises InputError for a negative one."""
    if seed < 0:
        raise InputError("a seed is a whole number of at least 0", field="seed", value=seed, way_out="give for instance 7")
    return seed


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A generator of its own for this purpose; equal arguments give equal draws in every process."""
    return np.random.default_rng([check_seed(seed), zlib.crc32(purpose.encode()), *numbers])
