"""Makes, copies and reads frozen dataclasses through functions that are written out once per class.

A frozen dataclass sets each field through a call that steps around its own guard, and a reader that looks at types field by field
asks the same questions for every event of a journal. Here the straight code for one class is compiled when it is first needed:
the fields are set on a twin (same bases, same slots, no guard), which then becomes the class itself. What comes out is what the
constructor makes, in a third of the time or less; nobody sees the twin.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from immune.errors import InputError

D = TypeVar("D")
Reader = Callable[[Any, str], Any]
"""Checks and shapes one parsed value; the name is for the error."""
_ABSENT = object()
_SCALARS = {str: "str", int: "int", float: "float", bool: "bool"}


_MAKERS: dict[type, Any] = {}
_COPIERS: dict[type, Any] = {}
_READERS: dict[type, Any] = {}


def maker(cls: type[D]) -> type[D]:
    """Makes an instance as the constructor does, by name, or in field order where nothing has a default. Typed as the class: calls are checked."""
    found: type[D] = _MAKERS.get(cls) or _MAKERS.setdefault(cls, _write_maker(cls))
    return found


def copier(cls: type[D]) -> Callable[[D, Mapping[str, Any]], D]:
    """Copies an instance with other values in some fields. The copy raises AttributeError for a field that there is not."""
    found: Callable[[D, Mapping[str, Any]], D] = _COPIERS.get(cls) or _COPIERS.setdefault(cls, _write_copier(cls))
    return found


def reader(cls: type[D]) -> Callable[[Any], D]:
    """Reads a parsed JSON object. Raises InputError when a field is missing or of another type; unknown keys are ignored."""
    found: Callable[[Any], D] = _READERS.get(cls) or _READERS.setdefault(cls, _write_reader(cls))
    return found


def _write_maker(cls: Any) -> Any:
    names, arguments, known = [], [], _known(cls)
    for field in dataclasses.fields(cls):
        default = _default(field)
        known[f"default_{field.name}"] = default
        arguments.append(field.name if default is None else f"{field.name}=absent")
        names.append(field.name if default is None else f"default_{field.name}() if {field.name} is absent else {field.name}")
    star = "*, " if any("=" in one for one in arguments) else ""
    sets = [f"made.{argument.partition('=')[0]} = {name}" for argument, name in zip(arguments, names, strict=True)]
    return _compiled(f"{star}{', '.join(arguments)}", sets, known)


def _write_copier(cls: Any) -> Any:
    sets = [f"made.{field.name} = old.{field.name}" for field in dataclasses.fields(cls)]
    return _compiled("old, changes", [*sets, "for name, value in changes.items():", "    put(made, name, value)"], _known(cls))


def _write_reader(cls: Any) -> Any:
    hints, known = get_type_hints(cls), _known(cls)
    known |= {"error": InputError, "strings": {str}}
    lines = ["if type(content) is not dict:", f'    raise error("cannot read {cls.__name__}: expected an object", value=content)', "try:"]
    for field in dataclasses.fields(cls):
        lines += [f"    {line}" for line in _reading(field, hints[field.name], known)]
    lines += ["except KeyError as missing:", "    name = missing.args[0]"]
    lines += [f'    raise error(f"cannot read {cls.__name__}: {{name}} is missing", field=name) from None']
    return _compiled("content", lines, known)


def _compiled(arguments: str, lines: list[str], known: dict[str, Any]) -> Any:
    body = "\n".join(f"    {line}" for line in ["made = twin()", *lines, "made.__class__ = cls", "return made"])
    exec(f"def write_out({arguments}):\n{body}\n", known)  # noqa: S102 - as dataclasses does: our own field names, and nothing else
    return known["write_out"]


def _known(cls: type) -> dict[str, Any]:
    return {"cls": cls, "twin": _twin(cls), "absent": _ABSENT, "put": object.__setattr__}


@cache
def _twin(cls: type) -> type:
    """A class of the same layout whose slots can be set: `__class__` can be changed only between such."""
    slots = cls.__dict__.get("__slots__")
    if slots is None:  # without slots an instance keeps a dict, and so does its twin
        return type(cls.__name__, cls.__bases__, {"__setattr__": object.__setattr__})
    return type(cls.__name__, cls.__bases__, {"__slots__": slots, "__setattr__": object.__setattr__})


def _default(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    if field.default is dataclasses.MISSING:
        return None
    default = field.default
    return lambda: default


def _reading(field: dataclasses.Field[Any], hint: Any, known: dict[str, Any]) -> list[str]:
    """The lines that read one field: what is right already is taken as it is, all else goes through its reader, which shapes it or refuses it."""
    name, default = field.name, _default(field)
    known[f"read_{name}"], known[f"default_{name}"] = value_reader(hint), default
    read, right = f'read_{name}(value, "{name}")', _right(name, hint, known)
    sets = f"made.{name} = value if {right} else {read}" if right else f"made.{name} = {read}"
    if default is None:
        return [f'value = content["{name}"]', sets]
    return [f'value = content.get("{name}", absent)', "if value is absent:", f"    made.{name} = default_{name}()", "else:", f"    {sets}"]


def _right(name: str, hint: Any, known: dict[str, Any]) -> str:
    """The condition under which a value needs no shaping; empty if it always does."""
    if hint in _SCALARS:
        return f"type(value) is {_SCALARS[hint]}"
    words = get_args(hint)
    if get_origin(hint) is Literal and all(isinstance(word, str) for word in words):
        known[f"words_{name}"] = frozenset(words)
        return f"type(value) is str and value in words_{name}"
    return ""


def value_reader(hint: Any) -> Reader:
    """How a value of this type is read."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        if len(inner) != 2 or inner[1] is not Ellipsis:
            return _row_reader(tuple(map(value_reader, inner)))
        return _strings_reader() if inner[0] is str else _list_reader(inner[0])
    if origin in (dict, Mapping):
        return _map_reader(value_reader(inner[1]))
    if origin in (Union, types.UnionType):
        return _optional_reader(value_reader(next(one for one in inner if one is not type(None))))
    if origin is Literal:
        return _word_reader(inner)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        read_object = reader(hint)
        return lambda value, name: read_object(value)
    return _scalar_reader(hint)


def _strings_reader() -> Reader:
    read_item = _scalar_reader(str)
    only_strings = {str}

    def read(value: Any, name: str) -> tuple[str, ...]:
        if type(value) is list and (not value or {*map(type, value)} == only_strings):
            return tuple(value)
        return _as_list(value, name, read_item)

    return read


def _list_reader(hint: Any) -> Reader:
    read_item = value_reader(hint)
    if not isinstance(hint, type) or not dataclasses.is_dataclass(hint):
        return lambda value, name: _as_list(value, name, read_item)
    read_object = reader(hint)
    return lambda value, name: tuple([read_object(item) for item in value]) if type(value) is list else _as_list(value, name, read_item)


def _as_list(value: Any, name: str, read_item: Reader) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise InputError("expected a list", field=name, value=value)
    return tuple([read_item(item, name) for item in value])


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
