"""Beyond the ranks: a bet on samples further out than anything usual, with a stated tail model and a share of the budget of its own.

Ranks say at most "further out than all n before". Here a sample beyond `EDGE` spreads (a peak over a threshold) is a hit; q is how often hits came
so far, taken too large while that is little known. How far out a hit is follows, healthy, at worst a Pareto law beyond the edge,
``P(|z| > x | hit) = (EDGE / x)^INDEX`` (a generalised Pareto tail of shape 1 / INDEX: heavier than lognormal, gamma or real token
traffic in logs), so ``u = (EDGE / x)^INDEX`` is at most uniform and ``KAPPA u^(KAPPA - 1)`` an e-value. One process a stream and direction:

    SR <- (SR + 1) (1 - STAKE + STAKE / q * KAPPA u^(KAPPA - 1))  at a hit,  (SR + 1) (1 - STAKE)  otherwise
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import surprise
from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.eprocess import TAIL_ROW
from immune.core.sentinel.surprise import Lent

EDGE = 3.0
INDEX = 3.0
KAPPA = 0.25
STAKE = 0.25
FLOOR = 1 / 2000.0
"""A hit is never taken to be rarer than this."""
FORGET_AT = 4000.0
FIRST_HITS = 1.0
HUMBLE = 10.0
"""A spread known from n samples: distances count ``sqrt(n / (n + HUMBLE))``."""
ABOVE, BELOW = (int(surprise.z_bins(np.array([edge], dtype=np.float32))[0]) for edge in (EDGE, -EDGE))
BELOW += 1
"""Bins of `surprise` from the upper edge up, and from the first above the lower edge."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def declare(arena: Arena, continuous: int) -> None:
    """The arrays of this file, over agents."""
    arena.declare("tail_hits", np.float32, lead=(2, continuous))
    arena.declare("tail_seen", np.float32, lead=(continuous,))


def advance(block: Block, z: Floats, judged: Mask, learning: Mask, lent: Lent, wide: Floats, cap: np.float32) -> None:
    """Take in one sample of the continuous streams: z standardised innovations, wide what surprise is divided by; (continuous, n)."""
    rows = len(z)
    sr, hits, seen = block["sr"][:, TAIL_ROW, :rows], block["tail_hits"], block["tail_seen"]
    swift = judged.astype(np.float32)
    sr += swift
    sr *= 1 - np.float32(STAKE) * swift
    taught = judged & learning
    seen += taught
    far = np.abs(z) > EDGE
    far &= judged
    if np.count_nonzero(far):
        _hit(sr, hits, seen, z, far, taught, lent, wide, cap)
    full = seen >= FORGET_AT
    if np.count_nonzero(full):
        seen[full] *= np.float32(0.5)
        hits[:, full] *= np.float32(0.5)


def _hit(sr: Floats, hits: Floats, seen: Floats, z: Floats, far: Mask, taught: Mask, lent: Lent, wide: Floats, cap: np.float32) -> None:
    row, column = np.nonzero(far)
    out = z[row, column]
    sign = (out < 0).astype(np.intp)
    n, known = seen[row, column], hits[sign, row, column]
    borrowed = lent.borrowed[row, column]
    place = lent.place[row, column]
    peers = np.where(sign == 0, lent.share.take(place + ABOVE), lent.share.take(place) - lent.share.take(place + BELOW))
    q = (known + borrowed * peers + np.float32(FIRST_HITS)) / (n + borrowed + np.float32(FIRST_HITS))
    q = np.minimum(np.maximum(q * (np.float32(1.2) + 20 / (n + 20)), np.float32(FLOOR)), np.float32(1))
    reach = np.abs(out) / wide[row, column] * np.sqrt(n / (n + np.float32(HUMBLE)))
    distance = np.maximum(reach, np.float32(EDGE))
    stretch = np.float32(KAPPA) * (distance * np.float32(1 / EDGE)) ** np.float32(INDEX * (1 - KAPPA))
    gain = 1 + np.float32(STAKE / (1 - STAKE)) * stretch / q
    gain = np.where(reach >= EDGE, gain, np.float32(1))
    sr[sign, row, column] = np.minimum(sr[sign, row, column] * gain, cap)
    hits[sign, row, column] += taught[row, column]
