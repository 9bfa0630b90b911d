"""Conformal surprise: how far out is this residual among the agent's own past ones, on a scale that is N(0, 1) when healthy.

``p = (n_greater + U * (n_equal + c)) / (n + c)`` over counts in 31 bins, U uniform and reproducible, ``g = -Phi^-1(p)``
(Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*: with exchangeable residuals, no forgetting and c = 1, p is
exactly uniform whatever their distribution). A young agent borrows: the bins of its type count as `BORROWED` samples
that fade as its own come, and c shrinks with them, so that the peers' tail is known and not only the agent's own.

Counts are kept cumulated (``at least bin k``), so that scoring is two look-ups and learning one masked addition. They are
halved whenever the number of samples since the last halving doubles, at most `FORGET_AT`: what is remembered is always mostly recent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Block
from immune.core.special import ndtri

BINS = 31
SLOTS = 32
"""One more slot than bins, always 0: there is nothing beyond the last bin."""
MIDDLE = 15
FORGET_FROM = 64
FORGET_AT = 4096
BORROWED = 40.0
LONE_BORROWED = 8.0
MIN_P = 1e-7

RARE = 0.1
RARE_SLOTS = 12
"""Rare counts begin within so many slots for nearly everybody; where they do not, all are looked at."""
STAKES = (0.1, 0.3)
FADE = 150.0
"""Own samples at which the borrowed ones count half."""
OWN_FADE = 600.0
"""The same for the block variance."""
LEAST_SHARE = 0.7
"""Nobody is taken to be much steadier than its type: what others have shown, this agent has only not met yet."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What n agents borrow from their types, each (streams, n).

    share   cumulated shares of bins of all types, flat; `place` says where those of an agent and stream begin
    borrowed, depth  how many samples the shares count for, and how many they rest on
    calibration  block variance · humble  samples at which surprise counts ``sqrt(1/2)`` · dependent  the type remembers itself, or a count
    memory  phi of the type, (continuous, n), and how many of the agent's own samples it counts for
    common  how far the type has moved as a whole lately, in logs, (continuous, n)
    rare  share at the first `RARE_SLOTS` slots of the counts, (counts, RARE_SLOTS, n)
    wander, apart  how far its agents wander from where they were, and how far apart their levels are, as sds in logs, (continuous, n)
    """

    share: Floats
    place: NDArray[np.intp]
    borrowed: Floats
    depth: Floats
    calibration: Floats
    humble: Floats
    dependent: Mask
    memory: Floats
    memory_weight: Floats
    common: Floats
    wander: Floats
    apart: Floats
    rare: Floats


_LAST = np.float32(BINS - 1)
_PER_QUARTER = np.float32(1 / np.log(1.25))
_SLOTS_DOWN = np.arange(SLOTS, dtype=np.intp)[:, None]
_STAKES = np.array(STAKES, dtype=np.float32)[:, None, None]


def declare(arena: Arena, streams: int, *, forget_from: int | None = None) -> None:
    """The arrays of this file, over agents; forget_from: samples at which ranks are halved for the first time, `FORGET_FROM` unless said."""
    arena.declare("ranks", np.uint16, lead=(streams, SLOTS))
    arena.declare("ranks_limit", np.uint16, fill=FORGET_FROM if forget_from is None else forget_from, lead=(streams,))
    arena.declare("block_sum", np.float32, lead=(streams,))
    arena.declare("block_left", np.uint8, fill=BLOCK, lead=(streams,))
    arena.declare("calibration", np.float32, fill=1.0, lead=(streams,))


BLOCK = 32
"""Samples in a block of the block variance."""
SQUARE_MAX = 48.0


def z_bins(z: Floats) -> NDArray[np.int8]:
    """Bins of standardised residuals: about .13 wide at 0, .7 at 3, the last beyond 12."""
    y = np.abs(z)
    y *= np.float32(1.5)
    y += np.float32(1)
    np.log(y, out=y)
    y *= np.float32(5)
    y = np.copysign(y, z)
    y += np.float32(MIDDLE + 0.5)
    np.maximum(y, np.float32(0), out=y)
    np.minimum(y, _LAST, out=y)
    return y.astype(np.int8)


def count_bins(x: Floats) -> NDArray[np.int8]:
    """Bins of whole numbers: 0 to 9 each its own, then a quarter wider each."""
    y = np.maximum(x, np.float32(1))
    y = np.log(y * np.float32(0.1)) * _PER_QUARTER + np.float32(10)
    y = np.where(x < 10, x, y)
    return np.minimum(np.maximum(y, np.float32(0)), _LAST).astype(np.int8)


@cache
def lone_prior() -> Floats:
    """Cumulated shares of the bins under a wide guess (Student t, 3 degrees, stretched by 1.2): (SLOTS,), read only."""
    grid = np.linspace(-40, 40, 160_001)
    share = np.bincount(z_bins(grid.astype(np.float32)), weights=np.gradient(_student_3(grid / 1.2)), minlength=BINS)
    cumulated = np.zeros(SLOTS, dtype=np.float32)
    cumulated[:BINS] = np.cumsum(share[::-1])[::-1] / share.sum()
    cumulated.flags.writeable = False
    return cumulated


def _student_3(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution function of Student's t with 3 degrees of freedom, which has a closed form (a daemon that starts needs no SciPy for it)."""
    u = t / np.sqrt(3.0)
    share: NDArray[np.float64] = 0.5 + (u / (1 + u * u) + np.arctan(u)) / np.pi
    return share


