"""Intervals and scores: how sure a count, a share, a rate or a confidence is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Pairs = Sequence[tuple[float, bool]]
BINS = 5


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    z, share = 1.96, hits / n
    middle, width = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float((middle - width) / (1 + z * z / n))), min(1.0, float((middle + width) / (1 + z * z / n)))


def poisson(count: int, exposure: float) -> tuple[float, float]:
    """95 % interval of a rate, exact (Garwood 1936); for a count of 0 the one-sided bound, 3 / exposure."""
    if not count:
        return 0.0, 3.0 / exposure
    return float(gammaincinv(count, 0.025)) / exposure, float(gammaincinv(count + 1, 0.975)) / exposure


def bootstrap(values: NDArray[np.float64], statistic: object, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of a statistic (a function of an array of rows) by drawing rows with replacement."""
    assert callable(statistic)
    rng = np.random.default_rng(seed)
    drawn = [float(statistic(values[rng.integers(0, len(values), len(values))])) for _ in range(draws)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def reliability(pairs: Pairs, bins: int = BINS) -> list[dict[str, float]]:
    """Confidence against share right, by bins of equal width: low, high, n, confidence, right, right_low, right_high."""
    rows = []
    for low in np.arange(bins) / bins:
        inside = [(confidence, hit) for confidence, hit in pairs if low <= min(confidence, 1 - 1e-9) < low + 1 / bins]
        if inside:
            hits = sum(hit for _, hit in inside)
            interval = wilson(hits, len(inside))
            rows.append(
                {
                    "low": float(low),
                    "high": float(low + 1 / bins),
                    "n": len(inside),
                    "confidence": sum(confidence for confidence, _ in inside) / len(inside),
                    "right": hits / len(inside),
                    "right_low": interval[0],
                    "right_high": interval[1],
                }
            )
    return rows


def calibration_error(pairs: Pairs, bins: int = BINS) -> float:
    """Expected calibration error: mean distance between confidence and share right, weighted by how many fell into each bin."""
    return sum(row["n"] * abs(row["confidence"] - row["right"]) for row in reliability(pairs, bins)) / max(1, len(pairs))


def calibration_interval(pairs: Pairs) -> tuple[float, float]:
    """95 % bootstrap interval of the calibration error."""
    rows = np.array([(confidence, float(hit)) for confidence, hit in pairs])
    return bootstrap(rows, lambda drawn: calibration_error([(c, h > 0) for c, h in drawn]), draws=500)


def auc(score: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Chance that a bad run scores above a good one, ties half (Mann-Whitney)."""
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    for value in np.unique(score):
        tied = score == value
        ranks[tied] = ranks[tied].mean()
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    if not n_bad or not n_good:
        return float("nan")
    return float((ranks[bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))
