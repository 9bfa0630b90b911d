"""The whole loop on a real process: it falls ill, is noticed through its vitals, stopped, begun anew, verified, released."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from immune.bootstrap import open_stores_read_only, read_state
from immune.connectors.proctable import look
from immune.core.state import RunState
from immune.stores.tokens import TokenStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.crash,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

# Works ten times a second and says so; from the moment the file `ill` is there, this very process fails, until it ends.
AGENT = """
import json, os, pathlib, random, time, urllib.request
draw, here, ill = random.Random(1), pathlib.Path.cwd(), False
while not (here / "home/daemon.json").exists():
    time.sleep(0.1)
url = json.loads((here / "home/daemon.json").read_text())["url"] + "/v1/vitals"
headers = {"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"}
(here / "pids").open("a").write(f"{os.getpid()}\\n")
for call in range(1_000_000):
    (here / "calls").write_text(str(call))
    if (here / "ill").exists():
        (here / "ill").unlink()
        ill = True
    sample = {"agent": "worker-1", "at": time.time(), "latency_ms": draw.lognormvariate(6, 0.25), "errors": draw.randint(2, 5) if ill else 0,
              "input_tokens": int(draw.lognormvariate(6.5, 0.3)), "output_tokens": int(draw.lognormvariate(5.5, 0.3))}
    body = json.dumps({"samples": [sample]}).encode()
    try:
        urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=2).read()
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.1)
"""
HISTORY = 120
CONFIG = """
mode = "act"
[healing]
probation_samples = 10
settle_s = 1.0
[approvals]
severity_at = 10.0
irreversible_needs_person = 0
[daemon]
port = 0
[[process]]
agent = "worker-1"
argv = ["{python}", "agent.py"]
cwd = "."
log = "agent.log"
env = {{ TOKEN = "{token}" }}
seconds_per_dispatch = 0.2
"""


async def wait_for(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - another process tells no event
            await asyncio.sleep(0.05)


@pytest.fixture
def home(tmp_path) -> Iterator[Path]:
    token = TokenStore(tmp_path / "home").create("worker-1", "agent")
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "immune.toml").write_text(CONFIG.format(python=sys.executable, token=token))
    command = [sys.executable, "-m", "immune", "run", "--config", "immune.toml", "--data-dir", "home"]
    with (tmp_path / "daemon.log").open("wb") as log:
        path = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
        daemon = subprocess.Popen(command, cwd=tmp_path, env=path, stdout=log, stderr=log)
    yield tmp_path
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(30) == 0
    assert [pid for pid in pids(tmp_path) if look(pid) is not None] == [], "the daemon ends what it started"


def pids(home: Path) -> list[int]:
    return [int(line) for line in (home / "pids").read_text().splitlines()] if (home / "pids").exists() else []


def state_of(home: Path) -> RunState:
    stores = open_stores_read_only(home / "home")
    try:
        return read_state(stores.journal, None) if stores.journal.runs() else RunState()  # the address is told before the run begins
    finally:
        stores.close()


async def test_a_real_child_that_falls_ill_is_stopped_begun_anew_and_released(home):
    await wait_for((home / "home/daemon.json").exists)
    await wait_for(lambda: "worker-1" in (agents := state_of(home).agents) and agents["worker-1"].health == "healthy")
    await wait_for(lambda: int((home / "calls").read_text() or 0) >= HISTORY)
    (first,) = pids(home)
    (home / "ill").touch()

    await wait_for(lambda: state_of(home).agents["worker-1"].observed == "isolated")
    await wait_for(lambda: len(pids(home)) == 2)
    assert look(first) is None, "the ill one is gone"
    await wait_for(lambda: state_of(home).agents["worker-1"].observed == "none")
    await wait_for(lambda: look(pids(home)[1]).state != "T")

    state = state_of(home)
    (incident,) = state.incidents.values()
    (plan,) = state.plans.values()
    (containment,) = state.containments.values()
    assert (incident.outcome, incident.top_kind) == ("healed", "error_burst")
    assert (plan.outcome, [step.note.action for step in plan.steps]) == ("succeeded", ["restart_agent"])
    assert (containment.level, containment.basis) == ("isolated", "probation")
