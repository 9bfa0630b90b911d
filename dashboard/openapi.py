"""The OpenAPI document, made from the same table as the router, so that the two cannot diverge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flask import Response

from dashboard.encoding import encode
from dashboard.routing import Ask, BodyField, Route
from immune import __version__
from immune.api.problems import MEDIA_TYPE, title_of

Document = dict[str, Any]
_IN_PATH = re.compile(r"<(?:path:)?(\w+)>")
_TYPES = {"text": "string", "boolean": "boolean", "number": "number", "list": "array", "object": "object"}
_PROBLEM: Document = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail", "request_id")},
        "status": {"type": "integer"},
        **{name: {"type": ["string", "null"]} for name in ("field", "value", "way_out")},
    },
}


def openapi_document(routes: Sequence[Route]) -> Document:
    """OpenAPI 3.1 of these routes."""
    paths: dict[str, Document] = {}
    for route in routes:
        if route.listed:
            paths.setdefault(_IN_PATH.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Immune dashboard", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}, "session": {"type": "apiKey", "in": "cookie", "name": "immune_8711"}},
        },
    }


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that serves the document of these routes and itself."""

    def describe(_: Ask) -> Response:
        return Response(encode(document), content_type="application/json")

    own = Route(method="GET", path="/openapi.json", handler=describe, summary="This document", role="")
    document = openapi_document([*routes, own])
    return own


def _operation(route: Route) -> Document:
    operation: Document = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [{"token": []}, {"session": []}] if route.role else [],
        "x-least-role": route.role or None,
    }
    if route.body:
        needed = [one.name for one in route.fields if one.required]
        schema: Document = {"type": "object", "properties": {one.name: _property(one) for one in route.fields}, "additionalProperties": False}
        if needed:
            schema["required"] = needed
        operation["requestBody"] = {"required": bool(needed), "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(route: Route) -> list[Document]:
    found: list[Document] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _IN_PATH.findall(route.path)]
    found += [{"name": name, "in": "query", "description": says, "schema": {"type": "string"}} for name, says in route.query]
    if route.body:
        found.append(
            {"name": "Idempotency-Key", "in": "header", "description": "passed on to the daemon", "schema": {"type": "string", "maxLength": 255}}
        )
    if route.media_type == "text/event-stream":
        found.append({"name": "Last-Event-ID", "in": "header", "description": "resume after this seq", "schema": {"type": "string"}})
    return found


def _responses(route: Route) -> Document:
    statuses = {400, 404, 421, 503} | ({401, 403} if route.role else set())
    if route.body:
        statuses |= {401, 403, 409, 410, 412, 413, 415, 422, 429}
    content = {route.media_type: {"schema": {"type": "object"} if route.media_type == "application/json" else {"type": "string"}}}
    answers: Document = {"200": {"description": title_of(200), "content": content}}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers.update({str(status): {"description": title_of(status), "content": problem} for status in sorted(statuses)})
    return answers


def _property(one: BodyField) -> Document:
    found: Document = {"type": _TYPES[one.type], "description": one.says}
    if one.type == "text":
        found["maxLength"] = one.max_length
    if one.options:
        found["enum"] = list(one.options)
    return found
