"""Lists a page at a time: an item's place is a tuple of whole numbers, and a page goes on after the place where the last one ended.

A place stays what it is while the list grows, so that no page skips or repeats what was there before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from dashboard.filters import predicate
from dashboard.routing import Ask
from immune.api.problems import ProblemError
from immune.core.state import ApprovalState, IncidentState, RunState

PAGE = 200
PAGE_MAX = 2000
QUERY = (("limit", f"1 to {PAGE_MAX}, {PAGE}"), ("after", "`next` of the page before; null there says that this was the last"))
SEVERITY_MAX = 10.0

T = TypeVar("T")
Row = dict[str, Any]
Place = tuple[int, ...]
_PLACE = re.compile(r"-?\d{1,18}(\.-?\d{1,18}){0,3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, and after which place the next ones are; empty for the last page."""

    rows: list[Row]
    next: str | None


def page(ask: Ask, items: Iterable[T], place: Callable[[T], Place], view: Callable[[T], Row]) -> Page:
    """The page asked for of items that come in the order of their places. A download (``?format=``) is everything that fits the filter."""
    limit = ask.whole("limit", PAGE, 1, PAGE_MAX)
    after, fits = _after(ask.query("after")), predicate(ask.query("q"))
    whole = bool(ask.query("format"))
    rows: list[Row] = []
    last: Place = ()
    for one in items:
        if after and place(one) <= after:
            continue
        row = view(one)
        if not fits(row):
            continue
        if len(rows) == limit and not whole:
            return Page(rows=rows, next=".".join(map(str, last)))
        rows.append(row)
        last = place(one)
    return Page(rows=rows, next=None)


def _after(text: str) -> Place:
    if text and not _PLACE.fullmatch(text):
        raise ProblemError(400, "not a place in a list", field="after", value=text, way_out="take `next` of the page before")
    return tuple(map(int, text.split("."))) if text else ()


# -- orders ------------------------------------------------------------------------------------------------------------------


def incidents_in_order(state: RunState) -> Iterable[IncidentState]:
    """Open ones first, the newest before the older ones."""
    found = [one for one in reversed(state.incidents.values()) if one.open]
    return (*sorted(found, key=place_of_incident), *(one for one in reversed(state.incidents.values()) if not one.open))


def place_of_incident(incident: IncidentState) -> Place:
    """Its place among all."""
    return (0 if incident.open else 1, -incident.opened_seq)


def approvals_in_order(state: RunState) -> Iterable[ApprovalState]:
    """Those that wait first: the most severe, then what expires soonest; decided ones after them, the newest first."""
    found = list(reversed(state.approvals.values()))
    waiting = sorted((one for one in found if one.status == "pending"), key=place_of_approval)
    return (*waiting, *(one for one in found if one.status != "pending"))


def place_of_approval(approval: ApprovalState) -> Place:
    """Its place among all."""
    if approval.status != "pending":
        return (1, -approval.seq)
    return (0, round(1000 * (SEVERITY_MAX - approval.severity)), approval.expires_us, approval.seq)
