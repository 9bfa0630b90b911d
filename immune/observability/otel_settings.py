"""The standard OTEL settings, read once. What only the exporters need (headers, certificates, compression, timeouts), they read themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from immune.errors import InputError

OtlpProtocol = Literal["grpc", "http/protobuf"]
Signal = Literal["traces", "metrics"]
PROTOCOLS: dict[str, OtlpProtocol] = {"grpc": "grpc", "http/protobuf": "http/protobuf"}
DEFAULT_INTERVAL_MS = 60_000
PREFIX = "OTEL_EXPORTER_OTLP_"


@dataclass(frozen=True, slots=True, kw_only=True)
class OtelSettings:
    """Where traces and metrics go, None where they are not asked for. `place` names the collector without any credentials."""

    traces: OtlpProtocol | None
    metrics: OtlpProtocol | None
    place: str
    interval_s: float = DEFAULT_INTERVAL_MS / 1000


def read_otel_settings(environment: Mapping[str, str] | None = None) -> OtelSettings | None:
    """None unless an OTLP endpoint is named and the SDK is not disabled. Raises InputError for a value that cannot be meant."""
    env = os.environ if environment is None else environment
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    traces, metrics = _signal(env, "traces"), _signal(env, "metrics")
    if traces is None and metrics is None:
        return None
    endpoint = env.get(PREFIX + "ENDPOINT") or env.get(PREFIX + "TRACES_ENDPOINT") or env.get(PREFIX + "METRICS_ENDPOINT", "")
    return OtelSettings(traces=traces, metrics=metrics, place=place_of(endpoint), interval_s=_interval_ms(env) / 1000)


def place_of(endpoint: str) -> str:
    """Host and port of an endpoint; what may stand before or after them is nobody's business."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    return parts.netloc.rpartition("@")[2]


def _signal(env: Mapping[str, str], signal: Signal) -> OtlpProtocol | None:
    field = f"{PREFIX}{signal.upper()}_ENDPOINT" if env.get(f"{PREFIX}{signal.upper()}_ENDPOINT") else f"{PREFIX}ENDPOINT"
    endpoint = env.get(field, "").strip()
    exporter = env.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").strip().lower()
    if not endpoint or exporter == "none":
        return None
    if exporter not in {"otlp", ""}:
        raise InputError("not an exporter", field=f"OTEL_{signal.upper()}_EXPORTER", value=exporter, way_out="otlp or none")
    named = f"{PREFIX}{signal.upper()}_PROTOCOL" if env.get(f"{PREFIX}{signal.upper()}_PROTOCOL") else f"{PREFIX}PROTOCOL"
    word = env.get(named, "").strip() or "http/protobuf"
    protocol = PROTOCOLS.get(word)
    if protocol is None:
        raise InputError("not an OTLP protocol", field=named, value=word, way_out="grpc or http/protobuf")
    if protocol == "http/protobuf" and (urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).hostname):
        raise InputError("not an address", field=field, value=place_of(endpoint), way_out="for example http://127.0.0.1:4318")
    return protocol


def _interval_ms(env: Mapping[str, str]) -> float:
    field = "OTEL_METRIC_EXPORT_INTERVAL"
    text = env.get(field, "").strip()
    if not text:
        return DEFAULT_INTERVAL_MS
    if not text.isdecimal() or int(text) < 1:
        raise InputError("not a time in milliseconds", field=field, value=text, way_out="for example 10000 for every ten seconds")
    return int(text)
