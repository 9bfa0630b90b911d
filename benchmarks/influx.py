"""What InfluxDB costs and survives: outages, kills, rebuilding, ingest, lag, shutdown. Needs a server binary of its own.

    IMMUNE_INFLUXD=/path/to/influxd python benchmarks/influx.py [--json] [--quick] [--only NAME]

Every outage is played with a real server: killed, paused (SIGSTOP), or refusing (a token that is worthless for a while). Seconds
of the fleet are played as fast as they can be packed; what counts is that every point is there in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.line_protocol import fleet
from immune.clock import SystemClock, elapsed_s
from immune.core.acts import SicknessReported
from immune.core.events import AgentEnrolled, Draft
from immune.core.fold import canonical_hash, fold
from immune.core.state import RunState
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from immune.settings import InfluxSettings
from immune.stores.influx.asking import Asker
from immune.stores.influx.beside import pair
from immune.stores.influx.checking import rebuild, reconcile
from immune.stores.influx.courier import Courier, NotNowError
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.mirror import JournalMirror
from immune.stores.influx.spool import Waiting
from immune.stores.influx.vitals import Encoder
from immune.stores.influx.writer import PARCEL_POINTS, VitalsWriter, pack
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.telemetry_sqlite import SqliteTelemetry
from tests.influx_kit import Server, own_server, wait_until

S, T0 = 1_000_000, 1_767_225_600_000_000
MB = 2**20
RUN = "r"
HOWS = ("killed", "paused", "refusing")


def shifted(batch: SampleBatch, tick: int) -> SampleBatch:
    return dataclasses.replace(batch, at_us=batch.at_us + tick * S)


def writer_to(target: InfluxSettings, folder: Path, roster: Roster) -> VitalsWriter:
    return VitalsWriter(
        encoder=Encoder(RUN, roster, VitalSchema()),
        courier=Courier(target=target, clock=SystemClock(), say=lambda _: None, pauses_s=(0.1, 0.2, 0.5)),
        waiting=Waiting(folder / "spool", 2048 * MB),
        letters=DeadLetters(folder),
        mark=Mark(folder / "mark", target),
        clock=SystemClock(),
    )


def count_of(target: InfluxSettings) -> int:
    asker = Asker(target)
    row = asker.one("SELECT count(status) FROM agent_vitals WHERE run_id = $run", run=RUN)
    asker.close()
    return int(row["count"]) if row else 0


async def outage(server: Server, folder: Path, how: str, agents: int, seconds: int) -> dict[str, object]:
    """Play so many seconds of a fleet with the server away, bring it back, and count what is there."""
    target = server.target()
    roster, batch = fleet(agents)
    writer = writer_to(target, folder, roster)
    begin: dict[str, Callable[[], object]] = {"killed": server.kill, "paused": server.pause, "refusing": lambda: None}
    end: dict[str, Callable[[], object]] = {"killed": server.start, "paused": server.resume, "refusing": lambda: None}
    begin[how]()
    if how == "refusing":
        writer.courier.target = dataclasses.replace(target, token="worthless")  # noqa: S106
    task = asyncio.create_task(writer.run())
    elapsed = elapsed_s()
    for tick in range(seconds):
        writer.take(T0 + tick * S, shifted(batch, tick))
        while writer.account().waiting > 20 * agents:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    played_s = elapsed()
    spooled_mb = writer.waiting.size_bytes / MB
    await asyncio.to_thread(end[how])
    writer.courier.target = target
    elapsed, cpu_s, server_cpu_s = elapsed_s(), process_time(), server.cpu_s()
    while writer.account().stored + writer.account().dropped + writer.account().dead_lettered < agents * seconds:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    drained_s, own_cpu_s = elapsed(), process_time() - cpu_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await writer.close()
    account = writer.account()
    held = count_of(target)
    return {
        "how": how,
        "agents": agents,
        "seconds": seconds,
        "accepted": account.accepted,
        "in_the_server": held,
        "lost": account.accepted - held,
        "dead_lettered": account.dead_lettered,
        "dropped": account.dropped,
        "account_exact": account.accepted == account.stored + account.waiting + account.spooled + account.dead_lettered + account.dropped,
        "spooled_mb": round(spooled_mb, 1),
        "played_s": round(played_s, 1),
        "drained_s": round(drained_s, 1),
        "drained_points_per_s": round(agents * seconds / drained_s),
        "own_cpu_s": round(own_cpu_s, 1),
        "server_cpu_s": round(server.cpu_s() - server_cpu_s, 1),
    }


def child(data: Path) -> None:
    """A daemon in small: journal, telemetry, both companions; takes its run up again, and is killed at some moment."""
    target = InfluxSettings(**json.loads(os.environ["BENCH_TARGET"]))
    roster = Roster()
    for n in range(10):
        roster.enroll(AgentIdentity(agent_id=f"a{n}", type="t"))
    asyncio.run(_live(target, data, roster))


async def _live(target: InfluxSettings, data: Path, roster: Roster) -> None:
    clock = SystemClock()
    with SqliteJournal(data) as journal, SqliteTelemetry(data) as telemetry:
        epoch = journal.acquire(RUN, "child", clock.now_us())
        telemetry.begin(RUN, VitalSchema())
        telemetry.name_agents(RUN, 0, [who.agent_id for who in roster.identities])
        both = pair(
            target,
            folder=data / "influx",
            run_id=RUN,
            roster=roster,
            schema=VitalSchema(),
            journal=journal,
            clock=clock,
            say=lambda _: None,
            telemetry=lambda: SqliteTelemetry.open_read_only(data),
        )
        both.writer.courier.pauses_s = both.mirror.courier.pauses_s = (0.05, 0.1)
        tasks = [asyncio.create_task(companion.run()) for companion in (both.writer, both.mirror)]
        once = os.environ.get("BENCH_END")
        (data / "alive").touch()
        for n in range(1_000_000):
            now_us = clock.now_us()
            batch = SampleBatch.blank(10)
            batch.agent[:], batch.at_us[:], batch.values[:, 0] = np.arange(10), now_us, n
            telemetry.write(RUN, now_us, now_us, batch)
            both.writer.take(now_us, batch)
            seq = journal.head(RUN)[0]
            drafts = [Draft(at_us=now_us, subject=f"a{k}", event=SicknessReported(reason=f"{n} {k}")) for k in range(3)]
            both.mirror.notice(journal.append(RUN, drafts, expected_seq=seq, epoch=epoch))
            await asyncio.sleep(0.02)
            if once and n > 50:
                break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(both.writer.close(), both.mirror.close())


def kills(folder: Path, count: int) -> dict[str, object]:
    """Kill the small daemon so many times, and the server beside every third, at drawn moments; then count both sides."""
    draw = np.random.default_rng(7)
    elapsed = elapsed_s()
    with own_server() as server:
        target = server.target()
        environment = os.environ | {"BENCH_TARGET": json.dumps(dataclasses.asdict(target))}
        command = [sys.executable, __file__, "--child", str(folder)]
        for number in range(count):
            process = subprocess.Popen(command, env=environment)
            wait_until((folder / "alive").exists, 60)
            (folder / "alive").unlink()
            asyncio.run(asyncio.sleep(draw.random() * 0.7))
            if number % 3 == 0:
                server.kill()
                asyncio.run(asyncio.sleep(draw.random() * 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            if number % 3 == 0:
                server.start()
        subprocess.run(command, env=environment | {"BENCH_END": "1"}, check=True, timeout=120)
        with SqliteJournal.open_read_only(folder) as journal, SqliteTelemetry.open_read_only(folder) as telemetry:
            found = reconcile(target, journal, telemetry, RUN)
    return {
        "kills_of_daemon": count,
        "kills_of_server": -(-count // 3),
        "events": found.events_here,
        "events_lost_or_doubled": abs(found.events_here - found.events_there),
        "head_equal": found.head_here == found.head_there,
        "vitals": found.vitals_here,
        "vitals_lost": found.vitals_here - found.vitals_there,
        "took_s": round(elapsed(), 1),
    }


async def rebuilding(server: Server, folder: Path, events: int) -> dict[str, object]:
    """Mirror so many events, make the journal anew from InfluxDB alone, compare the state."""
    from benchmarks.storage import drafts

    target = server.target()
    with SqliteJournal(folder / "a") as journal:
        epoch = journal.acquire(RUN, "bench", 0)
        enrolled = [Draft(at_us=T0, subject=f"agent-{n}", event=AgentEnrolled(index=n, type="t", service="")) for n in range(50)]
        journal.append(RUN, enrolled, expected_seq=0, epoch=epoch)
        batch = drafts(1000)
        for start in range(50, events, 1000):
            journal.append(RUN, batch[: min(1000, events - start)], expected_seq=start, epoch=epoch)
        courier = Courier(target=target, clock=SystemClock(), say=print)
        mirror = JournalMirror(
            run_id=RUN, journal=journal, courier=courier, letters=DeadLetters(folder), mark=Mark(folder / "mark", target), clock=SystemClock()
        )
        elapsed = elapsed_s()
        await mirror.bring_all()
        mirrored_s = elapsed()
        await mirror.close()
        before = canonical_hash(fold(RunState(), journal.read(RUN)))
    elapsed = elapsed_s()
    rebuilt = await asyncio.to_thread(rebuild, target, RUN, folder / "b", 0)
    rebuilt_s = elapsed()
    equal = before == rebuilt.state_hash
    return {"events": rebuilt.events, "state_hash_equal": equal, "mirrored_s": round(mirrored_s, 1), "rebuilt_s": round(rebuilt_s, 1), "goal_s": 10}


async def brought(courier: Courier, content: bytes, points: int) -> None:
    """Brought in the end: on a busy machine the server's own time limits run out now and then."""
    while True:
        try:
            await courier.deliver(content, "us", points)
        except NotNowError as not_now:
            await asyncio.sleep(not_now.wait_s)
        else:
            return


