"""Whether a collector is where the OTEL settings say, asked without the SDK: an empty OTLP request, or a connection for gRPC."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from immune.observability.otel_settings import PREFIX, OtelSettings, read_otel_settings

TIMEOUT_S = 2.0
GRPC_PORT = 4317


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of asking. `found` and `mend` are for people and hold no credentials."""

    works: bool
    found: str
    mend: str = ""


def probe(environment: Mapping[str, str] | None = None) -> Answered | None:
    """Ask the collector; None where none is named. Raises InputError for a setting that cannot be meant."""
    env = os.environ if environment is None else environment
    settings = read_otel_settings(env)
    if settings is None:
        return None
    protocol = settings.metrics or settings.traces
    return _connect(settings) if protocol == "grpc" else _post(settings, env)


def _connect(settings: OtelSettings) -> Answered:
    parts = urlsplit(f"//{settings.place}")
    try:
        with socket.create_connection((parts.hostname or "", parts.port or GRPC_PORT), timeout=TIMEOUT_S):
            return Answered(works=True, found=f"{settings.place} takes connections (gRPC)")
    except OSError as error:
        return _unreachable(settings.place, error)


def _post(settings: OtelSettings, env: Mapping[str, str]) -> Answered:
    signal = "metrics" if settings.metrics else "traces"
    url = env.get(f"{PREFIX}{signal.upper()}_ENDPOINT") or env[f"{PREFIX}ENDPOINT"].rstrip("/") + f"/v1/{signal}"
    # an empty protobuf message is a whole OTLP request with nothing in it; the scheme was checked with the settings
    request = urllib.request.Request(url, data=b"", method="POST", headers={"Content-Type": "application/x-protobuf", **_headers(env)})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return Answered(works=True, found=f"{settings.place} takes OTLP")
    except urllib.error.HTTPError as error:
        return _refused(settings.place, error.code)
    except (urllib.error.URLError, OSError) as error:
        return _unreachable(settings.place, error)


def _headers(env: Mapping[str, str]) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in env.get(PREFIX + "HEADERS", "").split(",") if "=" in pair)
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}


def _refused(place: str, status: int) -> Answered:
    mend = {
        401: "set OTEL_EXPORTER_OTLP_HEADERS to what the collector asks for",
        403: "set OTEL_EXPORTER_OTLP_HEADERS to what the collector asks for",
        404: "there is no OTLP receiver at this path: name the base address in OTEL_EXPORTER_OTLP_ENDPOINT",
    }
    return Answered(works=False, found=f"{place} answers {status}", mend=mend.get(status, "look into the collector's log"))


def _unreachable(place: str, error: OSError) -> Answered:
    reason = getattr(error, "reason", None) or error.strerror or error
    return Answered(
        works=False,
        found=f"{place}: {reason}",
        mend="start a collector (observability/otel-collector-config.yaml), or name another in OTEL_EXPORTER_OTLP_ENDPOINT",
    )
