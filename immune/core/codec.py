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
from collections.abc import Mapping
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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in _field_names(type(value))}
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
    """The JSON value in these bytes. Raises InputError for anything else."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"this is not JSON: {error}") from None


def build(cls: type[D], content: Mapping[str, Any]) -> D:
    """A dataclass from an already parsed JSON object. Raises InputError when a field is missing or of another type."""
    values = {}
    if not isinstance(content, Mapping):
        raise InputError(f"cannot read {cls.__name__}: expected an object", value=content)
    for name, hint in _hints(cls).items():  # type: ignore[arg-type]
        if name in content:
            values[name] = _shape(hint, content[name], name)
    try:
        return cls(**values)
    except TypeError as error:
        raise InputError(f"cannot read {cls.__name__}: {error}") from None


def _shape(hint: Any, value: Any, name: str) -> Any:
    origin = get_origin(hint)
    if origin is tuple:
        item_hints = get_args(hint)
        if not isinstance(value, list):
            raise InputError("expected a list", field=name, value=value)
        if len(item_hints) == 2 and item_hints[1] is Ellipsis:
            return tuple(_shape(item_hints[0], item, name) for item in value)
        if len(item_hints) != len(value):
            raise InputError(f"expected a list of {len(item_hints)}", field=name, value=value)
        return tuple(_shape(one, item, name) for one, item in zip(item_hints, value, strict=True))
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _shape(next(arg for arg in get_args(hint) if arg is not type(None)), value, name)
    if origin is Literal:
        if value not in get_args(hint):
            raise InputError("not one of the known values", field=name, value=value)
        return value
    if dataclasses.is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int):
        return float(value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise InputError(f"expected {hint.__name__}", field=name, value=value)
    return value


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {name: hints[name] for name in _field_names(cls)}
