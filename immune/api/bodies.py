"""Request bodies: read with a bound, parsed once, checked against the route's fields. Nothing untyped goes further."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from aiohttp import web

from immune.api.problems import ProblemError
from immune.api.routing import BodyField

PROSE = frozenset({"reason", "cause"})
JSON_TYPES = frozenset({"application/json"})
LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
READ_WITHIN_S = 30.0
US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = 7_258_118_400 * US


async def read_body(request: web.Request, limit: int, *, may_be_packed: bool = False) -> bytes:
    """The whole body. 413 beyond `limit`, without reading the rest; 408 when it does not come in time; 415 when packed and not meant to be."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not (may_be_packed and encoding == "gzip"):
        way_out = "send it plain, or by gzip" if may_be_packed else "send it plain"
        raise ProblemError(415, "this encoding is not taken", field="Content-Encoding", value=encoding, way_out=way_out)
    raw = await _read(request, limit)
    return unpack(raw, limit) if encoding == "gzip" else raw


def unpack(packed: bytes, limit: int) -> bytes:
    """What was gzipped. 400 for what was not; 413 beyond `limit`, without unpacking the rest."""
    opened = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        raw = opened.decompress(packed, limit + 1)
    except zlib.error:
        raise ProblemError(400, "not gzip", field="Content-Encoding", value="gzip", way_out="send it plain, or by gzip") from None
    if len(raw) > limit:
        raise _too_large(limit)
    if not opened.eof:
        raise ProblemError(400, "the gzipped body breaks off", field="body", way_out="send it whole")
    return raw


async def _read(request: web.Request, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            async for piece in request.content.iter_any():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise ProblemError(408, f"the body did not come within {READ_WITHIN_S:g} s", headers={"Connection": "close"}) from None
    return b"".join(pieces)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        413, f"more than {limit} bytes", field="body", way_out="send less at a time (limits.max_body_bytes)", headers={"Connection": "close"}
    )


def parse_json(raw: bytes, where: str = "body") -> object:
    """A JSON value. 400 for what is none, for what is not UTF-8, and for what is nested too deeply."""
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"not UTF-8 (byte {error.start})", field=where, way_out="send UTF-8") from None
    except RecursionError:
        raise ProblemError(400, "nested too deeply", field=where, way_out="a body needs three levels") from None
    except ValueError as error:
        raise ProblemError(400, f"not JSON: {error}", field=where, way_out="send valid JSON") from None


def parse_samples(raw: bytes, content_type: str, limit: int) -> list[object]:
    """The rows of an ingest request, JSON or NDJSON. 400, 413 beyond `limit` rows, 415 for another media type."""
    if content_type in LINES_TYPES:
        rows: Sequence[object] = [line for line in raw.split(b"\n") if line.strip()]
        if len(rows) <= limit:
            rows = [_line(line, number) for number, line in enumerate(rows) if isinstance(line, bytes)]
    elif content_type in JSON_TYPES:
        document = parse_json(raw)
        samples = document.get("samples") if isinstance(document, Mapping) else None
        if not isinstance(samples, list):
            raise ProblemError(400, "a list of samples is needed", field="samples", value=samples, way_out='send {"samples": [{"agent": …}]}')
        rows = samples
    else:
        raise _unsupported(content_type, "application/json or application/x-ndjson")
    if len(rows) > limit:
        raise ProblemError(413, f"more than {limit} samples in one request", field="samples", value=len(rows), way_out="send less at a time")
    return list(rows)


def _line(line: bytes, number: int) -> object:
    try:
        return parse_json(line, f"line {number + 1}")
    except ProblemError:
        # one broken line is one broken sample, not the end of the others
        return line.decode("utf-8", "replace")[:200]


def parse_fields(raw: bytes, content_type: str, fields: Sequence[BodyField]) -> dict[str, str | bool | int]:
    """The fields of a JSON object, typed. 400 for what is missing, unknown or of another type; 415 for another media type."""
    if not raw.strip():
        document: object = {}
    elif content_type not in JSON_TYPES:
        raise _unsupported(content_type, "application/json")
    else:
        document = parse_json(raw)
    if not isinstance(document, dict):
        raise ProblemError(400, "a JSON object is needed", field="body", value=document, way_out="send {…}")
    known = {field.name: field for field in fields}
    for name in document:
        if name not in known:
            raise ProblemError(400, "unknown field", field=name[:80], way_out="known are: " + (" ".join(known) or "none"))
    values: dict[str, str | bool | int] = {}
    for field in fields:
        given = document.get(field.name)
        if given is not None:
            values[field.name] = _typed(field, given)
        elif field.required:
            raise ProblemError(400, "this field is needed", field=field.name, way_out=field.says)
    return values


def _unsupported(content_type: str, wanted: str) -> ProblemError:
    return ProblemError(
        415, "this media type is not taken", field="Content-Type", value=content_type, way_out=f"send {wanted}", headers={"Accept": wanted}
    )


def _typed(field: BodyField, given: object) -> str | bool | int:
    if field.type == "boolean":
        if not isinstance(given, bool):
            raise ProblemError(400, "not true or false", field=field.name, value=given, way_out="send true or false")
        return given
    if field.type == "time":
        return parse_time(field.name, given)
    return _text(field, given)


def _text(field: BodyField, given: object) -> str:
    shown = None if field.secret else given
    if not isinstance(given, str):
        raise ProblemError(400, "not text", field=field.name, value=shown, way_out="send a JSON string")
    try:
        given.encode("utf-8")
    except UnicodeEncodeError:
        raise ProblemError(400, "not valid text", field=field.name, value=shown, way_out="no half of a surrogate pair") from None
    if len(given) > field.max_length:
        raise ProblemError(400, f"longer than {field.max_length} characters", field=field.name, value=shown, way_out="say it shorter")
    if field.options and given not in field.options:
        raise ProblemError(400, "not one of the known words", field=field.name, value=given, way_out="one of " + " ".join(field.options))
    return _one_line(given) if field.name in PROSE else given


def _one_line(given: str) -> str:
    """Words that end up in front of people: what could move a cursor, turn text round or begin a line of its own becomes a space."""
    return "".join(char if char.isprintable() else " " for char in given)


def parse_time(name: str, given: object) -> int:
    """Microseconds UTC of ISO 8601 (UTC when it names no zone) or epoch seconds, 1970 to 2200."""
    try:
        if isinstance(given, str):
            moment = datetime.fromisoformat(given)
            at_us = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
            found = at_us // timedelta(microseconds=1)
        elif isinstance(given, (int, float)) and not isinstance(given, bool):
            found = round(given * US)
        else:
            found = -1
    except (ValueError, OverflowError):
        found = -1
    if not 0 <= found <= _LATEST_US:
        raise ProblemError(400, "not a time", field=name, value=given, way_out="ISO 8601 in UTC, or epoch seconds")
    return found