async def ingest(server: Server, folder: Path, agents: int, ticks: int) -> dict[str, object]:
    """Points a second through the writer, beside what the server takes of the same parcels made beforehand."""
    roster, batch = fleet(agents)
    encoder = Encoder(RUN, roster, VitalSchema())
    rows = [np.arange(start, min(agents, start + PARCEL_POINTS)) for start in range(0, agents, PARCEL_POINTS)]
    ready = [(len(part), pack(encoder.samples(shifted(batch, tick).take(part)))) for tick in range(ticks) for part in rows]
    first = pack(encoder.samples(shifted(batch, -1)))  # makes the series, which costs more than all that follows
    targets = [server.target(), server.target()]
    for target in targets:
        courier = Courier(target=target, clock=SystemClock(), say=print, timeout_s=60)
        await brought(courier, first, agents)
        await courier.close()
    courier = Courier(target=targets[0], clock=SystemClock(), say=print, timeout_s=60)
    elapsed = elapsed_s()
    for points, content in ready:
        await brought(courier, content, points)
    raw = agents * ticks / elapsed()
    await courier.close()
    writer = writer_to(targets[1], folder, roster)
    writer.courier.timeout_s = 60
    task = asyncio.create_task(writer.run())
    elapsed = elapsed_s()
    for tick in range(ticks):
        writer.take(T0 + tick * S, shifted(batch, tick))
    while writer.account().stored < agents * ticks:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    ours = agents * ticks / elapsed()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await writer.close()
    return {"raw_points_per_s": round(raw), "writer_points_per_s": round(ours), "share_of_raw": round(ours / raw, 2)}


