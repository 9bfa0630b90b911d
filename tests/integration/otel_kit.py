"""A real OpenTelemetry Collector with the configuration that we ship, ephemeral: its own ports, its own folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "observability" / "otel-collector-config.yaml"
IMAGE = "otel/opentelemetry-collector-contrib:0.161.0"
READ_BACK = """
exporters:
  file:
    path: {file}
    flush_interval: 50ms
service:
  pipelines:
    traces: {{exporters: [debug, file]}}
    metrics: {{exporters: [debug, file]}}
"""
HOW = (
    "no OpenTelemetry Collector: put `otelcol` or `otelcol-contrib` into PATH, name one in IMMUNE_OTELCOL, or start a container engine "
    f"so that {IMAGE} can be run"
)


def collector_binary() -> str | None:
    named = os.environ.get("IMMUNE_OTELCOL")
    if named:
        assert Path(named).is_file(), f"IMMUNE_OTELCOL names {named}, which is not there"
        return named
    return shutil.which("otelcol") or shutil.which("otelcol-contrib")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def until(found, what: str, seconds: float = 20.0):
    """The first true value of `found`, looked for again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@dataclass
class Collector:
    """A running collector. `received` is what its file exporter wrote."""

    http: str
    grpc: str
    health: str
    file: Path

    def received(self) -> list[dict[str, Any]]:
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if self.file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for batch in self.received()
            for resource in batch.get("resourceSpans", [])
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The newest of every metric, by name."""
        return {
            metric["name"]: metric
            for batch in self.received()
            for resource in batch.get("resourceMetrics", [])
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
        }

    def resources(self) -> list[dict[str, Any]]:
        return [
            {one["key"]: next(iter(one["value"].values())) for one in resource["resource"]["attributes"]}
            for batch in self.received()
            for resource in (*batch.get("resourceSpans", []), *batch.get("resourceMetrics", []))
        ]


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in of.get("attributes", [])}


@contextmanager
def running(folder: Path, *, http_port: int | None = None, extra: Path | None = None):
    """A collector: a local binary if there is one, else a container, else the test is skipped with a sentence that helps."""
    folder.mkdir(parents=True, exist_ok=True)
    binary = collector_binary()
    if binary is None:
        with _container(folder) as collector:
            yield collector
        return
    ports = {"OTELCOL_HTTP": http_port or free_port(), "OTELCOL_GRPC": free_port(), "OTELCOL_HEALTH": free_port()}
    file, more = folder / "received.jsonl", extra or folder / "read-back.yaml"
    if extra is None:
        more.write_text(READ_BACK.format(file=file), encoding="utf-8")
    environment = {**os.environ, **{name: f"127.0.0.1:{port}" for name, port in ports.items()}}
    command = [binary, "--config", str(CONFIG), "--config", str(more)]
    with (folder / "collector.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    collector = Collector(
        http=f"http://127.0.0.1:{ports['OTELCOL_HTTP']}",
        grpc=f"http://127.0.0.1:{ports['OTELCOL_GRPC']}",
        health=f"http://127.0.0.1:{ports['OTELCOL_HEALTH']}",
        file=file,
    )
    try:
        until(lambda: _answers(collector.health), f"a healthy collector; see {folder / 'collector.log'}")
        yield collector
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def _container(folder: Path):
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        pytest.skip(HOW)
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer

    folder.chmod(0o777)  # the collector's own user writes into it
    extra = folder / "read-back.yaml"
    extra.write_text(READ_BACK.format(file="/received/received.jsonl"), encoding="utf-8")
    try:
        container = (
            DockerContainer(IMAGE)
            .with_command("--config /etc/immune.yaml --config /received/read-back.yaml")
            .with_volume_mapping(str(CONFIG), "/etc/immune.yaml", "ro")
            .with_volume_mapping(str(folder), "/received", "rw")
            .with_env("OTELCOL_HTTP", "0.0.0.0:4318")
            .with_env("OTELCOL_GRPC", "0.0.0.0:4317")
            .with_env("OTELCOL_HEALTH", "0.0.0.0:13133")
            .with_exposed_ports(4317, 4318, 13133)
        )
        container.start()
    except DockerException as error:
        pytest.skip(f"{HOW} ({error})")
    try:
        host = container.get_container_host_ip()
        addresses = {port: f"http://{host}:{container.get_exposed_port(port)}" for port in (4317, 4318, 13133)}
        collector = Collector(http=addresses[4318], grpc=addresses[4317], health=addresses[13133], file=folder / "received.jsonl")
        until(lambda: _answers(collector.health), "a healthy collector in its container", 60)
        yield collector
    finally:
        container.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
