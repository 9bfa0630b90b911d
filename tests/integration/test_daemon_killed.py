"""The real daemon: killed with -9 while an approval is open and while a plan runs, and a second one beside it.

Waits on the live stream, never on a clock.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90

SCENARIO = """
name = "one_sick"
summary = "One agent burns tokens from the third second on, and what heals it answers late."

[chaos]
rate = 0.0
outage = "none"
ends_by_itself = false

[cures]
wrong = 0.0
half = 0.0
relapse = 0.0
fail = 0.0
late = 1.0

[[infection]]
agent = "coder-01"
kind = "token_explosion"
at_s = 3
strength = 8.0
"""

POLICY = """
mode = "act"

[approvals]
severity_at = 1.0
undo_window_s = 0.0

[healing]
settle_s = 1.0
"""


@contextmanager
def daemon(folder: Path) -> Iterator[dict[str, Any]]:
    """A real daemon over a simulated fleet; killed with -9 at the end, if it still lives."""
    note = folder / "data" / "daemon.json"
    note.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "main.py", "--headless", "--simulate", "8", "--port", "0", "--data-dir", str(folder / "data")),
            *("--scenario", str(folder / "scenario.toml"), "--config", str(folder / "immune.toml")),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "control API on" in line:
            break
    try:
        yield {**json.loads(note.read_text()), "token": (folder / "data" / "admin.token").read_text().strip(), "process": process}
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()


def ask(at: dict[str, Any], method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(at["url"] + path, method=method, data=json.dumps(body).encode() if body is not None else None)
    request.add_header("Authorization", f"Bearer {at['token']}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(at: dict[str, Any], kind: str, after: int = 0) -> dict[str, Any]:
    """The first event of a kind after a seq, from the live stream."""
    request = urllib.request.Request(at["url"] + f"/v1/stream?after={after}", headers={"Authorization": f"Bearer {at['token']}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                if event["kind"] == kind:
                    return event
    pytest.fail(f"the stream ended before {kind}")


def kinds(folder: Path) -> list[tuple[int, str, dict[str, Any]]]:
    command = [sys.executable, "-m", "immune", "journal", "export", "--data-dir", str(folder / "data")]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [(event["seq"], event["kind"], event["body"]) for event in map(json.loads, lines)]


def kill(at: dict[str, Any]) -> None:
    os.kill(at["pid"], signal.SIGKILL)
    at["process"].wait(10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    (tmp_path / "immune.toml").write_text(POLICY)
    return tmp_path


@pytest.mark.fault("F1")
def test_a_killed_daemon_keeps_containment_approvals_and_undoes_what_was_under_way(folder: Path) -> None:
    with daemon(folder) as at:
        requested = wait_for(at, "approval_requested")
        request_id = requested["body"]["request_id"]
        status, gate = ask(at, "GET", "/v1/gate/coder-01")
        assert (status, gate["allowed"], gate["level"]) == (200, False, "isolated")
        kill(at)

    with daemon(folder) as at:
        status, gate = ask(at, "GET", "/v1/gate/coder-01")
        assert (status, gate["allowed"]) == (200, False), "contained from the first instruction on"
        status, approval = ask(at, "GET", f"/v1/approvals/{request_id}")
        assert (status, approval["status"]) == (200, "pending"), "a restart grants nothing and forgets nothing"
        decision = {"decision": "approve", "reason": "seen it", "plan_hash": approval["plan_hash"]}
        status, _ = ask(at, "POST", f"/v1/approvals/{request_id}/decision", decision)
        assert status == 200
        started = wait_for(at, "step_started", after=requested["seq"])
        kill(at)

    with daemon(folder) as at:
        finished = wait_for(at, "step_finished", after=started["seq"])
        assert finished["body"]["outcome"] == "unknown", "nobody knows what a killed daemon had done"
        undone = wait_for(at, "compensation_started", after=finished["seq"])
        assert undone["body"]["step"] == started["body"]["step"]
        status, gate = ask(at, "GET", "/v1/gate/coder-01")
        assert not gate["allowed"], "still contained"
        ended = wait_for(at, "plan_ended", after=undone["seq"])
        assert ended["body"]["outcome"] == "compensated"

    events = kinds(folder)
    assert [seq for seq, _, _ in events] == list(range(1, len(events) + 1))
    started_steps = [body["key"] for _, kind, body in events if kind == "step_started"]
    assert len(started_steps) == len(set(started_steps)), "no step is started twice"
    verify = [sys.executable, "-m", "immune", "journal", "verify", "--data-dir", str(folder / "data")]
    assert subprocess.run(verify, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.fault("F57")
def test_a_second_daemon_is_refused_and_leaves_the_first_its_address(folder: Path) -> None:
    with daemon(folder) as at:
        note = folder / "data" / "daemon.json"
        before = note.read_text()
        command = [sys.executable, "-m", "immune", "run", "--port", "0", "--data-dir", str(folder / "data"), "--duration", "1"]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert second.returncode == 4
        assert "second writer" in second.stderr
        assert note.read_text() == before
        assert ask(at, "GET", "/healthz")[0] == 200
