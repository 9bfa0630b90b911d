"""A policy as TOML: reading it with line and column of whatever is wrong, writing it with unit and reason of every key."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from typing import Any

from immune.core.events import Mode
from immune.core.policy import Policy
from immune.core.toml_locator import KeyPath, Place, locate
from immune.errors import PolicyError

MODES: tuple[Mode, ...] = ("observe", "recommend", "act")
MODES_TABLE = "modes"
NEIGHBOURS = ("daemon", "influx", "notify", "process", "webhook")
"""Tables of the same file that say where things are and whose hands there are; read elsewhere, no part of a policy."""
MAX_POLICY_CHARS = 1_000_000
_ORDERED = (("containment", "throttle_at"), ("containment", "restrict_at"), ("containment", "isolate_at"))
_SECTIONS = tuple(field.name for field in fields(Policy) if is_dataclass(getattr(Policy(), field.name)))
_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")
_AT_END = re.compile(r"\s*\(at end of document\)$")


def read_policy(text: str, path: str = "") -> Policy:
    """The policy that a TOML text describes; what it leaves out keeps its default.

    `path` only names the file in errors. Raises PolicyError for the first problem in the order of the file.
    """
    policy, problems = _read(text, path)
    if problems:
        raise problems[0]
    return policy


def check_policy(text: str, path: str = "") -> list[PolicyError]:
    """Every problem of a TOML text, in the order of the file; empty when it is a valid policy."""
    return _read(text, path)[1]


def canonical(policy: Policy) -> str:
    """The policy as TOML, every key, no comments: equal policies have equal text."""
    return _as_toml(policy, commented=False)


def render_policy(policy: Policy) -> str:
    """The policy as TOML for people: every key with its unit, range and the reason for its default."""
    return _as_toml(policy, commented=True)


def policy_version(policy: Policy) -> str:
    """First 12 hex digits of the SHA-256 of the canonical text."""
    return hashlib.sha256(canonical(policy).encode()).hexdigest()[:12]


# --- reading


def _read(text: str, path: str) -> tuple[Policy, list[PolicyError]]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        table = _parse(text, path)
    except PolicyError as problem:
        return Policy(), [problem]
    reader = _Reader(locate(text), path)
    policy = reader.read(table)
    return policy, sorted(reader.problems, key=lambda problem: (problem.line, problem.column))


def _parse(text: str, path: str) -> Mapping[str, Any]:
    if len(text) > MAX_POLICY_CHARS:
        raise PolicyError("too long for a policy", line=1, column=1, path=path, way_out=f"keep it under {MAX_POLICY_CHARS} characters")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise PolicyError("nested too deeply", line=1, column=1, path=path, way_out="a policy needs two levels") from None
    except ValueError as error:
        what, line, column = _syntax_place(str(error), text)
        raise PolicyError(f"not valid TOML: {what}", line=line, column=column, path=path, way_out="see https://toml.io") from None


def _syntax_place(message: str, text: str) -> tuple[str, int, int]:
    found = _AT_LINE.search(message)
    if found:
        return message[: found.start()], int(found[1]), int(found[2])
    lines = text.split("\n")
    if _AT_END.search(message):
        return _AT_END.sub(" at the end of the file", message), len(lines), len(lines[-1]) + 1
    return message, 1, 1


class _Reader:
    """One pass over the parsed table against the dataclasses; problems are collected, not raised."""

    def __init__(self, places: Mapping[KeyPath, Place], path: str) -> None:
        self._places = places
        self._path = path
        self.problems: list[PolicyError] = []

    def read(self, table: Mapping[str, Any]) -> Policy:
        known = {key: given for key, given in table.items() if key not in NEIGHBOURS}
        modes = known.pop(MODES_TABLE, {})
        values = self._section(Policy(), known, (), extra=(MODES_TABLE, *NEIGHBOURS))
        policy = Policy(**{**values, "modes_by_type": self._modes(modes)})
        if not self.problems:
            self._check_order(policy)
        return policy

    def _section(self, defaults: Any, table: Mapping[str, Any], prefix: KeyPath, extra: tuple[str, ...] = ()) -> dict[str, Any]:
        known = {field.name: field for field in fields(defaults) if field.name != "modes_by_type"}
        values: dict[str, Any] = {}
        for key, given in table.items():
            if key not in known:
                self._unknown(prefix, key, (*known, *extra))
                continue
            default = getattr(defaults, key)
            if is_dataclass(default) and not isinstance(default, type):
                values[key] = self._subsection(default, given, (*prefix, key))
            else:
                values[key] = self._value(known[key], default, given, (*prefix, key))
        return values

    def _subsection(self, default: Any, given: object, path: KeyPath) -> Any:
        if not isinstance(given, Mapping):
            self._problem("this is a section, not a single value", path, given, f"write it as [{'.'.join(path)}] with keys below", at_key=True)
            return default
        return type(default)(**self._section(default, given, path))

    def _value(self, field: Field[Any], default: Any, given: object, path: KeyPath) -> Any:
        wrong = _wrong(field, default, given)
        if wrong:
            self._problem(wrong, path, given, allowed(field))
            return default
        return float(given) if isinstance(default, float) and isinstance(given, (int, float)) else given

    def _modes(self, given: object) -> tuple[tuple[str, Mode], ...]:
        if not isinstance(given, Mapping):
            self._problem("this is a section, not a single value", (MODES_TABLE,), given, "write it as [modes] with agent types below", at_key=True)
            return ()
        modes: list[tuple[str, Mode]] = []
        for agent_type, word in given.items():
            mode = next((known for known in MODES if known == word), None)
            if mode is None:
                way_out = f"use one of {', '.join(MODES)}{_nearest(word, MODES)}"
                self._problem("not a mode", (MODES_TABLE, agent_type), word, way_out)
            else:
                modes.append((agent_type, mode))
        return tuple(sorted(modes))

    def _check_order(self, policy: Policy) -> None:
        for (section, lower), (_, higher) in pairwise(_ORDERED):
            levels = getattr(policy, section)
            low, high = getattr(levels, lower), getattr(levels, higher)
            if low > high:
                path = (section, higher) if (section, higher) in self._places else (section, lower)
                shown = high if path[-1] == higher else low
                self._problem(f"{higher} is below {lower} ({high:g} < {low:g})", path, shown, f"keep {lower} <= {higher}")

    def _unknown(self, prefix: KeyPath, key: str, known: Sequence[str]) -> None:
        where = f"section [{'.'.join(prefix)}]" if prefix else "the policy"
        guess = _nearest(key, known)
        way_out = guess.strip(" ;") if guess else f"{where} knows {', '.join(known)}"
        if prefix and key in _SECTIONS:
            way_out = f"it is a section of its own: [{key}]"
        self._problem(f"unknown key in {where}", (*prefix, key), None, way_out, at_key=True)

    def _problem(self, what: str, path: KeyPath, value: object, way_out: str, *, at_key: bool = False) -> None:
        place = self._places.get(path) or Place(key_line=1, key_column=1, value_line=1, value_column=1)
        line, column = (place.key_line, place.key_column) if at_key else (place.value_line, place.value_column)
        self.problems.append(PolicyError(what, line=line, column=column, path=self._path, field=dotted(path), value=value, way_out=way_out))


def _nearest(word: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _wrong(field: Field[Any], default: object, given: object) -> str:
    """What is wrong with a value, or nothing."""
    if "options" in field.metadata:
        options = field.metadata["options"]
        return "" if isinstance(given, str) and given in options else "not one of the allowed words"
    if isinstance(default, bool):
        return "" if isinstance(given, bool) else "expected true or false"
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return f"expected a {'whole ' if isinstance(default, int) else ''}number"
    if isinstance(given, float) and not math.isfinite(given):
        return "expected a finite number"
    if isinstance(default, int) and not isinstance(given, int):
        return "expected a whole number"
    return "" if field.metadata["low"] <= given <= field.metadata["high"] else "out of range"


def allowed(field: Field[Any]) -> str:
    """What a policy key allows, for people: range and unit, or the words."""
    if "options" in field.metadata:
        return "use one of " + ", ".join(field.metadata["options"])
    if "low" in field.metadata:
        return f"give {_number(field.metadata['low'])} to {_number(field.metadata['high'])} ({field.metadata['unit']})"
    return "give true or false"


def _number(value: float) -> str:
    """Short for people: ``10000``, ``0.001``, ``1e-09``."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:g}"


