"""F6, F7: the daemon starts on a disk that takes nothing. It answers for what is in force, says so, and goes on by itself when there is room."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from immune.core.events import Draft, RunEnded
from immune.stores.care import readable
from immune.stores.journal_sqlite import SqliteJournal

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 40.0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Running:
    """A real daemon on a port that is known beforehand; `before` runs in its process before it starts."""

    def __init__(self, data: Path, log: Path, before=None) -> None:
        self.data, self.port, self.log = data, free_port(), log
        environment = {**os.environ, "IMMUNE_PORT": str(self.port), "OTEL_SDK_DISABLED": "true"}
        command = [sys.executable, "-m", "immune", "run", "--data-dir", str(data), "--mode", "act"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=before,  # noqa: PLW1509 - one thread
        )
        os.set_blocking(self.process.stderr.fileno(), False)
        self.heard = ""

    def said(self) -> str:
        self.heard += (self.process.stderr.read() or b"").decode()
        return self.heard

    def ask(self, method: str, path: str, body: object = None):
        token = (self.data / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers, data=content)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def until(self, wanted, what: str):
        deadline = time.monotonic() + WAIT_S
        while True:
            assert self.process.poll() is None, self.said()
            try:
                found = self.ask("GET", "/readyz")
            except OSError:
                found = (0, {})
            if wanted(found):
                return found
            assert time.monotonic() < deadline, f"{what}: {found} {self.said()}"
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT_S)
        self.said()
        self.process.stderr.close()
        return code


@contextmanager
def held_by_the_limit_of_the_process(data: Path):
    """No file of the process may grow until its parent lets it: what a full disk looks like."""
    before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def free(process) -> None:
        hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))

    yield before, free


@contextmanager
def on_a_disk_that_is_read_only(data: Path):
    """The data directory is a file system of its own, mounted read-only until somebody mounts it anew."""
    kept = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(data)], capture_output=True, check=False).returncode:
        pytest.skip("this test may not mount anything")
    try:
        for name, content in kept.items():
            (data / name).write_bytes(content)
            (data / name).chmod(0o600)
        subprocess.run(["mount", "-o", "remount,ro", str(data)], check=True)
        yield None, lambda _: subprocess.run(["mount", "-o", "remount,rw", str(data)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


@pytest.mark.crash
@pytest.mark.parametrize(
    "held",
    [
        pytest.param(held_by_the_limit_of_the_process, marks=pytest.mark.fault("F6"), id="full"),
        pytest.param(on_a_disk_that_is_read_only, marks=pytest.mark.fault("F7"), id="read-only"),
    ],
)
def test_a_daemon_that_starts_without_room_keeps_the_gate_closed_for_who_is_held_and_goes_on_by_itself(tmp_path, held):
    data = tmp_path / "data"
    first = Running(data, tmp_path / "1")
    first.until(lambda found: found[0] == 200, "the first start")
    assert first.ask("POST", "/v1/agents", {"id": "a"})[0] == first.ask("POST", "/v1/agents", {"id": "free"})[0] == 200
    assert first.ask("POST", "/v1/agents/a/contain", {"level": "isolated", "reason": "by hand"})[0] == 200
    assert first.stop() == 0
    with SqliteJournal.open_read_only(data) as journal:
        (run,) = journal.runs()
        events = run.events
    with held(data) as (before, free):
        second = Running(data, tmp_path / "2", before)
        status, ready = second.until(lambda found: found[0] == 503, "standing in")
        assert ready["status"] == "journal cannot be written"
        assert ready["reason"]
        assert second.ask("GET", "/healthz")[0] == 200
        gate = second.ask("GET", "/v1/gate/a")[1]
        assert (gate["allowed"], gate["level"]) == (False, "isolated"), "containment in force stays in force"
        assert second.ask("GET", "/v1/gate/free")[1]["allowed"] is True
        assert second.ask("GET", "/v1/containments")[1]["total"] == 1, "reading works"
        status, refused = second.ask("POST", "/v1/agents/a/release", {"reason": "let it go"})
        assert status == 503, refused
        assert "room" in refused["way_out"] or "space" in refused["way_out"]
        assert second.ask("POST", "/v1/vitals", {"samples": [{"agent": "a"}]})[0] == 503
        assert second.ask("GET", "/v1/status")[1]["troubles"]
        free(second.process)
        second.until(lambda found: found[0] == 200, "going on")
        assert second.ask("GET", "/v1/gate/a")[1]["allowed"] is False
        assert second.ask("POST", "/v1/agents/a/release", {"reason": "let it go"})[0] == 200
        assert second.stop() == 0
        assert "stay contained" in second.heard
        assert "starting" in second.heard
        with SqliteJournal.open_read_only(data) as journal:
            assert [one.run_id for one in journal.runs()] == [run.run_id], "the same run went on"
            assert journal.verify(run.run_id) > events


@pytest.mark.fault("F7")
def test_a_log_that_was_not_put_away_is_read_from_a_copy_where_its_directory_takes_nothing(tmp_path):
    data, lost = tmp_path / "data", tmp_path / "lost"
    lost.mkdir()
    with SqliteJournal(data) as journal:
        epoch = journal.acquire("live-1", "one", 0)
        journal.append("live-1", [Draft(at_us=n, subject="x", event=RunEnded(reason="", ticks=n)) for n in range(5)], expected_seq=0, epoch=epoch)
        for name in ("journal.db", "journal.db-wal"):  # as after kill -9: the events are in the log only
            (lost / name).write_bytes((data / name).read_bytes())
    with on_a_disk_that_is_read_only(lost):
        with readable(lost) as where, SqliteJournal.open_read_only(where) as copy:
            assert where != lost
            assert copy.verify("live-1") == 5
        assert not where.exists()


@pytest.mark.crash
def test_where_nothing_was_ever_recorded_there_is_nothing_to_stand_in_for(tmp_path):
    before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    running = Running(tmp_path / "data", tmp_path / "1", before)
    assert running.process.wait(WAIT_S) == 3
    assert "data_dir" in running.said() or "store" in running.said() or "disk" in running.said()
    running.process.stderr.close()
