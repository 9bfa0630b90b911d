"""Against a real InfluxDB: what is brought there is all there, whatever is killed, and a run can be made anew from it alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from immune.clock import SystemClock
from immune.core import acts
from immune.core.events import Draft
from immune.core.fold import canonical_hash, fold
from immune.core.state import RunState
from immune.errors import ImmuneError, RefusedError
from immune.settings import InfluxSettings
from immune.stores.influx.administer import forget_run, look, set_up
from immune.stores.influx.asking import Asker
from immune.stores.influx.checking import rebuild, reconcile
from immune.stores.influx.courier import Courier
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.mirror import JournalMirror
from immune.stores.influx.reading import InfluxJournal
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.memory import MemoryJournal
from immune.stores.telemetry_sqlite import SqliteTelemetry
from tests.influx_kit import own_server, wait_until
from tests.integration.test_influx_faults import T0, Running, S, assert_accounted, batch_of, until, writer_to

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.influx


def environment(target: InfluxSettings) -> dict[str, str]:
    names = {"URL": target.url, "ORG": target.org, "TOKEN": target.token, "BUCKET": target.bucket}
    return os.environ | {f"INFLUXDB_V2_{name}": value for name, value in names.items()} | {"IMMUNE_PORT": "0"}


def command(target, *words, expect=0) -> str:
    done = subprocess.run([sys.executable, *words], check=False, cwd=ROOT, env=environment(target), capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stderr[-2000:]
    return done.stdout


def mirror_to(target, folder, journal, run_id="r") -> JournalMirror:
    courier = Courier(target=target, clock=SystemClock(), say=lambda _: None, timeout_s=5.0, pauses_s=(0.02, 0.05))
    return JournalMirror(
        run_id=run_id, journal=journal, courier=courier, letters=DeadLetters(folder), mark=Mark(folder / "m", target), clock=SystemClock()
    )


def journal_of(events: int, *, reason: str = "why") -> MemoryJournal:
    journal = MemoryJournal()
    epoch = journal.acquire("r", "test", 0)
    drafts = [Draft(at_us=T0 + n // 100, subject=f"a{n % 3}", event=acts.SicknessReported(reason=f"{reason} {n}")) for n in range(events)]
    journal.append("r", drafts, expected_seq=0, epoch=epoch)
    return journal


def test_a_demo_is_in_influxdb_as_a_whole_and_can_be_made_anew_from_there(influx_server, tmp_path):
    target = influx_server.target()
    out, fresh = tmp_path / "demo", tmp_path / "fresh"
    arguments = ["demo.py", "--speed", "max", "--duration", "120", "--decide", "approve", "--run", "demo-1", "--out", str(out), "--influx", "--json"]
    report = json.loads(command(target, *arguments))
    assert report["influx"]["complete"], report["influx"]
    assert report["influx"]["sentence"].endswith("head equal")
    told = json.loads(command(target, "-m", "immune", "influx", "check", "demo-1", "--data-dir", str(out), "--json"))
    assert (told["complete"], told["vitals_here"]) == (True, told["vitals_there"])
    assert told["vitals_here"] > 5000
    command(target, "-m", "immune", "runs", "rebuild", "--from-influx", "demo-1", "--vitals", "--data-dir", str(fresh))
    with SqliteJournal.open_read_only(out) as before, SqliteJournal.open_read_only(fresh) as after:
        assert after.verify("demo-1") == told["events_here"]
        assert list(after.read("demo-1")) == list(before.read("demo-1"))
        states = [canonical_hash(fold(RunState(), journal.read("demo-1"))) for journal in (before, after)]
        assert states[0] == states[1]
    with SqliteTelemetry.open_read_only(out) as before, SqliteTelemetry.open_read_only(fresh) as after:
        assert after.counts("demo-1") == before.counts("demo-1")
        agent = before.agents("demo-1")[0]
        series = [store.series("demo-1", agent, "latency_ms") for store in (before, after)]
        assert series[0].at_us.tolist() == series[1].at_us.tolist()
        assert series[0].value.tolist() == series[1].value.tolist()
    with pytest.raises(RefusedError, match="recorded here already"):
        rebuild(target, "demo-1", fresh, 0)


def test_a_live_demo_is_mirrored_beside_its_ticks(influx_server, tmp_path):
    target = influx_server.target()
    report = json.loads(command(target, "demo.py", "--duration", "10", "--agents", "5", "--out", str(tmp_path), "--headless", "--json"))
    assert report["influx"]["complete"], report["influx"]


def test_ten_thousand_events_of_few_microseconds_are_all_there(influx_server, tmp_path):
    target, journal = influx_server.target(), journal_of(10_000)
    mirror = mirror_to(target, tmp_path, journal)
    asyncio.run(finished(mirror))
    there = InfluxJournal(Asker(target))
    assert there.count("r") == there.verify("r") == 10_000
    assert there.head("r") == journal.head("r")
    assert [run.events for run in there.runs()] == [10_000]
    there.close()


async def finished(mirror):
    wait_s = await mirror.bring_all()
    await mirror.close()
    return wait_s


@pytest.mark.parametrize("reason", ["x" * 200_000, "é" * 70_000, 'quote " back \\ end\n' * 9000, "☂" * 60_000])
def test_a_body_over_64_kb_comes_back_whole(influx_server, tmp_path, reason):
    target, journal = influx_server.target(), journal_of(3, reason=reason)
    asyncio.run(finished(mirror_to(target, tmp_path, journal)))
    there = InfluxJournal(Asker(target))
    assert list(there.read("r")) == list(journal.read("r"))
    assert [envelope.seq for envelope in there.read("r", after_seq=1, limit=1)] == [2]
    there.close()


def test_a_lost_bucket_is_filled_again_from_the_first_event_on(influx_server, tmp_path):
    target, journal = influx_server.target(), journal_of(50)
    asyncio.run(finished(mirror_to(target, tmp_path, journal)))
    forget_run(target, "r")
    there = InfluxJournal(Asker(target))
    assert there.count("r") == 0

    async def again():
        mirror = mirror_to(target, tmp_path, journal)

        async def held(run_id):
            return there.count(run_id)

        mirror._held = held
        task = asyncio.create_task(mirror.run())
        await until(lambda: mirror.mirrored == 50)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await mirror.close()

    asyncio.run(again())
    assert there.verify("r") == 50
    there.close()


@pytest.mark.crash
@pytest.mark.fault("F12", "F13")
async def test_vitals_survive_a_server_that_is_killed_and_one_that_is_paused(tmp_path):
    with own_server() as server:
        target = server.target()
        writer = writer_to(target, tmp_path, agents=200)
        writer.courier.pauses_s = (0.05, 0.1)
        async with Running(writer):
            for tick in range(60):
                if tick == 10:
                    server.kill()
                if tick == 25:
                    await asyncio.to_thread(server.start)
                if tick == 35:
                    server.pause()
                if tick == 45:
                    server.resume()
                writer.take(T0 + tick * S, batch_of(200, T0 + tick * S))
                await asyncio.sleep(0.02)
            assert_accounted(writer)
            await until(lambda: writer.account().stored == 12_000, 60)
        assert (writer.account().dropped, writer.account().dead_lettered, writer.account().spooled) == (0, 0, 0)
        asker = Asker(target)
        row = asker.one("SELECT count(status) FROM agent_vitals WHERE run_id = 'r'")
        assert row["count"] == 12_000
        asker.close()


@pytest.mark.crash
@pytest.mark.fault("F1", "F12")
def test_no_event_and_no_vital_is_lost_or_doubled_when_daemon_and_server_are_killed(tmp_path):
    with own_server() as server:
        target = server.target()
        data = tmp_path / "data"
        for round_ in range(3):
            said = (tmp_path / f"daemon-{round_}.log").open("w+")
            daemon = subprocess.Popen(
                [sys.executable, "main.py", "--simulate", "5", "--data-dir", str(data), "--port", "0"],
                cwd=ROOT, env=environment(target), stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip

            def while_alive(holds, daemon=daemon, said=said):
                wait_until(lambda: daemon.poll() is not None or holds(), 120)
                assert daemon.poll() is None, Path(said.name).read_text()[-2000:]

            try:
                while_alive((data / "daemon.json").exists)
                while_alive(lambda: events_of(data) > 5)
                if round_ == 1:
                    server.kill()
                enough = vitals_of(data) + 10
                while_alive(lambda enough=enough: vitals_of(data) > enough)
            finally:
                said.close()
                daemon.send_signal(signal.SIGKILL)
                daemon.wait()
            (data / "daemon.json").unlink()
            if server.process.poll() is not None:
                server.start()
        command(target, "main.py", "--simulate", "5", "--data-dir", str(data), "--port", "0", "--duration", "5")
        with SqliteJournal.open_read_only(data) as journal, SqliteTelemetry.open_read_only(data) as telemetry:
            found = reconcile(target, journal, telemetry, journal.runs()[0].run_id)
        assert (found.events_there, found.head_there) == (found.events_here, found.head_here)
        assert found.vitals_there == found.vitals_here


def events_of(data: Path) -> int:
    with SqliteJournal.open_read_only(data) as journal:
        return sum(run.events for run in journal.runs())


def vitals_of(data: Path) -> int:
    with SqliteJournal.open_read_only(data) as journal, SqliteTelemetry.open_read_only(data) as telemetry:
        return sum(telemetry.counts(run.run_id) for run in journal.runs())


def test_setting_up_twice_changes_nothing_and_the_token_may_do_no_more_than_it_must(influx_server, tmp_path):
    target = influx_server.target(f"set-up-{os.getpid()}")
    first, second = set_up(target), set_up(target)
    assert len(first.made) >= 3
    assert (second.made, second.token) == ((), "")
    assert set_up(target, retention_days=30).made == (f"retention of bucket {target.bucket}",)
    set_up(target)
    least = InfluxSettings(url=target.url, org=target.org, token=first.token, bucket=target.bucket)
    journal = journal_of(20)
    assert asyncio.run(finished(mirror_to(least, tmp_path, journal))) == 0
    there = InfluxJournal(Asker(least))
    assert there.verify("r") == 20
    there.close()
    assert look(least, SystemClock().now_us()).error == ""
    with pytest.raises(ImmuneError):
        set_up(InfluxSettings(url=target.url, org=target.org, token=first.token, bucket="another"))


def test_the_doctor_says_what_is_wrong_with_the_server_the_token_and_the_bucket(influx_server):
    target = influx_server.target()
    now_us = SystemClock().now_us()
    assert look(target, now_us).error == ""
    assert abs(look(target, now_us).skew_s) < 5


@pytest.mark.fault("F16")
def test_a_daemon_says_on_its_status_page_that_the_token_is_refused(influx_server, tmp_path):
    target = influx_server.target()
    wrong = InfluxSettings(url=target.url, org=target.org, token="wrong", bucket=target.bucket)
    daemon = subprocess.Popen(
        [sys.executable, "main.py", "--simulate", "3", "--data-dir", str(tmp_path), "--port", "0"],
        cwd=ROOT, env=environment(wrong), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until((tmp_path / "daemon.json").exists, 60)
        wait_until(lambda: "immune influx setup" in status_of(wrong, tmp_path), 30)
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, said = daemon.communicate(timeout=30)
    assert said.count("InfluxDB refuses everything") == 1
    assert "wrong" not in said


def status_of(target, data: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "immune", "status", "--data-dir", str(data), "--json"],
        cwd=ROOT, env=environment(target), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout
