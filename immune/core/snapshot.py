"""A folded state as bytes, so that a restart folds only what came after it.

A snapshot never decides anything: it stands for the fold of the first `seq` events, holds the head of the chain there, and is
thrown away whenever it does not fit the code that reads it. ``thaw(freeze(fold(k events)))`` and the tail give the state that
a full fold gives, for every k.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import cache
from typing import Any, get_args, get_type_hints

from immune import __version__
from immune.core import codec
from immune.core.state import RunState
from immune.errors import InputError

RULES = 3
"""Raise it whenever an event is folded otherwise than before: a state that older rules made is then not used any more."""


def freeze(state: RunState) -> bytes:
    """The state as JSON bytes, keys in the order in which the fold put them."""
    values = {item.name: _plain(getattr(state, item.name)) for item in dataclasses.fields(state)}
    return json.dumps({"made_by": made_by(), "state": values}, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    return {key: codec.plain(item) for key, item in value.items()} if isinstance(value, dict) else codec.plain(value)


def thaw(content: bytes) -> RunState | None:
    """The state again; None if other code made it, or if it is no snapshot at all."""
    try:
        document = codec.parse(content)
        if not isinstance(document, dict) or document.get("made_by") != made_by():
            return None
        return codec.build(RunState, document["state"])
    except (InputError, KeyError, UnicodeDecodeError):
        return None


@cache
def made_by() -> str:
    """Names this version, the rules of the fold, and the shape of everything in a state."""
    lines = sorted(_shape(RunState, set()))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    return f"{__version__} rules {RULES} shape {digest}"


def _shape(cls: type, seen: set[type]) -> list[str]:
    if cls in seen:
        return []
    seen.add(cls)
    lines = [f"{cls.__qualname__}.{item.name}: {item.type}" for item in dataclasses.fields(cls)]
    for hint in get_type_hints(cls).values():
        for inner in _classes(hint):
            lines += _shape(inner, seen)
    return lines


def _classes(hint: Any) -> list[type]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [one for inner in get_args(hint) for one in _classes(inner)]
