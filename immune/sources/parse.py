"""One value, one row: text and JSON scalars become typed fields here, and nowhere else.

Every parser takes a value as it came (text of a CSV cell, scalar of a JSON object) and returns the typed value, or
raises `RefusedValueError` with a short stable word that says why. Missing (absent, None, empty) is a value of its own and never 0.

Reasons: `not_a_number nan infinite negative absurd missing_agent bad_id missing_time bad_time bad_status bad_step not_text
too_long encoding`; readers add `too_few_fields too_many_fields unclosed_quote not_csv not_json not_an_object line_too_long
cut_off`, the replay `late duplicate fleet_full`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from immune.core.vitals import CONTEXT_FIELDS, MISSING, VITALS, Status, VitalSchema, check_agent_id
from immune.errors import InputError

US = 1_000_000
NO_TIME = -1
"""A missing time in arrays."""
LATEST_US = 7_258_118_400 * US
"""2200-01-01: a time beyond it (milliseconds taken for seconds, say) is refused, and so is one before 1970."""
MAX_TEXT = 256
"""Characters of a context word or task id."""

IDENTITY_FIELDS: tuple[str, ...] = ("agent", "type", "service")
WORD_FIELDS: tuple[str, ...] = ("type", "service", *CONTEXT_FIELDS, "task_id")
"""Fields that are text of any kind; `agent` is text with stricter rules."""
FIELDS: tuple[str, ...] = ("at", "agent", *(spec.name for spec in VITALS), "type", "service", *CONTEXT_FIELDS, "task_id", "step", "status")
"""Every column a replay file or ingested sample may have without being asked for."""

STATUSES: Mapping[str, Status] = {"": Status.UNSAID, "working": Status.WORKING, "idle": Status.IDLE, "done": Status.DONE}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NAN_WORDS = frozenset({"nan", "+nan", "-nan"})
_INFINITE_WORDS = frozenset({"inf", "infinity", "+inf", "+infinity", "-inf", "-infinity"})


class RefusedValueError(InputError):
    """A value that cannot be taken; `reason` is one of the module's words. Caught where a row becomes a rejection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why one sample was not taken: the field, its value as shown to people (shortened), a stable reason."""

    field: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRow:
    """One good sample.

    `at_us` is None where the row has no time; `values` are in the schema's column order, NaN where missing; `context` is
    in the order of `CONTEXT_FIELDS`, empty where missing.
    """

    agent_id: str
    at_us: int | None
    values: tuple[float, ...]
    step: int
    status: Status
    task_id: str
    context: tuple[str, ...]
    type: str
    service: str


class RowParser:
    """Turns mappings of text or JSON scalars into samples of one schema. Keys that it does not know are ignored."""

    def __init__(self, schema: VitalSchema) -> None:
        self.schema = schema

    def parse_sample(self, row: Mapping[str, object]) -> ParsedRow | Rejection:
        """One sample; the first field at fault is named."""
        field = ""
        try:
            field = "agent"
            agent_id = parse_agent(row.get(field))
            field = "at"
            at_us = parse_time(row.get(field))
            values = []
            for spec in self.schema.specs:
                field = spec.name
                values.append(parse_number(row.get(field), spec.max_value))
            words = {}
            for field in WORD_FIELDS:
                words[field] = parse_word(row.get(field))
            field = "step"
            step = parse_step(row.get(field))
            field = "status"
            status = parse_status(row.get(field))
        except RefusedValueError as refused:
            return Rejection(field=field, value=show(row.get(field)), reason=refused.reason)
        return ParsedRow(
            agent_id=agent_id,
            at_us=at_us,
            values=tuple(values),
            step=step,
            status=status,
            task_id=words["task_id"],
            context=tuple(words[name] for name in CONTEXT_FIELDS),
            type=words["type"],
            service=words["service"],
        )


