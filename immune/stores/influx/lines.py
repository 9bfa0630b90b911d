"""Line protocol by column: a whole batch becomes bytes without a Python object per point.

A batch is laid out as a table of fixed-width text, one record a line, unused places filled with NUL bytes; one pass then
deletes these. Numbers become text by looking their digits up, four at a time. A number that this cannot write exactly
(more digits than `PLACES` and 2^53 allow) is written by `repr`, so what is parsed again is always what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[np.bytes_]
Floats = NDArray[np.float64]
Block = memoryview
"""Some lines as bytes."""
Piece = tuple[int, "Texts | bytes", "NDArray[np.bool_] | None"]
"""Width, the text of each row (or of all), and which rows have it (None: all)."""

GROUP = 10_000
"""Digits come in groups of four."""
PLACES = (0, 2, 4, 7, 9)
"""Decimal places that are tried: whole numbers, hundredths of a millisecond, shares, fractions of a cent."""
EXACT = float(2**53)
BLOCK = 1024
"""Lines that are laid out at a time: a page of them stays in the processor's cache."""


FULL = 0.9
"""A page with fewer gaps than this leaves is as good as full."""


def encode(
    heads: Sequence[Texts],
    columns: Sequence[tuple[str, Floats]],
    whole: Sequence[tuple[str, NDArray[np.int64]]],
    at_us: NDArray[np.int64],
    places: dict[str, int],
) -> list[Block]:
    """Lines, a block of them at a time: `heads` (measurement, tags, a space, the first field), float fields, whole numbers, time in µs.

    All are (n,). NaN, and a whole number below 0, mean that this line has no such field. Names are put as they are.
    `places` remembers between calls with how many decimal places a column could be written.
    """
    if not len(at_us):
        return []
    pieces: list[Piece] = [(head.dtype.itemsize, head, None) for head in heads]
    with np.errstate(over="ignore", invalid="ignore"):  # a number too large to be scaled is spelled
        for name, values in columns:
            places[name], found = _float_pieces(f",{name}=".encode(), values, places.get(name, 0))
            pieces += found
    for name, numbers in whole:
        pieces += _int_pieces(f",{name}=".encode(), numbers, b"i")
    pieces += _time_pieces(at_us)
    return _lay_out(len(at_us), pieces)


def _lay_out(n: int, pieces: Sequence[Piece]) -> list[Block]:
    """The lines, a block at a time on one page that stays in the processor's cache."""
    offsets = np.concatenate([[0], np.cumsum([width for width, _, _ in pieces])]).tolist()
    page = bytearray(BLOCK * offsets[-1])
    seen = np.frombuffer(page, dtype=np.uint8)
    full = True
    lines = []
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        block = slice(start, start + count)
        for (width, text, rows), offset in zip(pieces, offsets, strict=False):
            if start and rows is None and isinstance(text, bytes):
                continue  # the same on every line, and there already
            place = np.ndarray((count,), dtype=f"S{width}", buffer=page, offset=offset, strides=(offsets[-1],))
            here = text if isinstance(text, bytes) else text[block]
            place[:] = here if rows is None else np.where(rows[block], here, b"")
        size = count * offsets[-1]
        lines.append(_without_gaps(page, seen, size, full))
        full = len(lines[-1]) > FULL * size
    return lines


def _without_gaps(page: bytearray, seen: NDArray[np.uint8], size: int, full: bool) -> Block:
    """The page without its NUL bytes: few are jumped to, which takes a quarter of the time of looking at every byte."""
    if full:
        return memoryview((page if size == len(page) else page[:size]).replace(b"\0", b""))
    used = seen[:size]
    left: Block = used[used != 0].data
    return left


def _float_pieces(name: bytes, values: Floats, hint: int) -> tuple[int, list[Piece]]:
    """How many places were written, and the pieces."""
    everywhere = not np.isnan(values.sum())  # one pass; a sum that overflows takes the careful way, which is right too
    present = None if everywhere else ~np.isnan(values)
    if present is not None and not present.any():
        return hint, []
    places, scaled, exact = _decimal(values if present is None else np.where(present, values, 0.0), hint)
    if exact is None:
        return places, _decimal_pieces(name, scaled, places, present)
    odd = ~exact if present is None else present & ~exact
    rows = exact if present is None else present & exact
    return places, [*_decimal_pieces(name, scaled, places, rows), _spelled(name, values, odd)]


