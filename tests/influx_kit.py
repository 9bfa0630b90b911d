"""A real InfluxDB of one's own for tests, and a scripted one that misbehaves in every way the real one can."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from immune.settings import InfluxSettings

ORG, TOKEN = "immune", "a-token-for-tests"
START_S = 30.0
ABSENT = "no InfluxDB here: set INFLUXDB_V2_URL (and _ORG, _TOKEN), put `influxd` in the PATH, name it in IMMUNE_INFLUXD, or start Docker"


class Server:
    """An `influxd` process on a free port with a folder of its own; it can be killed, paused and started again."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.binary, self.folder = binary, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self._buckets = itertools.count()

    def start(self) -> None:
        files = {"bolt": "influxd.bolt", "engine": "engine", "sqlite": "influxd.sqlite"}
        paths = [f"--{name}-path={self.folder / file}" for name, file in files.items()]
        address = f"--http-bind-address=127.0.0.1:{self.port}"
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([self.binary, *paths, address, "--reporting-disabled"], stdout=log, stderr=log)
        log.close()
        wait_until(self.answers, START_S)

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/ping", timeout=1).status == 204
        except OSError:
            return False

    def set_up(self) -> None:
        call(f"{self.url}/api/v2/setup", {"username": "admin", "password": "password-1", "org": ORG, "bucket": "first", "token": TOKEN})

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """Seconds of processor that the server has used since it was started."""
        spent = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")

    def target(self, bucket: str | None = None, **more) -> InfluxSettings:
        """A bucket of one's own, made now unless it is named."""
        name = bucket or f"b{next(self._buckets)}-{os.getpid()}"
        settings = InfluxSettings(url=self.url, org=ORG, token=TOKEN, bucket=name, **more)
        return settings if bucket else make_bucket(settings)


class Given(Server):
    """A server that somebody else runs: it is only used, never killed."""

    def __init__(self, url: str, org: str, token: str) -> None:
        self.url, self._org, self._token = url.rstrip("/"), org, token
        self._buckets = itertools.count()

    def target(self, bucket: str | None = None, **more) -> InfluxSettings:
        name = bucket or f"test-{next(self._buckets)}-{os.getpid()}"
        settings = InfluxSettings(url=self.url, org=self._org, token=self._token, bucket=name, **more)
        return settings if bucket else make_bucket(settings)


def make_bucket(settings: InfluxSettings) -> InfluxSettings:
    from influxdb_client.client.influxdb_client import InfluxDBClient

    with InfluxDBClient(url=settings.url, token=settings.token, org=settings.org) as client:
        client.buckets_api().create_bucket(bucket_name=settings.bucket, org=settings.org)
    return settings


def call(url: str, body: dict, token: str = "") -> dict:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", "Authorization": f"Token {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"{}")


def wait_until(condition, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {condition}"
        time.sleep(0.01)


def binary() -> str | None:
    return shutil.which("influxd") or os.environ.get("IMMUNE_INFLUXD") or None


@contextmanager
def own_server() -> Iterator[Server]:
    """A server that may be killed; skips where there is no `influxd`."""
    found = binary()
    if found is None:
        pytest.skip(ABSENT)
    folder = Path(tempfile.mkdtemp(prefix="immune-influx-"))
    server = Server(found, folder)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def contained_server() -> Iterator[Given]:
    """InfluxDB in a container, where an engine runs."""
    if not engine_runs():
        pytest.skip(ABSENT)
    from testcontainers.core.container import DockerContainer

    settings = {"MODE": "setup", "USERNAME": "admin", "PASSWORD": "password-1", "ORG": ORG, "BUCKET": "first", "ADMIN_TOKEN": TOKEN}
    container = DockerContainer("influxdb:2.9").with_exposed_ports(8086)
    for name, value in settings.items():
        container.with_env(f"DOCKER_INFLUXDB_INIT_{name}", value)
    with container:
        server = Given(f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8086)}", ORG, TOKEN)
        wait_until(server.answers, START_S)
        yield server


def engine_runs() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], check=False, capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="session")
def influx_server() -> Iterator[Server]:
    """One server for all tests of a process: the one given, a local one, a contained one, or a skip that says what to do."""
    given = os.environ.get("INFLUXDB_V2_URL")
    if given:
        yield Given(given, os.environ.get("INFLUXDB_V2_ORG", ""), os.environ.get("INFLUXDB_V2_TOKEN", ""))
        return
    with own_server() if binary() else contained_server() as server:
        yield server


class FakeInflux:
    """Answers as told: each item of `script` is (status, headers, message), "hang", or "drop" once; afterwards `usual`."""

    def __init__(self) -> None:
        from aiohttp import web

        self.script: deque = deque()
        self.usual: tuple | str = (204, {}, "")
        self.poison: bytes | None = None
        self.limit_bytes: int | None = None
        self.bodies: list[bytes] = []
        self.requests = 0
        self._web = web
        self._runner = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = self._web.Application(client_max_size=2**28)
        app.router.add_post("/api/v2/write", self._write)
        self._runner = self._web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = self._web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_) -> None:
        await self._runner.cleanup()

    def target(self, **more) -> InfluxSettings:
        return InfluxSettings(url=self.url, org="o", bucket="b", token="t", **more)

    @property
    def lines(self) -> list[bytes]:
        return [line for body in self.bodies for line in body.splitlines()]

    async def _write(self, request):
        import asyncio

        self.requests += 1
        packed = await request.read()
        body = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed  # aiohttp may have unpacked it
        answer = self.script.popleft() if self.script else self.usual
        if answer == "hang":
            await asyncio.sleep(3600)
        if answer == "drop":
            request.transport.abort()
            return self._web.Response(status=500)
        status, headers, message = answer
        if status == 204 and self.limit_bytes is not None and len(body) > self.limit_bytes:
            status, message = 413, "request entity too large"
        if status == 204 and self.poison is not None and self.poison in body:
            status, message = 400, "unable to parse"
        if status == 204:
            self.bodies.append(body)
        return (
            self._web.json_response({"code": "x", "message": message}, status=status, headers=headers)
            if status != 204
            else self._web.Response(status=204)
        )
