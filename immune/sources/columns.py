"""Whole columns at once: the parsers of `parse.py`, over ten thousand values in the time of a few hundred.

Each function here gives exactly what the parser of one value gives (a test compares them on every kind of value): a fast
way that numpy or C can do, and the parser itself for the values on which the fast way is not sure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import MISSING
from immune.sources.parse import LATEST_US, NO_TIME, US, RefusedValueError, parse_number, parse_step, parse_time
from immune.sources.readers import Column

T = TypeVar("T")
Reasons = dict[int, str]
"""Why a row cannot be taken, by its place in the column."""

_DATE_MARKS = ((4, "-"), (7, "-"), (13, ":"), (16, ":"))
_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])
_SECONDS_LENGTH, _LONGEST_TIME = 19, 40
_ZERO, _POINT = ord("0"), ord(".")


def numbers(column: Column, max_value: float) -> tuple[NDArray[np.float64], Reasons]:
    """A vital (n,), NaN where missing or refused."""
    fast = _floats(column)
    if fast is None:
        return _one_by_one(column, lambda value: parse_number(value, max_value), np.nan, np.float64)
    array, missing = fast
    # Written so that a NaN counts as doubtful: only those that stand for a missing value may stay.
    doubtful = np.flatnonzero(~((array >= 0) & (array <= max_value)))
    if len(doubtful) == missing and bool(np.isnan(array[doubtful]).all()):
        return array, {}
    return _second_look(column, array, doubtful, lambda value: parse_number(value, max_value), np.nan)


def steps(column: Column) -> tuple[NDArray[np.int32], Reasons]:
    """Steps within the task (n,), `MISSING` where missing or refused."""
    fast = _floats(column)
    if fast is None or not bool(((fast[0] >= 0) & (fast[0] < 2**31) & (fast[0] == np.floor(fast[0]))).all()):
        return _one_by_one(column, parse_step, MISSING, np.int32)
    return fast[0].astype(np.int32), {}


def times(column: Column) -> tuple[NDArray[np.int64], Reasons]:
    """Microseconds UTC (n,), `NO_TIME` where missing or refused."""
    at_us, sure = _fast_times(column)
    doubtful = np.flatnonzero(~(sure & (at_us >= 0) & (at_us <= LATEST_US)))
    return _second_look(column, at_us, doubtful, _time_or_none, NO_TIME)


def distinct(column: Column, parse: Callable[[object], T], default: T) -> tuple[list[T], Reasons]:
    """A column of few different values, each parsed once; `default` where refused."""
    values = plain(column)
    parsed: dict[Hashable, T] = {}
    refused: dict[Hashable, str] = {}
    try:
        # True, 1 and 1.0 are one key to a dict, so a column of mixed types is read value by value.
        different = set(values) if len(set(map(type, values)) - {type(None)}) <= 1 else None
    except TypeError:
        different = None
    if different is None:
        return _listed(values, parse, default)
    for value in different:
        try:
            parsed[value] = parse(value)
        except RefusedValueError as error:
            parsed[value] = default
            refused[value] = error.reason
    reasons = {row: refused[value] for row, value in enumerate(values) if value in refused} if refused else {}
    return [parsed[value] for value in values], reasons


def plain(column: Column) -> list[Any] | tuple[Any, ...]:
    """The column as Python values; whole numbers of a typed column (Parquet) as their text when they name something."""
    if isinstance(column, np.ndarray):
        listed: list[Any] = column.tolist()
        return [str(value) for value in listed] if column.dtype.kind in "iu" else listed
    return column if isinstance(column, list | tuple) else list(column)


def _floats(column: Column) -> tuple[NDArray[np.float64], int] | None:
    """The column as floats and how many of them are NaN because they are missing; None if that is not certain."""
    if isinstance(column, np.ndarray):
        return (column.astype(np.float64), 0) if column.dtype.kind in "iuf" else None
    kinds = set(map(type, column))
    if kinds == {str}:
        return _text_floats(column)
    if kinds <= {int, float, type(None)}:
        missing = sum(value is None for value in column)
        try:
            return np.array([np.nan if value is None else value for value in column], dtype=np.float64), missing
        except OverflowError:
            return None
    return None


def _text_floats(texts: Any) -> tuple[NDArray[np.float64], int] | None:
    joined = "".join(texts)
    # float() would also read 1_000 and digits of other scripts.
    if "_" in joined or not joined.isascii():
        return None
    missing = texts.count("")
    try:
        if missing:
            return np.fromiter((float(text or "nan") for text in texts), np.float64, len(texts)), missing
        return np.fromiter(map(float, texts), np.float64, len(texts)), 0
    except ValueError:
        return None


def _fast_times(column: Column) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times and for which rows they are certain."""
    n = len(column)
    nothing = np.full(n, NO_TIME, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    if not n:
        return nothing
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        at_us = column.astype("datetime64[us]").astype(np.int64)
        return at_us, np.ones(n, dtype=np.bool_)
    first = column[0]
    if isinstance(first, str) and first[4:5] == "-":
        return _iso_times(column) if set(map(type, column)) == {str} else nothing
    fast = _floats(column)
    if fast is None:
        return nothing
    sure = (fast[0] >= 0) & (fast[0] <= LATEST_US / US)
    seconds = np.where(sure, fast[0], 0.0)
    return np.rint(seconds * US).astype(np.int64), sure


def _iso_times(column: Column) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times written as YYYY-MM-DD?HH:MM:SS[.fraction][Z or +00:00], by arithmetic on the characters of all rows at once."""
    given: Any = column
    width = max(map(len, given))
    at_us = np.full(len(given), NO_TIME, dtype=np.int64)
    sure = np.zeros(len(given), dtype=np.bool_)
    # One very long text would make every row of the array as long; and numpy drops NULs at the end.
    if not _SECONDS_LENGTH <= width <= _LONGEST_TIME or any("\0" in text for text in given):
        return at_us, sure
    characters = np.array(given, dtype=f"U{width}").view(np.uint32).reshape(len(given), width)
    lengths = np.count_nonzero(characters, axis=1)
    for length in np.unique(lengths):
        if length >= _SECONDS_LENGTH:
            rows = np.flatnonzero(lengths == length)
            at_us[rows], sure[rows] = _iso_of_one_length(characters[rows, :length])
    return at_us, sure


def _iso_of_one_length(characters: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    end = characters.shape[1]
    sure = np.ones(len(characters), dtype=np.bool_)
    for zone in ("Z", "+00:00"):
        if end - len(zone) >= _SECONDS_LENGTH and "".join(map(chr, characters[0, -len(zone) :])) == zone:
            sure &= (characters[:, -len(zone) :] == [ord(c) for c in zone]).all(axis=1)
            end -= len(zone)
            break
    digits = characters[:, :end].astype(np.int64) - _ZERO
    sure &= ((digits[:, _DIGITS] >= 0) & (digits[:, _DIGITS] <= 9)).all(axis=1)
    for place, mark in _DATE_MARKS:
        sure &= characters[:, place] == ord(mark)
    sure &= (characters[:, 10] == ord("T")) | (characters[:, 10] == ord(" "))
    micro = np.zeros(len(characters), dtype=np.int64)
    if end > _SECONDS_LENGTH:
        fraction = digits[:, _SECONDS_LENGTH + 1 :]
        sure &= (characters[:, _SECONDS_LENGTH] == _POINT) & ((fraction >= 0) & (fraction <= 9)).all(axis=1)
        sure &= 1 <= fraction.shape[1] <= 9
        for place in range(min(6, fraction.shape[1])):
            micro += fraction[:, place] * 10 ** (5 - place)
    days, in_calendar = _days(digits)
    hour, minute, second = (_two(digits, place) for place in (11, 14, 17))
    sure &= in_calendar & (hour < 24) & (minute < 60) & (second < 60)
    return ((days * 24 + hour) * 60 + minute) * 60 * US + second * US + micro, sure


def _days(digits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Days since 1970 of the dates, and which of them exist."""
    year, month, day = _two(digits, 0) * 100 + _two(digits, 2), _two(digits, 5), _two(digits, 8)
    sane = (year >= 1970) & (year <= 2200) & (month >= 1) & (month <= 12)
    months = np.where(sane, (year - 1970) * 12 + month - 1, 0)
    start = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return start + day - 1, sane & (day >= 1) & (day <= after - start)


def _two(digits: NDArray[np.int64], place: int) -> NDArray[np.int64]:
    pair: NDArray[np.int64] = digits[:, place] * 10 + digits[:, place + 1]
    return pair


def _time_or_none(value: object) -> int:
    at_us = parse_time(value)
    return NO_TIME if at_us is None else at_us


def _second_look(
    column: Column, array: NDArray[Any], doubtful: NDArray[np.intp], parse: Callable[[object], Any], default: Any
) -> tuple[NDArray[Any], Reasons]:
    """`array` with the doubtful rows parsed one by one."""
    reasons: Reasons = {}
    for row in doubtful.tolist():
        value = column[row]
        try:
            array[row] = parse(value.item() if isinstance(value, np.generic) else value)
        except RefusedValueError as refused:
            array[row] = default
            reasons[row] = refused.reason
    return array, reasons


def _one_by_one(column: Column, parse: Callable[[object], Any], default: Any, dtype: Any) -> tuple[NDArray[Any], Reasons]:
    array = np.full(len(column), default, dtype=dtype)
    return _second_look(column, array, np.arange(len(column)), parse, default)


def _listed(values: list[Any] | tuple[Any, ...], parse: Callable[[object], T], default: T) -> tuple[list[T], Reasons]:
    parsed, reasons = [], {}
    for row, value in enumerate(values):
        try:
            parsed.append(parse(value))
        except RefusedValueError as refused:
            parsed.append(default)
            reasons[row] = refused.reason
    return parsed, reasons
