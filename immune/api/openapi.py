"""The OpenAPI document, made from the same table as the router, so that the two cannot diverge."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiohttp import web

from immune import __version__
from immune.api.problems import MEDIA_TYPE, json_response, title_of
from immune.api.routing import BodyField, Call, Route
from immune.api.seams import Document

_IN_PATH = re.compile(r"{(\w+)}")
_TYPES = {"text": "string", "boolean": "boolean", "time": "string"}
_SAMPLE: Document = {
    "type": "object",
    "required": ["agent"],
    "description": "One sample; any vital may be absent, absent is missing and never 0. Further numeric columns of the run's schema are taken too.",
    "properties": {
        "agent": {"type": "string", "minLength": 1, "maxLength": 128},
        "at": {"type": ["string", "number"], "description": "ISO 8601 (UTC when it names no zone) or epoch seconds; now when absent"},
        **{
            name: {"type": "number", "minimum": 0}
            for name in ("latency_ms", "input_tokens", "output_tokens", "cost_usd", "tool_calls", "retries", "errors", "context_tokens")
        },
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        **{name: {"type": "string"} for name in ("type", "service", "provider", "model", "version", "prompt_hash", "tool", "task", "task_id")},
        "step": {"type": "integer", "minimum": 0},
        "status": {"enum": ["working", "idle", "done"]},
    },
}
_PROBLEM: Document = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": ["string", "null"]},
        "value": {"type": ["string", "null"]},
        "way_out": {"type": ["string", "null"]},
        "request_id": {"type": "string"},
    },
}


def openapi_document(routes: Sequence[Route]) -> Document:
    """OpenAPI 3.1 of these routes."""
    paths: dict[str, Document] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Immune control API", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Sample": _SAMPLE, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that serves the document of these routes and itself."""

    async def describe(_: Call) -> web.StreamResponse:
        return json_response(document)

    own = Route(method="GET", path="/openapi.json", handler=describe, summary="This document; no token")
    document = openapi_document([*routes, own])
    return own


def _operation(route: Route) -> Document:
    operation: Document = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [{"token": []}] if route.roles else [],
        "x-roles": sorted(route.roles),
    }
    if route.body != "none":
        operation["requestBody"] = _body(route)
    return operation


def _parameters(route: Route) -> list[Document]:
    found: list[Document] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _IN_PATH.findall(route.path)]
    found += [{"name": name, "in": "query", "description": says, "schema": {"type": "string"}} for name, says in route.query]
    if route.method == "POST" and route.keyed:
        says = "the same key, route and body: one effect, and the same answer again"
        found.append({"name": "Idempotency-Key", "in": "header", "description": says, "schema": {"type": "string", "maxLength": 255}})
    if route.media_type == "text/event-stream":
        found.append({"name": "Last-Event-ID", "in": "header", "description": "resume after this seq", "schema": {"type": "string"}})
    return found


def _responses(route: Route) -> Document:
    statuses = [421, 429] if route.roles else [421]
    if route.roles:
        statuses += [401, 403]
    if "{id}" in route.path:
        statuses += [400, 404]
    if route.body != "none":
        statuses += [400, 408, 409, 413, 415, 422, 503]
    if route.path.startswith("/v1/approvals/") and route.method == "POST":
        statuses += [410, 412]
    if route.query:
        statuses.append(400)
    if route.path in {"/readyz", "/v1/stream"}:
        statuses.append(503)
    statuses += route.refuses
    answers: Document = {str(route.status): {"description": title_of(route.status), "content": {route.media_type: {"schema": _answer(route)}}}}
    if route.body == "otlp":
        answers[str(route.status)]["content"]["application/x-protobuf"] = {"schema": {"type": "string", "format": "binary"}}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers.update({str(status): {"description": title_of(status), "content": problem} for status in sorted(set(statuses))})
    return answers


def _answer(route: Route) -> Document:
    return {"type": "object"} if route.media_type == "application/json" else {"type": "string"}


def _body(route: Route) -> Document:
    if route.body == "samples":
        rows: Document = {
            "type": "object",
            "required": ["samples"],
            "properties": {"samples": {"type": "array", "items": {"$ref": "#/components/schemas/Sample"}}},
        }
        content: Document = {"application/json": {"schema": rows}, "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/Sample"}}}
        return {"required": True, "content": content}
    if route.body == "otlp":
        message = "resourceSpans" if route.path == "/v1/traces" else "resourceMetrics"
        listed = {"type": "object", "properties": {message: {"type": "array", "items": {"type": "object"}}}}
        binary = {"type": "string", "format": "binary", "description": "an export request of OTLP 1"}
        return {"required": True, "content": {"application/json": {"schema": listed}, "application/x-protobuf": {"schema": binary}}}
    needed = [field.name for field in route.fields if field.required]
    schema: Document = {"type": "object", "properties": {field.name: _property(field) for field in route.fields}, "additionalProperties": False}
    if needed:
        schema["required"] = needed
    return {"required": bool(needed), "content": {"application/json": {"schema": schema}}}


def _property(field: BodyField) -> Document:
    found: Document = {"type": _TYPES[field.type], "description": field.says}
    if field.type == "text":
        found["maxLength"] = field.max_length
    if field.type == "time":
        found["type"] = ["string", "number"]
    if field.options:
        found["enum"] = list(field.options)
    return found
