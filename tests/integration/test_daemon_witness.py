"""The real daemon and the witness of its journal: what it notes when it starts and stops, and what it notices."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


def lived(folder: Path, troubles: list[str] | None = None) -> list[str]:
    """What a daemon says on standard error from its start until it was stopped in order, and the `troubles` of its status page."""
    command = [sys.executable, "-m", "immune", "run", "--port", "0", "--data-dir", str(folder / "data"), "--config", str(folder / "immune.toml")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stderr:
            said.append(line.strip())
            if "control API on" in line:
                if troubles is not None:
                    troubles += status(folder / "data")["troubles"]
                process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, said
    finally:
        process.kill()
        process.wait(PATIENCE_S)
        process.stderr.close()
    return said


def status(data: Path) -> dict:
    url = json.loads((data / "daemon.json").read_text())["url"]
    headers = {"Authorization": "Bearer " + (data / "admin.token").read_text().strip()}
    with urllib.request.urlopen(urllib.request.Request(url + "/v1/status", headers=headers), timeout=PATIENCE_S) as response:
        return json.load(response)


def verify(folder: Path, *more: str) -> tuple[int, dict]:
    command = [sys.executable, "-m", "immune", "journal", "verify", "--json", "--data-dir", str(folder / "data"), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.crash
@pytest.mark.fault("F61")
def test_a_daemon_witnesses_its_heads_and_says_so_when_its_journal_was_cut(tmp_path):
    heads = tmp_path / "elsewhere" / "heads.log"
    (tmp_path / "immune.toml").write_text(f"[daemon]\nwitness = {json.dumps(str(heads))}\n")
    troubles = []
    said = lived(tmp_path, troubles)
    assert troubles == []
    lines = [line.split() for line in heads.read_text().splitlines()]
    assert [line[4] for line in lines] == ["started", "stopped"]
    assert [f"seq {line[2]}, head {line[3]}" in " ".join(said) for line in lines] == [True, True], "in the log too, which is kept elsewhere"
    code, document = verify(tmp_path, "--witness", str(heads))
    assert (code, document["witnessed"]["seq"]) == (0, document["events"])

    with closing(sqlite3.connect(tmp_path / "data" / "journal.db")) as connection:
        connection.execute("DROP TRIGGER events_are_not_deleted")
        connection.execute("DELETE FROM events WHERE seq > 1")
        connection.execute("UPDATE runs SET events = 1, head = (SELECT hash FROM events WHERE seq = 1)")
        connection.commit()
    assert verify(tmp_path)[0] == 0, "by itself it holds"
    assert verify(tmp_path, "--witness", str(heads))[1]["first_broken_seq"] == 2
    said = lived(tmp_path, troubles)
    assert any("older copy, or a cut one" in line and "(seq 2)" in line for line in said)
    assert any("older copy, or a cut one" in trouble and "(seq 2)" in trouble for trouble in troubles), "on the status page, too"
    assert verify(tmp_path, "--witness", str(heads))[0] == 1, "writing on does not cover it up"
