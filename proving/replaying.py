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

from immune.core import acts
from immune.core import events as ev
from immune.core.events import GENESIS, Draft, Envelope, Event, follow, read_event, seal
from immune.core.fold import fold
from immune.core.state import RunState
from immune.stores.archive import read_archive
from immune.stores.journal_sqlite import SqliteJournal

RUN = "live-long"
HELD = "coder-01"
"""Who is isolated at the end of such a journal."""
_IDS = re.compile(rb'"(inc|plan|req|task|con)-(\d)')
_CORRELATED = re.compile(r"^(inc|plan|req|task|con)-(\d)")


def drafts_like(envelopes: list[Envelope], events: int) -> Iterator[list[Draft]]:
    """The decisions of a recorded run over and over, each time of other incidents, plans and requests, so that nothing is said twice."""
    envelopes = [*envelopes, *_ends(envelopes)]
    left, rounds, shift_us = events, 0, envelopes[-1].at_us - envelopes[0].at_us + 1_000_000
    while left > 0:
        rounds += 1
        drafts = []
        for one in envelopes[: left if left < len(envelopes) else None]:
            body = _IDS.sub(rb'"\1-%d-\2' % rounds, one.body)
            correlation = _CORRELATED.sub(rf"\1-{rounds}-\2", one.correlation_id)
            event = read_event(one.kind, one.schema, body)
            drafts.append(Draft(at_us=one.at_us + rounds * shift_us, subject=one.subject, event=event, correlation_id=correlation, actor=one.actor))
        left -= len(drafts)
        yield drafts


def _ends(envelopes: list[Envelope]) -> list[Envelope]:
    """What a real run would have said by and by: everything that the recording left open comes to its end."""
    last, state = envelopes[-1], fold(RunState(), envelopes)
    said: list[tuple[str, str, Event]] = []
    for key in state.open_approvals:
        closed = acts.ApprovalClosed(request_id=key, outcome="withdrawn", reason="the incident is closed")
        said.append((state.approvals[key].subject, state.approvals[key].incident_id, closed))
    for key in state.open_plans:
        plan = state.plans[key]
        ended = acts.PlanEnded(plan_id=key, outcome="compensated", reason="over") if plan.live else acts.PlanWithdrawn(plan_id=key, reason="over")
        said.append((plan.agent_id, plan.incident_id, ended))
    for key in state.active_containments:
        released = acts.Released(containment_id=key, basis="person", reason="over")
        said.append((state.containments[key].target, state.containments[key].incident_id, released))
    said += [
        (state.incidents[key].subject, key, ev.IncidentClosed(incident_id=key, outcome="released", reason="over")) for key in state.open_incidents
    ]
    drafts = [Draft(at_us=last.at_us, subject=subject, event=event, correlation_id=incident) for subject, incident, event in said]
    return seal(last.run_id, tuple(drafts), last.seq, last.hash)


def long_journal(folder: Path, recorded: Path, events: int) -> SqliteJournal:
    """A journal file with so many events, left open for writing."""
    envelopes = list(read_archive(recorded))
    journal = SqliteJournal(folder)
    journal._connection.execute("PRAGMA synchronous = OFF")  # making it is not what is measured
    epoch, seq = journal.acquire(RUN, "recorder", envelopes[0].at_us), 0
    drafts: list[Draft] = []
    for drafts in drafts_like(envelopes, events):
        journal.append(RUN, drafts, expected_seq=seq, epoch=epoch)
        seq += len(drafts)
    held = acts.Contained(
        containment_id="con-last",
        scope="agent",
        target=HELD,
        level="isolated",
        automatic=False,
        reason="by hand",
        incident_id="",
        rule="a person decided",
        evidence=(),
        policy_version="",
    )
    journal.append(RUN, [Draft(at_us=drafts[-1].at_us, subject=HELD, event=held, actor="person:ann")], expected_seq=seq, epoch=epoch)
    journal._connection.execute("PRAGMA synchronous = FULL")
    return journal


def best_of(times: int, measured: Callable[[], Any]) -> float:
    """CPU seconds of this process for the fastest of several: what the code costs, and not what else the machine does."""
    found = []
    for _ in range(times):
        began = time.process_time()
        measured()
        found.append(time.process_time() - began)
    return min(found)


def replay_rates(data_dir: Path, keep: int = 0, times: int = 3) -> dict[str, float]:
    """Events per CPU second: read, chain checked and folded; and `verify` alone."""
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
                if process.poll() is not None:
                    raise RuntimeError(f"the daemon ended with {process.returncode} before it answered")
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