LAG_TURNS = 12
"""Short and many, so that what neighbours do to the machine falls on both states."""


async def lag(server: Server, folder: Path, agents: int, ticks: int, period_s: float) -> dict[str, object]:
    """How late ticks wake, p99 in ms, while the server is well and while it hangs; in turns, so that a busy machine touches both."""
    clock = SystemClock()
    roster, batch = fleet(agents)
    late: dict[str, list[float]] = {"well": [], "hangs": []}
    for turn in range(LAG_TURNS):
        state = ("well", "hangs")[turn % 2]
        target = server.target()
        writer = writer_to(target, folder / str(turn), roster)
        if state == "hangs":
            server.pause()
        task = asyncio.create_task(writer.run())
        due_us = clock.now_us() + round(period_s * S)
        for tick in range(ticks):
            await clock.sleep_until_us(due_us)
            late[state].append((clock.now_us() - due_us) / 1000)
            writer.take(T0 + tick * S, shifted(batch, tick))
            due_us += round(period_s * S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if state == "hangs":
            server.resume()
        await writer.close()
    p99 = {state: float(np.quantile(values, 0.99)) for state, values in late.items()}
    p50 = {f"p50_ms_{state}": round(float(np.median(values)), 2) for state, values in late.items()}
    return {"p99_ms_well": round(p99["well"], 2), "p99_ms_hangs": round(p99["hangs"], 2), "ratio": round(p99["hangs"] / p99["well"], 2), **p50}


async def shutdown(server: Server, folder: Path) -> dict[str, object]:
    """Seconds that closing takes with a server that is dead, and with one that hangs."""
    took = {}
    for state in ("hangs", "dead"):
        target = server.target() if state == "hangs" else InfluxSettings(url="http://127.0.0.1:9", org="o", bucket="b")
        roster, batch = fleet(10_000)
        with SqliteJournal(folder / state) as journal:
            both = pair(
                target,
                folder=folder / state,
                run_id=RUN,
                roster=roster,
                schema=VitalSchema(),
                journal=journal,
                clock=SystemClock(),
                say=lambda _: None,
            )
            epoch = journal.acquire(RUN, "bench", 0)
            journal.append(RUN, [Draft(at_us=T0, subject="a", event=SicknessReported(reason="x"))], expected_seq=0, epoch=epoch)
            if state == "hangs":
                server.pause()
            for tick in range(5):
                both.writer.take(T0 + tick * S, shifted(batch, tick))
            elapsed = elapsed_s()
            await asyncio.gather(both.writer.close(), both.mirror.close())
            took[f"{state}_s"] = round(elapsed(), 2)
            if state == "hangs":
                server.resume()
    return took


def measure(quick: bool, only: str | None, outage_s: int | None, kill_count: int | None) -> dict[str, object]:
    figures: dict[str, object] = {}
    base = Path(tempfile.mkdtemp(prefix="immune-bench-influx-"))

    def wanted(name: str) -> bool:
        return only is None or only == name

    try:
        if wanted("kills"):
            (base / "kills").mkdir()
            figures["kills"] = kills(base / "kills", kill_count or (5 if quick else 50))
        with own_server() as server:
            if wanted("outages"):
                seconds = outage_s or (30 if quick else 600)
                figures["outages"] = [asyncio.run(outage(server, base / how, how, 10_000, seconds)) for how in HOWS]
            if wanted("rebuild"):
                figures["rebuild"] = asyncio.run(rebuilding(server, base / "rebuild", 5_000 if quick else 100_000))
            if wanted("ingest"):
                figures["ingest"] = asyncio.run(ingest(server, base / "ingest", 20_000, 5 if quick else 30))
            if wanted("lag"):
                figures["lag"] = asyncio.run(lag(server, base / "lag", 10_000, 10 if quick else 50, 0.2))
            if wanted("shutdown"):
                figures["shutdown"] = asyncio.run(shutdown(server, base / "shutdown"))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work and less")
    parser.add_argument("--only", choices=["kills", "outages", "rebuild", "ingest", "lag", "shutdown"])
    parser.add_argument("--outage-s", type=int, help="how many seconds of the fleet an outage lasts, 600 unless --quick")
    parser.add_argument("--kills", type=int, help="how often the daemon is killed, 50 unless --quick; the server every third time")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child)
        return 0
    figures = measure(options.quick, options.only, options.outage_s, options.kills)
    if options.json:
        print(json.dumps(figures))
        return 0
    for name, found in figures.items():
        for row in found if isinstance(found, list) else [found]:
            print(f"{name:<10} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