def parse_number(value: object, max_value: float) -> float:
    """A vital: finite, 0 to `max_value`; NaN if missing."""
    if value is None or value == "":
        return math.nan
    number = _as_float(value)
    if math.isnan(number):
        raise RefusedValueError("nan")
    if math.isinf(number):
        raise RefusedValueError("infinite")
    if number < 0:
        raise RefusedValueError("negative")
    if number > max_value:
        raise RefusedValueError("absurd")
    return number


def parse_agent(value: object) -> str:
    """An agent id in NFC."""
    if value is None or value == "":
        raise RefusedValueError("missing_agent")
    if isinstance(value, str) and not _is_unicode(value):
        raise RefusedValueError("encoding")
    try:
        return check_agent_id(value)
    except InputError:
        raise RefusedValueError("bad_id") from None


def parse_word(value: object) -> str:
    """A context word or task id: any text up to `MAX_TEXT` characters, empty if missing."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RefusedValueError("not_text")
    if len(value) > MAX_TEXT:
        raise RefusedValueError("too_long")
    if not _is_unicode(value):
        raise RefusedValueError("encoding")
    return value


def parse_step(value: object) -> int:
    """A whole number from 0; `MISSING` if missing."""
    if value is None or value == "":
        return MISSING
    try:
        number = _as_float(value)
    except RefusedValueError:
        raise RefusedValueError("bad_step") from None
    if not 0 <= number < 2**31 or number != int(number):
        raise RefusedValueError("bad_step")
    return int(number)


def parse_status(value: object) -> Status:
    """`working`, `idle` or `done`; `Status.UNSAID` if missing."""
    if value is None:
        return Status.UNSAID
    status = STATUSES.get(value) if isinstance(value, str) else None
    if status is None:
        raise RefusedValueError("bad_status")
    return status


def parse_time(value: object) -> int | None:
    """Microseconds UTC from ISO 8601 (UTC when it names no zone) or epoch seconds, 1970 to 2200; None if missing.

    Digits beyond microseconds are cut off.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        at_us = _since_epoch(value if value.tzinfo else value.replace(tzinfo=UTC))
    elif isinstance(value, str) and (found := _ISO.fullmatch(value.strip())):
        at_us = _iso_us(found)
    else:
        at_us = _epoch_us(value)
    if not 0 <= at_us <= LATEST_US:
        raise RefusedValueError("bad_time")
    return at_us


def show(value: object, limit: int = 80) -> str:
    """A refused value for people: bounded, printable, safe to encode."""
    text = _scalar_text(value, limit)[: limit + 1].encode("utf-8", "backslashreplace").decode("utf-8")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _scalar_text(value: object, limit: int) -> str:
    if isinstance(value, str):
        return value
    # Only scalars are spelled out: what is deeply nested or very long can fail to print.
    if isinstance(value, int) and value.bit_length() > 4 * limit:
        return "a very large integer"
    return repr(value) if isinstance(value, int | float | None) else f"a {type(value).__name__}"


def _as_float(value: object) -> float:
    # bool is an int to Python, but `true` is not a measurement.
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise RefusedValueError("absurd") from None
    if not isinstance(value, str):
        raise RefusedValueError("not_a_number")
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    word = text.lower()
    if word in _NAN_WORDS:
        return math.nan
    if word in _INFINITE_WORDS:
        return math.inf
    raise RefusedValueError("encoding" if not _is_unicode(value) else "not_a_number")


def _is_unicode(text: str) -> bool:
    """Whether the text has no stray surrogates, which is what bytes that are not UTF-8 are read as."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _iso_us(found: re.Match[str]) -> int:
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=_zone(zone))
    except ValueError:
        raise RefusedValueError("bad_time") from None
    micro = int((fraction or "0").ljust(6, "0")[:6])
    return _since_epoch(moment) + micro


def _since_epoch(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * US + since.microseconds


def _zone(text: str | None) -> timezone:
    if text is None or text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _epoch_us(value: object) -> int:
    try:
        seconds = _as_float(value)
    except RefusedValueError as refused:
        raise RefusedValueError("encoding" if refused.reason == "encoding" else "bad_time") from None
    if not 0 <= seconds <= LATEST_US / US:
        raise RefusedValueError("bad_time")
    return round(seconds * US)