def dotted(path: KeyPath) -> str:
    """``detection.min_samples``; a part that is no bare key is quoted."""
    return ".".join(_key(part) for part in path)


# --- writing


def policy_keys(policy: Policy) -> Iterator[tuple[str, Field[Any], Any]]:
    """Every key of a policy but those of ``[modes]``: (section, field, value), sections in order, "" first."""
    return _keys(policy, ())


def _keys(part: Any, prefix: KeyPath) -> Iterator[tuple[str, Field[Any], Any]]:
    nested = []
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name == "modes_by_type":
            continue
        if is_dataclass(value):
            nested.append((field.name, value))
        else:
            yield dotted(prefix), field, value
    for name, value in nested:
        yield from _keys(value, (*prefix, name))


def _as_toml(policy: Policy, *, commented: bool) -> str:
    lines = _top(commented=commented)
    section = ""
    modes_written = False
    for name, field, value in policy_keys(policy):
        if name != section:
            if not modes_written:
                lines += _modes_lines(policy, commented=commented)
                modes_written = True
            section = name
            lines += ["", f"[{name}]"]
        if commented:
            lines += _comment(field)
        lines.append(f"{field.name} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _top(*, commented: bool) -> list[str]:
    if not commented:
        return []
    return ["# Policy of Immune. Every key may be left out; it then keeps the default shown in docs/policy.md.", ""]


def _comment(field: Field[Any]) -> list[str]:
    meta = field.metadata
    default = "" if field.default is MISSING else f"; default {_literal(field.default)}"
    reason = f"# {meta.get('why', '')}"
    return [reason, f"# {allowed(field).removeprefix('give ').removeprefix('use ')}{default}"]


def _modes_lines(policy: Policy, *, commented: bool) -> list[str]:
    head = ["", f"[{MODES_TABLE}]"]
    if commented:
        head.append('# agent type = mode; a type that is not named here follows `mode` above. For example: researcher = "act"')
    return head + [f"{_key(agent_type)} = {_literal(mode)}" for agent_type, mode in sorted(policy.modes_by_type)]


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value + 0.0)
    if isinstance(value, int):
        return str(value)
    return _text(str(value))


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
