"""The dashboard under load: 10,000 agents, 16 busy clients, and what the daemon feels of it.

Three questions. How fast is ``/api/agents`` (packed, plain, and with a tag that is known)? How late do the daemon's ticks
come while 16 clients hammer the dashboard, against none? How long from an event on disk to an open page (its stream)?
Besides: what a first visit weighs, packed. ``--fleet DIR`` only writes the data directory, to look at by hand.

Usage: python benchmarks/dashboard.py [--agents 10000] [--clients 16] [--seconds 6] [--ticks 100] [--only answers|live] [--quick] [--fleet DIR]

Only a machine that does nothing else tells anything about lateness: the load of the last minute before it stands in the result.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "benchmarks" / "out"
US = 1_000_000
TICKS_A_TURN = 10
"""Turns of a daemon alone and one beside busy clients: what else the machine does falls on both."""
TYPES = ("coder", "writer", "planner", "researcher", "support")


def write_fleet(data_dir: Path, agents: int) -> str:
    """A data directory with a run of so many agents, a twentieth of them ill, as a daemon would have left it; the run id."""
    from immune.bootstrap import open_stores
    from immune.core import events as ev
    from immune.core.events import Draft
    from immune.core.policy import Policy
    from immune.core.policy_file import canonical, policy_version
    from immune.core.vitals import VitalSchema

    run_id, now_us = "bench-fleet", time.time_ns() // 1000
    stores = open_stores(data_dir)
    epoch = stores.journal.acquire(run_id, "benchmark", now_us)
    policy = Policy(mode="act")
    started = ev.RunStarted(
        version="0",
        epoch=epoch,
        period_us=US,
        policy_version=policy_version(policy),
        policy=canonical(policy),
        source=f"benchmark of {agents} agents",
    )
    drafts = [Draft(at_us=now_us, subject="run", event=started)]
    names = [f"{TYPES[n % 5]}-{n:05d}" for n in range(agents)]
    drafts += [
        Draft(at_us=now_us, subject=name, event=ev.AgentEnrolled(index=n, type=TYPES[n % 5], service=f"service-{n % 40:02d}"))
        for n, name in enumerate(names)
    ]
    healthy = ev.HealthChanged(before="learning", after="healthy", nats=0.0, samples=15, basis="own")
    drafts += [Draft(at_us=now_us + US, subject=name, event=healthy) for name in names]
    note = ev.EvidenceNote(
        vital="latency_ms", direction="up", nats=30.0, ratio=4.0, observed=4000.0, expected=1000.0, effect=4.0, growth=0.0, onset_us=now_us,
        calibration=1.0, basis="own",
    )  # fmt: skip
    for number, name in enumerate(names[::20], 1):
        incident_id = f"inc-{number:04d}"
        opened = ev.IncidentOpened(
            incident_id=incident_id, scope="agent", cohort="", agents=(name,), onset_us=now_us, nats=30.0, threshold_nats=18.0,
            severity=1.0 + number % 9, severity_why=("latency ×4",), evidence=(note,),
            diagnosis=(ev.HypothesisNote(kind="latency_spike", confidence=0.8, evidence_for=(), evidence_against=()),), ruled_out=(), changed=(),
            policy_version=policy_version(policy),
        )  # fmt: skip
        sick = ev.HealthChanged(before="healthy", after="sick", nats=30.0, samples=20, basis="own")
        drafts += [
            Draft(at_us=now_us + 2 * US, subject=name, event=sick),
            Draft(at_us=now_us + 2 * US, subject=name, event=opened, correlation_id=incident_id),
        ]
    for start in range(0, len(drafts), 1000):
        stores.journal.append(run_id, drafts[start : start + 1000], expected_seq=start, epoch=epoch)
    stores.telemetry.begin(run_id, VitalSchema())
    stores.telemetry.name_agents(run_id, 0, names)
    stores.close()
    return run_id


@dataclass(slots=True, kw_only=True)
class Child:
    """A process of ours that said where it listens."""

    process: subprocess.Popen[str]
    url: str

    def stop(self) -> None:
        """End it in order."""
        self.process.terminate()
        self.process.wait(20)


def start_dashboard(data_dir: Path) -> Child:
    """``python -m dashboard`` over a data directory."""
    command = [sys.executable, "-m", "dashboard", "--data-dir", str(data_dir), "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return Child(process=process, url=json.loads(process.stdout.readline())["url"])


def wait_ready(url: str, agents: int) -> None:
    """Until the dashboard shows the whole fleet."""
    for _ in range(600):
        if json.loads(fetch(url, "/api/stats")[1]).get("agents", 0) >= agents:
            return
        time.sleep(0.1)
    raise SystemExit("the dashboard did not read the fleet in a minute")


def fetch(url: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=30)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


HAMMER = """
import http.client, json, os, sys, threading, time
# clients are elsewhere: they must not take the processor from the daemon, nor a part of a dashboard's share
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)) if sys.argv[2] == "elsewhere" else os.nice(10)
host, port, path, clients, seconds, headers = json.loads(sys.argv[1])
took, sizes, until = [], [0] * clients, time.perf_counter() + seconds
def client(number):
    connection = http.client.HTTPConnection(host, port, timeout=30)
    while time.perf_counter() < until:
        begun = time.perf_counter()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        sizes[number] += len(response.read())
        took.append(time.perf_counter() - begun)
threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
begun = time.perf_counter()
[one.start() for one in threads]; [one.join() for one in threads]
spent = time.perf_counter() - begun
took.sort()
found = {"requests_per_s": round(len(took) / spent, 1), "megabytes_per_s": round(sum(sizes) / spent / 1e6, 1)}
found.update({f"p{part}_ms": round(1000 * took[len(took) * part // 100], 2) for part in (50, 99)})
print(json.dumps(found))
"""


def hammer(url: str, path: str, clients: int, seconds: float, headers: dict[str, str], *, elsewhere: bool = False) -> dict[str, float]:
    """So many clients in a process of their own, each with one connection, asking without a pause; `elsewhere`: with what the others leave."""
    where = urlsplit(url)
    command = [
        sys.executable,
        "-c",
        HAMMER,
        json.dumps([where.hostname, where.port, path, clients, seconds, headers]),
        "elsewhere" if elsewhere else "here",
    ]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def throughput(agents: int, clients: int, seconds: float) -> dict[str, Any]:
    """``/api/agents`` in three ways, and ``/api/map``."""
    with tempfile.TemporaryDirectory() as folder:
        write_fleet(Path(folder), agents)
        child = start_dashboard(Path(folder))
        try:
            wait_ready(child.url, agents)
            status, raw = fetch(child.url, "/api/agents")
            assert status == 200
            assert len(json.loads(raw)["agents"]) == agents
            packed = fetch(child.url, "/api/agents", {"Accept-Encoding": "gzip"})[1]
            where = urlsplit(child.url)
            connection = http.client.HTTPConnection(where.hostname or "", where.port or 80)
            connection.request("GET", "/api/agents")
            tag = connection.getresponse().headers["ETag"]
            connection.close()
            return {
                "agents_bytes": len(raw),
                "agents_packed_bytes": len(packed),
                "map_packed_bytes": len(fetch(child.url, "/api/map", {"Accept-Encoding": "gzip"})[1]),
                "packed": hammer(child.url, "/api/agents", clients, seconds, {"Accept-Encoding": "gzip"}),
                "plain": hammer(child.url, "/api/agents", clients, seconds, {}),
                "known": hammer(child.url, "/api/agents", clients, seconds, {"If-None-Match": tag}),
                "map": hammer(child.url, "/api/map", clients, seconds, {"Accept-Encoding": "gzip"}),
                "first_visit": first_visit(child.url),
            }
        finally:
            child.stop()


def first_visit(url: str) -> dict[str, int]:
    """Bytes of everything that the first visit of the fleet page loads, packed where the server packs."""
    import re

    seen: dict[str, int] = {}
    waiting = ["/fleet", "/api/agents", "/api/session", "/api/runs", "/api/stats", "/api/changes", "/api/times"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        where = urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port or 80)
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        seen[path] = len(body)
        import gzip

        text = (gzip.decompress(body) if response.headers.get("Content-Encoding") == "gzip" else body).decode("utf-8", "replace")
        if path == "/fleet":
            waiting += re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
        elif path.endswith(".js"):
            folder = path.rsplit("/", 1)[0]
            for name in re.findall(r'(?:from|import) "(\.[^"]+)"', text):
                waiting.append(os.path.normpath(f"{folder}/{name}"))
    pages = {path: size for path, size in seen.items() if not path.startswith("/api/agents")}
    return {"files": len(seen), "bytes_without_the_list": sum(pages.values()), "bytes": sum(seen.values())}


# -- the daemon's ticks --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Lags:
    """How late ticks came, in ms."""

    alone: list[float] = field(default_factory=list)
    hammered: list[float] = field(default_factory=list)


def tick_lag(agents: int, clients: int, ticks: int) -> dict[str, Any]:
    """Lag of a live daemon's ticks with nobody at the dashboard, and with 16 clients at it; then event to page."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--daemon", folder, "--agents", str(agents)],
            cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        json.loads(process.stdout.readline())
        child = start_dashboard(Path(folder))
        try:
            wait_ready(child.url, agents)

            def measure(count: int) -> list[float]:
                process.stdin.write(f"{count}\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                found: list[float] = json.loads(process.stdout.readline())["lag_ms"]  # type: ignore[union-attr]
                return found

            measure(3)
            lags = Lags()
            rates: list[float] = []
            for _ in range(max(1, ticks // TICKS_A_TURN)):
                lags.alone += measure(TICKS_A_TURN)
                stop = threading.Event()
                crowd = threading.Thread(target=_keep_busy, args=(child.url, clients, stop, rates))
                crowd.start()
                time.sleep(1.0)
                lags.hammered += measure(TICKS_A_TURN)
                stop.set()
                crowd.join()
            alone, hammered = np.percentile(lags.alone, 99), np.percentile(lags.hammered, 99)
            delays = event_to_page(child.url, Path(folder))
            return {
                "ticks": len(lags.alone),
                "requests_per_s": round(statistics.median(rates), 1),
                "alone_p50_ms": round(statistics.median(lags.alone), 2),
                "alone_p99_ms": round(float(alone), 2),
                "hammered_p50_ms": round(statistics.median(lags.hammered), 2),
                "hammered_p99_ms": round(float(hammered), 2),
                "ratio_p99": round(float(hammered / alone), 3),
                "event_to_page_p50_ms": round(statistics.median(delays), 1),
                "event_to_page_p95_ms": round(float(np.percentile(delays, 95)), 1),
                "events": len(delays),
            }
        finally:
            child.stop()
            process.stdin.close()
            process.wait(30)


def _keep_busy(url: str, clients: int, stop: threading.Event, rates: list[float]) -> None:
    while not stop.is_set():
        rates.append(hammer(url, "/api/agents", clients, 2.0, {"Accept-Encoding": "gzip"}, elsewhere=True)["requests_per_s"])


def event_to_page(url: str, data_dir: Path, events: int = 40) -> list[float]:
    """Milliseconds from the answer to a report (its event is on disk then) to its line in an open stream; negative: it was there before."""
    note = json.loads((data_dir / "daemon.json").read_text(encoding="utf-8"))
    token = (data_dir / "admin.token").read_text(encoding="utf-8").strip()
    seen: dict[int, float] = {}
    ready = threading.Event()
    where = urlsplit(url)

    def listen() -> None:
        connection = http.client.HTTPConnection(where.hostname or "", where.port or 80, timeout=60)
        connection.request("GET", "/api/stream")
        response = connection.getresponse()
        ready.set()
        while len(seen) < events and (line := response.readline()):
            if line.startswith(b"id: "):
                seen[int(line[4:])] = time.perf_counter()
        connection.close()

    listener = threading.Thread(target=listen)
    listener.start()
    ready.wait(10)
    time.sleep(0.5)
    api = urlsplit(note["url"])
    sent: dict[int, float] = {}
    for number in range(events):
        connection = http.client.HTTPConnection(api.hostname or "", api.port or 80)
        body = json.dumps({"reason": f"measured {number}"})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", f"/v1/agents/{TYPES[0]}-00000/report", body=body, headers=headers)
        answer = json.loads(connection.getresponse().read())
        sent[int(answer["events"][-1][1:])] = time.perf_counter()
        connection.close()
        time.sleep(0.11 + 0.007 * (number % 7))
    listener.join(10)
    return [1000 * max(0.0, next((at for seq, at in sorted(seen.items()) if seq >= own), sent_at + 9) - sent_at) for own, sent_at in sent.items()]


def run_daemon_child(folder: Path, agents: int) -> None:
    """A daemon with so many agents sending once a second; it ticks as often as stdin says, and tells how late each was."""
    from immune.api.app import Api
    from immune.api.server import serve
    from immune.bootstrap import build_engine, open_stores
    from immune.clock import SystemClock
    from immune.connectors.gate import GateConnector
    from immune.core.policy import Policy
    from immune.core.vitals import AgentIdentity, SampleBatch
    from immune.reports import documents
    from immune.reports.explain import explain
    from immune.sources.ingest import IngestSource
    from immune.stores.tokens import TokenStore

    class Steady:
        """Samples of a healthy fleet."""

        name = "steady"

        def open(self, desk: Any) -> None:
            self.desk = desk
            for number in range(agents):
                desk.roster.enroll(
                    AgentIdentity(agent_id=f"{TYPES[number % 5]}-{number:05d}", type=TYPES[number % 5], service=f"service-{number % 40:02d}")
                )
            self.rng = np.random.default_rng(7)

        async def collect(self, now_us: int) -> SampleBatch:
            batch = SampleBatch.blank(agents, len(self.desk.schema.names))
            batch.agent[:] = np.arange(agents)
            batch.at_us[:] = now_us
            batch.values[:] = self.rng.lognormal(3.0, 0.2, batch.values.shape)
            return batch

        async def close(self) -> None:
            return

    stores = open_stores(folder)
    policy, clock = Policy(mode="observe"), SystemClock()
    inbox, gate, tokens = IngestSource(policy.limits), GateConnector(), TokenStore(folder)
    tokens.ensure_admin()
    engine = build_engine(run_id="bench-live", sources=[Steady(), inbox], stores=stores, policy=policy, connectors=[gate])

    async def live() -> None:
        engine.start(clock.now_us())
        api = Api(engine=engine, inbox=inbox, keys=tokens, gate=gate, papers=documents, explain=explain, clock=clock)
        server = await serve(api, port=0, data_dir=folder)
        print(json.dumps({"ready": True}), flush=True)
        loop = asyncio.get_running_loop()
        lags: list[float] = []
        ticked = asyncio.Event()

        def after_tick(_now_us: int) -> None:
            api.refresh_approvers()
            lags.append(engine.counters.lag_us / 1000)
            ticked.set()

        engine.on_tick = after_tick
        forever = asyncio.create_task(engine.run(clock, first_us=-(-clock.now_us() // US) * US, until_us=None))
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            lags.clear()
            wanted = int(line)
            while len(lags) < wanted:
                ticked.clear()
                await asyncio.wait([forever, asyncio.ensure_future(ticked.wait())], return_when=asyncio.FIRST_COMPLETED)
                if forever.done():
                    forever.result()
            print(json.dumps({"lag_ms": lags[: int(line)]}), flush=True)
        forever.cancel()
        await asyncio.gather(forever, return_exceptions=True)
        await server.close()
        await engine.finish(clock.now_us(), "measured")

    asyncio.run(live())
    stores.close()


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--ticks", type=int, default=100)
    parser.add_argument("--only", choices=("answers", "live"), help="one of the two parts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the agents, two seconds each")
    parser.add_argument("--fleet", type=Path, help="only write a data directory with such a fleet")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.daemon:
        return run_daemon_child(given.daemon, given.agents)
    if given.fleet:
        print(write_fleet(given.fleet, given.agents))
        return None
    agents, seconds, ticks = (given.agents // 10, 2.0, 10) if given.quick else (given.agents, given.seconds, given.ticks)
    found: dict[str, Any] = {"agents": agents, "clients": given.clients, "load_before": round(os.getloadavg()[0], 2)}
    if given.only != "live":
        found |= throughput(agents, given.clients, seconds)
        for name in ("packed", "plain", "known", "map"):
            print(f"{name:<8} {found[name]}")
        print(f"bytes    list {found['agents_bytes']:,} packed {found['agents_packed_bytes']:,}; map packed {found['map_packed_bytes']:,}")
        print(f"first    {found['first_visit']}")
    if given.only != "answers":
        found["live"] = {"load_before": round(os.getloadavg()[0], 2), **tick_lag(agents, given.clients, ticks)}
        print(f"live     {found['live']}")
    OUT.mkdir(parents=True, exist_ok=True)
    name = f"dashboard-{given.only}.json" if given.only else "dashboard.json"
    (OUT / name).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
