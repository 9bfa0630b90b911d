"""Frozen dataclasses to JSON bytes and back.

One encoding per value: compact, keys in field order, floats with six significant digits, so that equal events have
equal bytes in every process. Only what an event may hold is accepted: text, whole numbers, finite floats, booleans,
None, tuples, and other frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from immune.errors import InputError

D = TypeVar("D")


def encode(value: object) -> bytes:
    """Canonical JSON bytes of anything an event may hold. Raises InputError for something that it may not."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def plain(value: object) -> Any:
    """The same value as JSON-ready lists, dicts and scalars."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    names = _field_names(type(value))  # type: ignore[arg-type]
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    raise InputError("an event cannot hold this", value=value, way_out="use text, numbers, tuples and frozen dataclasses")


def rounded(value: float) -> float:
    """Six significant digits: what a journal keeps of a float. Raises InputError unless finite."""
    if not math.isfinite(value):
        raise InputError("an event cannot hold a number that is not finite", value=value)
    return float(f"{value:.6g}")


def decode(cls: type[D], content: bytes) -> D:
    """A dataclass from its JSON bytes; unknown keys are ignored, absent ones take their default."""
    return build(cls, parse(content))


def parse(content: bytes) -> Any:
    """The JSON value in these bytes. Raises InputError for anything else, NaN and infinity included."""
    try:
        return json.loads(content, parse_constant=_not_finite)
    except ValueError as error:
        raise InputError(f"this is not JSON: {error}") from None


def _not_finite(word: str) -> float:
    raise InputError("an event cannot hold a number that is not finite", value=word)


def build(cls: type[D], content: Mapping[str, Any]) -> D:
    """A dataclass from an already parsed JSON object. Raises InputError when a field is missing or of another type."""
    if not isinstance(content, dict):
        raise InputError(f"cannot read {cls.__name__}: expected an object", value=content)
    values = {name: read(content[name], name) for name, read in _readers(cls) if name in content}  # type: ignore[arg-type]
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(f"cannot read {cls.__name__}: {error}") from None


Reader = Callable[[Any, str], Any]
"""Checks and shapes one parsed value; the name is for the error."""


@cache
def _readers(cls: type) -> tuple[tuple[str, Reader], ...]:
    hints = get_type_hints(cls)
    return tuple((field.name, _reader(hints[field.name])) for field in dataclasses.fields(cls))


def _reader(hint: Any) -> Reader:
    """Made once per field, so that reading a journal does not look at types again and again."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return _list_reader(_reader(inner[0])) if len(inner) == 2 and inner[1] is Ellipsis else _row_reader(tuple(map(_reader, inner)))
    if origin in (Union, types.UnionType):
        return _optional_reader(_reader(next(one for one in inner if one is not type(None))))
    if origin is Literal:
        return _word_reader(inner)
    if dataclasses.is_dataclass(hint):
        return lambda value, name: build(hint, value)  # type: ignore[arg-type]
    return _scalar_reader(hint)


def _list_reader(read_item: Reader) -> Reader:
    def read(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InputError("expected a list", field=name, value=value)
        return tuple([read_item(item, name) for item in value])

    return read


def _row_reader(readers: tuple[Reader, ...]) -> Reader:
    def read(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(readers):
            raise InputError(f"expected a list of {len(readers)}", field=name, value=value)
        return tuple([read_item(item, name) for read_item, item in zip(readers, value, strict=True)])

    return read


def _optional_reader(read_item: Reader) -> Reader:
    return lambda value, name: None if value is None else read_item(value, name)


def _word_reader(words: tuple[Any, ...]) -> Reader:
    def read(value: Any, name: str) -> Any:
        if value not in words:
            raise InputError("not one of the known values", field=name, value=value)
        return value

    return read


def _scalar_reader(kind: Any) -> Reader:
    def read(value: Any, name: str) -> Any:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        raise InputError(f"expected {kind.__name__}", field=name, value=value)

    return read


@cache
def _field_names(cls: type) -> tuple[str, ...] | None:
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else None