def p_values(block: Block, bins: NDArray[np.int8], lent: Lent, uniform: Floats) -> Floats:
    """Upper p-values of n samples, each (streams, n)."""
    ranks, width, start = block.flat("ranks")
    streams, n = bins.shape
    place = bins.astype(np.intp)
    index = place * width
    index += np.arange(start, start + streams * SLOTS * width, SLOTS * width)[:, None]
    index += np.arange(n)
    own_from = ranks.take(index).astype(np.float32)
    index += width
    own_above = ranks.take(index).astype(np.float32)
    own = block["ranks"][:, 0].astype(np.float32)
    borrowed = lent.borrowed / (1 + own * np.float32(1 / FADE))
    total = own + borrowed
    grain = (total + 1) / (own + lent.depth + 1)
    place += lent.place
    lent_from = lent.share.take(place)
    place += 1
    lent_above = lent.share.take(place)
    above = own_above + borrowed * lent_above
    equal = own_from - own_above + borrowed * (lent_from - lent_above)
    p: Floats = (above + uniform * (equal + grain)) / (total + grain)
    return p


def rare_bets(block: Block, bins: NDArray[np.int8], first: int, lent: Lent) -> Floats:
    """Factors of bets on a rare count, (len(STAKES), counts, n): ``1 + stake * (hit / q - 1)``.

    A hit is a count that at most `RARE` of the past reached; q its share, taken too large while the past is short. For rare
    whole numbers this grows twice as fast as a surprise blurred by U. bins (counts, n): streams from `first` on.
    """
    ranks = block["ranks"][first:]
    own = ranks[:, 0].astype(np.float32)
    borrowed = lent.borrowed[first:] / (1 + own * np.float32(1 / FADE))
    own += borrowed * lent.rare[:, 0]  # counted twice from here: a mean bet of .88 to 1.01 over young healthy agents, counted once .78 to .90
    share = _shares(ranks[:, :RARE_SLOTS], lent.rare, own, borrowed)
    rare = share <= RARE
    if np.count_nonzero(rare[:, -1]) < own.size:  # shares fall from slot to slot: who is not rare at the last of these may be further on
        share = _shares(ranks, lent.share.take(lent.place[first:, None] + _SLOTS_DOWN), own, borrowed)
        rare = share <= RARE
    edge = rare.argmax(axis=1)
    counts, n = own.shape
    q = share[np.arange(counts)[:, None], edge, np.arange(n)] * (np.float32(1.2) + 20 / (own + 20))
    bets: Floats = 1 + _STAKES * ((bins >= edge) / np.minimum(q, 1) - 1)
    return bets


def _shares(ranks: NDArray[np.uint16], lent: Floats, own: Floats, borrowed: Floats) -> Floats:
    """Which share of the past, own and borrowed, reached each slot: ranks, lent (counts, slots, n) · own, borrowed (counts, n)."""
    share = ranks.astype(np.float32)
    share += borrowed[:, None] * lent
    share += 1
    share /= (own + borrowed + 1)[:, None]
    share[:, 0] = 1
    return share


def surprise(p: Floats) -> Floats:
    """``-Phi^-1(p)``, p kept away from 0 and 1."""
    np.maximum(p, np.float32(MIN_P), out=p)
    np.minimum(p, np.float32(1 - MIN_P), out=p)
    g: Floats = -ndtri(p)
    return g


def widening(own: Floats, count: Floats, lent: Lent) -> Floats:
    """What to divide surprise by, (streams, n): the sd that block sums show beyond independence, the type's share fading."""
    trust = count / (count + np.float32(OWN_FADE))
    variance = np.maximum(trust * own + (1 - trust) * lent.calibration, np.float32(LEAST_SHARE) * lent.calibration)
    wide: Floats = np.sqrt(np.maximum(np.float32(1.2) * variance - np.float32(0.4), np.float32(1)))
    return wide


_LADDER = np.arange(SLOTS, dtype=np.int8)[None, :, None]


def learn_ranks(block: Block, bins: NDArray[np.int8], learned: Mask) -> None:
    """Count these bins, (streams, n), where `learned`; forget by halves."""
    ranks, limit = block["ranks"], block["ranks_limit"]
    marked = np.where(learned, bins, np.int8(-1))
    at_least = marked[:, None, :] >= _LADDER
    np.add(ranks, at_least.view(np.uint8), out=ranks, casting="unsafe")
    full = ranks[:, 0] >= limit
    if np.count_nonzero(full):
        stream, column = np.nonzero(full)
        ranks[stream, :, column] = (ranks[stream, :, column] + 1) >> 1
        ranks[stream, SLOTS - 1, column] = 0
        limit[stream, column] = np.minimum(limit[stream, column] * 3 // 2, FORGET_AT)


def learn_calibration(block: Block, g: Floats, learned: Mask) -> None:
    """Block variance of g: the mean square of block sums over `BLOCK`; 1 for independent N(0, 1)."""
    total, left, variance = block["block_sum"], block["block_left"], block["calibration"]
    total += g * learned
    np.subtract(left, learned.view(np.uint8), out=left)
    full = left == 0
    if np.count_nonzero(full):
        square = np.minimum(total * total / np.float32(BLOCK), np.float32(SQUARE_MAX))
        weight = np.maximum(np.float32(0.04), 1 / (block["count"] * np.float32(1 / BLOCK) + 6))
        np.copyto(variance, variance + (square - variance) * weight, where=full)
        np.copyto(total, 0, where=full)
        np.copyto(left, BLOCK, where=full)
