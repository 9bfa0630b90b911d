"""Events of every kind, drawn from their types: few ids, so that they meet, and many that mean nothing."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Literal, Union, get_args, get_origin

from hypothesis import strategies as st

from immune.core import events as ev

AGENTS = ("a-1", "a-2", "search", "fleet", "")
IDS = {
    "incident_id": ("inc-1", "inc-2", "nonsense"),
    "plan_id": ("plan-1", "plan-2", "nonsense", ""),
    "request_id": ("req-1", "req-2", "nonsense", ""),
    "containment_id": ("con-1", "con-2", "nonsense"),
    "target": AGENTS,
    "service": ("search", ""),
    "key": ("k-1", "k-2"),
}


def _of(hint, name=""):
    origin, inner = get_origin(hint), get_args(hint)
    if name in IDS and hint is str:
        return st.sampled_from(IDS[name])
    if name == "agents":
        return st.lists(st.sampled_from(AGENTS), max_size=2).map(tuple)
    if origin is tuple:
        return st.lists(_of(inner[0]), max_size=2).map(tuple) if inner[1] is Ellipsis else st.tuples(*map(_of, inner))
    if origin in (Union, types.UnionType):
        return st.none() | _of(inner[0])
    if origin is Literal:
        return st.sampled_from(inner)
    if dataclasses.is_dataclass(hint):
        return events_of(hint)
    if hint is bool:
        return st.booleans()
    if hint is int:
        return st.integers(-2, 3) if name == "step" else st.integers(0, 2**40)
    return st.floats(-1e9, 1e9, allow_nan=False) if hint is float else st.text(max_size=3)


def events_of(cls):
    """Values of one dataclass."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: _of(hints[field.name], field.name) for field in dataclasses.fields(cls)})


EVENTS = st.one_of([events_of(cls) for _, cls in sorted(ev.KINDS.items())])
"""One event of any kind."""


def drafts():
    """A draft of any event about anybody."""
    return st.builds(
        ev.Draft,
        at_us=st.integers(0, 2**50),
        subject=st.sampled_from(AGENTS),
        event=EVENTS,
        correlation_id=st.sampled_from(("inc-1", "")),
        actor=st.sampled_from(("system", "person:ann")),
    )
