"""The watchdog with a real thread over a real loop that stands still, and over a real process that is stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
import urllib.request

import pytest

from immune.clock import SystemClock
from immune.runtime import watchdog as module
from immune.runtime.watchdog import PROCESS, Watchdog
from immune.stores.journal_sqlite import SqliteJournal
from tests.integration.test_daemon_standin import Running

STOPPED_S = 5.0


def a_call_that_never_yields(until) -> None:
    deadline = time.monotonic() + 20
    while not until() and time.monotonic() < deadline:
        time.sleep(0.01)  # what stalls the loop: nothing else runs on it meanwhile


@pytest.mark.fault("F53")
async def test_a_loop_that_a_call_keeps_is_told_of_from_beside_while_it_stands_still(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(module, "BEAT_EVERY_S", 0.01)
    said, over = [], []
    dog = Watchdog(SystemClock(), say=said.append, recovered=over.append, stalled_after_s=0.5, dump=tmp_path / "stall.txt")
    beating = asyncio.create_task(dog.run())
    await asyncio.sleep(0.05)
    a_call_that_never_yields(until=lambda: said and (tmp_path / "stall.txt").exists())
    assert "a_call_that_never_yields" in said[0], "it is told while the loop still stands"
    assert "a_call_that_never_yields" in (tmp_path / "stall.txt").read_text()
    assert dog.stalled_s > 0.5
    for _ in range(1000):
        if over:
            break
        await asyncio.sleep(0.01)
    assert over[0].for_s >= 0.5
    assert dog.stalled_s == 0.0
    beating.cancel()
    await dog.close()


@pytest.mark.crash
@pytest.mark.fault("F24")
def test_a_daemon_that_was_stopped_for_a_while_says_so_and_goes_on_where_it_was(tmp_path):
    running = Running(tmp_path / "data", tmp_path / "log")
    running.until(lambda found: found[0] == 200, "the start")
    assert running.ask("POST", "/v1/agents", {"id": "a"})[0] == 200
    assert running.ask("POST", "/v1/agents/a/contain", {"level": "isolated", "reason": "by hand"})[0] == 200
    running.process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):  # nothing on a loop that does not come round can answer: whoever asks whether it is ready hears nothing
        urllib.request.urlopen(f"http://127.0.0.1:{running.port}/readyz", timeout=1.0)
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(STOPPED_S)
    running.process.send_signal(signal.SIGCONT)
    running.until(lambda found: found[0] == 200, "going on")
    assert running.ask("GET", "/v1/gate/a")[1]["allowed"] is False
    status = running.ask("GET", "/v1/status")[1]
    assert status["ticks"]["skipped"] >= STOPPED_S - 2, "no tick is caught up"
    running.until(lambda _: running.ask("GET", "/v1/status")[1]["companions"]["watchdog"]["pauses"] >= 1, "the watchdog")
    assert running.stop() == 0
    with SqliteJournal.open_read_only(tmp_path / "data") as journal:
        (run,) = journal.runs()
        stalls = [envelope.event() for envelope in journal.read(run.run_id) if envelope.kind == "loop_stalled"]
        assert journal.verify(run.run_id) == run.events
    assert [one.where for one in stalls][:1] == [PROCESS]
    assert stalls[0].for_s >= STOPPED_S - 1
