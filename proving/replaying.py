"""How fast a journal is replayed and a daemon is back: a journal of any length with the mix of events of a real run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from immune.core.events import GENESIS, Draft, Envelope, follow, read_event
from immune.core.fold import fold
from immune.core.state import RunState
from immune.stores.archive import read_archive
from immune.stores.journal_sqlite import SqliteJournal

RUN = "live-long"
_IDS = re.compile(rb'"(inc|plan|req|task|con)-(\d)')
_CORRELATED = re.compile(r"^(inc|plan|req|task|con)-(\d)")
BATCH = 200


def drafts_like(envelopes: list[Envelope], events: int) -> Iterator[list[Draft]]:
    """The decisions of a recorded run over and over, each time of other incidents, plans and requests, so that nothing is said twice."""
    left, rounds, shift_us = events, 0, envelopes[-1].at_us - envelopes[0].at_us + 1_000_000
    while left > 0:
        rounds += 1
        drafts = []
        for one in envelopes[:left]:
            body = _IDS.sub(rb'"\1-%d-\2' % rounds, one.body)
            correlation = _CORRELATED.sub(rf"\1-{rounds}-\2", one.correlation_id)
            event = read_event(one.kind, one.schema, body)
            drafts.append(Draft(at_us=one.at_us + rounds * shift_us, subject=one.subject, event=event, correlation_id=correlation, actor=one.actor))
        left -= len(drafts)
        yield drafts


def long_journal(folder: Path, recorded: Path, events: int) -> SqliteJournal:
    """A journal file with so many events, left open for writing."""
    envelopes = list(read_archive(recorded))
    journal = SqliteJournal(folder)
    journal._connection.execute("PRAGMA synchronous = OFF")  # making it is not what is measured
    epoch, seq = journal.acquire(RUN, "recorder", envelopes[0].at_us), 0
    for drafts in drafts_like(envelopes, events):
        journal.append(RUN, drafts, expected_seq=seq, epoch=epoch)
        seq += len(drafts)
    journal._connection.execute("PRAGMA synchronous = FULL")
    return journal


def best_of(times: int, measured: Callable[[], Any]) -> float:
    """Seconds of the fastest of several: what the code costs, and not what else the machine does."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        measured()
        found.append(time.perf_counter() - began)
    return min(found)


def replay_rates(data_dir: Path, keep: int = 0, times: int = 3) -> dict[str, float]:
    """Events per second: read, chain checked and folded; and `verify` alone."""
    with SqliteJournal.open_read_only(data_dir) as journal:
        events = journal.head(RUN)[0]
        replay_s = best_of(times, lambda: fold(RunState(keep=keep), follow(journal.read(RUN), 0, GENESIS)))
        verify_s = best_of(times, lambda: journal.verify(RUN))
    return {"events": events, "replay_events_per_s": events / replay_s, "verify_events_per_s": events / verify_s}


def time_to_containment(data_dir: Path, agent_id: str, *, within_s: float = 60.0) -> float:
    """Seconds from the start of a new interpreter to the first answer of the gate, which must be no."""
    note = data_dir / "daemon.json"
    note.unlink(missing_ok=True)
    token = (data_dir / "admin.token").read_text(encoding="utf-8").strip()
    began = time.perf_counter()
    command = [sys.executable, "-m", "immune", "run", "--port", "0", "--data-dir", str(data_dir), "--run", RUN]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while time.perf_counter() - began < within_s:
                if note.exists() and (answer := _ask_gate(note, token, agent_id)) is not None:
                    took_s = time.perf_counter() - began
                    assert answer["allowed"] is False, answer
                    return took_s
                time.sleep(0.002)
        finally:
            process.kill()
    raise TimeoutError(f"no answer within {within_s:g} s")


def _ask_gate(note: Path, token: str, agent_id: str) -> dict[str, Any] | None:
    try:
        url = json.loads(note.read_text(encoding="utf-8"))["url"]
        request = urllib.request.Request(f"{url}/v1/gate/{agent_id}?look=1", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - as above
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError, KeyError):
        return None
