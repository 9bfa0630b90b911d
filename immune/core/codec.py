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
from functools import cache, partial
from itertools import repeat
from operator import attrgetter, call
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
        text = content.decode("utf-8", "surrogatepass")
        if text[:1] == "{":  # our own writing has no white space around it: past the search for it
            value, end = _DECODER.raw_decode(text)
            if end == len(text):
                return value
        return _DECODER.decode(text)
    except ValueError as error:
        raise InputError(f"this is not JSON: {error}") from None


def _not_finite(word: str) -> float:
    raise InputError("an event cannot hold a number that is not finite", value=word)


_DECODER = json.JSONDecoder(parse_constant=_not_finite)


def build(cls: type[D], content: Mapping[str, Any]) -> D:
    """A dataclass from an already parsed JSON object. Raises InputError when a field is missing or of another type."""
    if not isinstance(content, dict):
        raise InputError(f"cannot read {cls.__name__}: expected an object", value=content)
    made = object.__new__(cls)
    for name, put, kind, read, default in _fields(cls):  # type: ignore[arg-type]
        value = content.get(name, _ABSENT)
        if type(value) is kind:
            put(made, value)
        elif value is not _ABSENT:
            put(made, read(value, name))
        elif default is not None:
            put(made, default())
        else:
            raise InputError(f"cannot read {cls.__name__}: {name} is missing", field=name)
    return made


def changed(old: D, **changes: Any) -> D:
    """A copy of a frozen dataclass with other values in some fields: `dataclasses.replace`, in a third of its time."""
    cls = type(old)
    names, puts, by_name = _slots(cls)  # type: ignore[arg-type]
    made = object.__new__(cls)
    any(map(call, puts, repeat(made), names(old)))  # writing a slot gives None: any() goes through them all, without a loop of ours
    for name, value in changes.items():
        by_name[name](made, value)
    return made


Put = Callable[[Any, Any], None]
Reader = Callable[[Any, str], Any]
"""Checks and shapes one parsed value; the name is for the error."""
_ABSENT = object()


@cache
def _fields(cls: Any) -> tuple[tuple[str, Put, Any, Reader, Callable[[], Any] | None], ...]:
    """Per field: name, its slot, the type that needs no shaping (None: any needs it), its reader, what makes its default."""
    hints = get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        default = field.default_factory if field.default_factory is not dataclasses.MISSING else None
        if field.default is not dataclasses.MISSING:
            default = partial(_same, field.default)
        found.append((field.name, _put(cls, field.name), hint if hint in {str, int, float, bool} else None, _reader(hint), default))
    return tuple(found)


@cache
def _slots(cls: type) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[Put, ...], dict[str, Put]]:
    """How to read all fields at once, how to write them in that order, and how to write one by its name."""
    names = [field.name for field in dataclasses.fields(cls)]
    puts = {name: _put(cls, name) for name in names}
    get_all = attrgetter(*names) if len(names) > 1 else lambda one: tuple(getattr(one, name) for name in names)
    return get_all, tuple(puts.values()), puts


def _put(cls: type, name: str) -> Put:
    """How a field of a frozen dataclass is written while it is being made: its slot itself, past the guard against changes later."""
    slot = getattr(cls, name, None)
    return slot.__set__ if isinstance(slot, types.MemberDescriptorType) else lambda one, value: object.__setattr__(one, name, value)


def _same(value: Any) -> Any:
    return value


def _reader(hint: Any) -> Reader:
    """Made once per field, so that reading a journal does not look at types again and again."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return _list_reader(_reader(inner[0])) if len(inner) == 2 and inner[1] is Ellipsis else _row_reader(tuple(map(_reader, inner)))
    if origin in (dict, Mapping):
        return _map_reader(_reader(inner[1]))
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


def _map_reader(read_item: Reader) -> Reader:
    """For states only: an event holds no map, because two writers may order its keys differently."""

    def read(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InputError("expected an object", field=name, value=value)
        return {key: read_item(item, name) for key, item in value.items()}

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