def _decimal(values: Floats, hint: int) -> tuple[int, NDArray[np.int64], NDArray[np.bool_] | None]:
    """A number of places that writes all (or else most) of these exactly, the scaled numbers, and which rows are exact (None: all).

    A whole number below 2^53 divided by a power of ten up to 10^22 is rounded correctly, so the text with these digits
    parses to the very same double. What did last time is tried first.
    """
    best: tuple[int, NDArray[np.int64], NDArray[np.bool_]] | None = None
    for places in (hint, *(one for one in PLACES if one != hint)):
        scale = 10.0**places
        scaled = np.rint(values * scale) if places else np.rint(values)
        exact = (scaled / scale if places else scaled) == values
        if exact.all() and scaled.max() < EXACT and scaled.min() >= 0:
            return places, scaled.astype(np.int64), None
        exact &= (scaled < EXACT) & (scaled >= 0)
        if best is None or np.count_nonzero(exact) > np.count_nonzero(best[2]):
            best = (places, np.where(exact, scaled, 0).astype(np.int64), exact)
    assert best is not None  # noqa: S101  (there is at least one number of places to try)
    return best


def _decimal_pieces(name: bytes, scaled: NDArray[np.int64], places: int, rows: NDArray[np.bool_] | None) -> list[Piece]:
    if not places:
        return _whole_pieces(name, scaled, rows)
    whole, fraction = np.divmod(scaled, 10**places)
    pieces = _whole_pieces(name, whole, rows)
    left, first = places, True
    while left > 0:
        width = left % 4 or 4
        left -= width
        digits = fraction // 10**left % 10**width
        pieces.append((width + first, _padded(width, b"." if first else b"")[digits], rows))
        first = False
    return pieces


def _whole_pieces(name: bytes, numbers: NDArray[np.int64], rows: NDArray[np.bool_] | None) -> list[Piece]:
    """Digits of whole numbers >= 0, the name before them; a lead without zeros, then full groups of four."""
    groups = 1
    top = int(numbers.max())
    while top >= GROUP**groups:
        groups += 1
    if groups == 1:
        digits = len(str(top))
        return [(len(name) + digits, _unpadded(name, digits)[numbers], rows)]
    pieces: list[Piece] = [(len(name), name, rows)]
    begun = np.zeros(len(numbers), dtype=np.bool_)
    for place in reversed(range(groups)):
        digits = numbers // GROUP**place % GROUP
        lead = ~begun & ((digits > 0) | (place == 0))
        text = np.where(lead, _unpadded(b"", 4)[digits], np.where(begun, _padded(4, b"")[digits], b"")) if place < groups - 1 else _leading()[digits]
        pieces.append((4, text, rows))
        begun |= digits > 0
    return pieces


def _int_pieces(name: bytes, numbers: NDArray[np.int64], suffix: bytes) -> list[Piece]:
    rows = numbers >= 0
    if not rows.any():
        return []
    everywhere = None if rows.all() else rows
    return [*_whole_pieces(name, np.maximum(numbers, 0), everywhere), (len(suffix), suffix, everywhere)]


def _time_pieces(at_us: NDArray[np.int64]) -> list[Piece]:
    return [*_time_digits(at_us), (1, b"\n", None)]


def _time_digits(at_us: NDArray[np.int64]) -> list[Piece]:
    low, high = int(at_us.min()), int(at_us.max())
    if low < 10**15 or high >= 10**16:  # before 2001 or after 2286: rare enough to be spelled
        texts = np.array([b" %d" % one for one in at_us.tolist()])
        return [(texts.dtype.itemsize, texts, None)]
    seconds, rest = np.divmod(at_us, GROUP * GROUP)
    if low // GROUP**2 == high // GROUP**2:
        head: list[Piece] = [(9, b" %d" % seconds[0], None)]
    else:
        head = [(5, _padded(4, b" ")[seconds // GROUP], None), (4, _padded(4, b"")[seconds % GROUP], None)]
    return [*head, (4, _padded(4, b"")[rest // GROUP], None), (4, _padded(4, b"")[rest % GROUP], None)]


def _spelled(name: bytes, values: Floats, rows: NDArray[np.bool_]) -> Piece:
    texts = np.zeros(len(values), dtype=f"S{len(name) + 24}")
    texts[rows] = [name + repr(value).encode() for value in values[rows].tolist()]
    return (texts.dtype.itemsize, texts, rows)


@cache
def _unpadded(name: bytes, width: int) -> Texts:
    """``name`` and every number of up to so many digits, without leading zeros."""
    return np.array([b"%b%d" % (name, number) for number in range(10**width)], dtype=f"S{len(name) + width}")


@cache
def _leading() -> Texts:
    """0 … 9999 without leading zeros, and nothing for 0."""
    return np.array([b"%d" % number if number else b"" for number in range(GROUP)], dtype="S4")


@cache
def _padded(width: int, before: bytes) -> Texts:
    """``before`` and 0 … with so many digits."""
    return np.array([b"%b%0*d" % (before, width, number) for number in range(10**width)], dtype=f"S{len(before) + width}")
