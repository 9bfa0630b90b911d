"""The filter box: ``state:isolated type:coder sev>6 word``. The same grammar is in `static/js/filter.js`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from immune.api.problems import ProblemError

Row = dict[str, Any]
ALIASES = {"sev": "severity", "agent": "subject", "kind": "diagnosis"}
_TERM = re.compile(r'(-?)(?:([a-z_]+)(:|>=|<=|>|<|=))?("[^"]*"|\S+)')
_COMPARE: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}
TERMS_MAX = 20


def keep(rows: Sequence[Row], query: str) -> list[Row]:
    """The rows that fit. Raises ProblemError 400 for what is no filter."""
    fits = predicate(query)
    return [row for row in rows if fits(row)]


def predicate(query: str) -> Callable[[Row], bool]:
    """Whether every term holds for a row; ``-`` before a term turns it round. Raises ProblemError 400 for what is no filter."""
    terms = [_term(*match.groups()) for match in _TERM.finditer(query)]
    if len(terms) > TERMS_MAX:
        raise ProblemError(400, "too many terms", field="q", way_out=f"at most {TERMS_MAX}")
    return lambda row: all(term(row) for term in terms)


def _term(minus: str, name: str | None, sign: str | None, value: str) -> Callable[[Row], bool]:
    text = value.strip('"').lower()
    if name is None or sign is None:
        holds = _anywhere(text)
    elif sign in _COMPARE:
        holds = _figure(ALIASES.get(name, name), _COMPARE[sign], text)
    else:
        holds = _word(ALIASES.get(name, name), text.split(","))
    return (lambda row: not holds(row)) if minus else holds


def _anywhere(text: str) -> Callable[[Row], bool]:
    return lambda row: any(text in str(value).lower() for value in row.values() if isinstance(value, (str, list)))


def _word(name: str, words: Sequence[str]) -> Callable[[Row], bool]:
    def holds(row: Row) -> bool:
        value = row.get(name)
        if isinstance(value, list):
            return any(word in (str(item).lower() for item in value) for word in words)
        text = "" if value is None else str(value).lower()
        return any(text == word or (bool(word) and word in text and name in ("id", "subject", "cohort", "reason")) for word in words)

    return holds


def _figure(name: str, compare: Callable[[float, float], bool], text: str) -> Callable[[Row], bool]:
    try:
        limit = float(text)
    except ValueError:
        raise ProblemError(400, "not a number", field="q", value=text, way_out="for example sev>6") from None

    def holds(row: Row) -> bool:
        value = row.get(name)
        return isinstance(value, (int, float)) and not isinstance(value, bool) and compare(float(value), limit)

    return holds
