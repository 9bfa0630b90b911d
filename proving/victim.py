"""Real daemons as processes that can be killed and stopped: forked from a server that has the imports done, so that a life costs 0.1 s and not 1 s.

A life is `immune.daemon.run_daemon` on a real data directory with a real port; only the start of the interpreter is saved.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from immune.core.vitals import AgentIdentity, SampleBatch, Status
from immune.ports import Desk

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["immune.cli.run", "immune.daemon", "immune.connectors.webhook", "proving.world"])
READY_WITHIN_S = 60.0
WARMUP_S = 120
POLICY = """
mode = "act"

[approvals]
severity_at = 1.0
undo_window_s = 0.0

[containment]
cap_at_least = 8
enforce_within_s = 2.0

[detection]
close_after_s = 5.0

[healing]
settle_s = 0.0
plans_at_once = 8
action_starts = 50
probation_samples = 5
probation_timeout_s = 5.0
"""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """How a victim is to run."""

    data_dir: Path
    config: Path
    agents: int = 0
    take_over: bool = False


class Ward:
    """Agents that send a sample a second; every eighth begins to burn tokens at some time, whatever is done about it."""

    name = "ward"

    def __init__(self, agents: int, *, sick_from_us: int) -> None:
        self.names = [f"worker-{n}" for n in range(agents)]
        self.sick_from_us = sick_from_us
        self.rng = np.random.default_rng(5)

    def open(self, desk: Desk) -> None:
        """Enrol everybody."""
        self.places = [desk.roster.enroll(AgentIdentity(agent_id=name, type="worker", service="search")) for name in self.names]

    async def collect(self, now_us: int) -> SampleBatch:
        """One sample of everybody."""
        batch = SampleBatch.blank(len(self.places))
        batch.agent[:] = self.places
        batch.at_us[:] = now_us
        batch.values[:, 0] = np.exp(6 + 0.2 * self.rng.standard_normal(len(self.places)))
        batch.values[:, 2] = np.floor(np.exp(5.5 + 0.2 * self.rng.standard_normal(len(self.places))))
        for nth, place in enumerate(range(0, len(self.places), 8)):  # one after the other, or it would be one cause for all
            if now_us >= self.sick_from_us + nth * 5_000_000:
                batch.values[place, 2] *= 12
        batch.status[:] = Status.WORKING
        return batch

    async def close(self) -> None:
        """Nothing to let go of."""


def be_a_daemon(orders: Orders) -> None:
    """In the child: the daemon, until it is killed or stopped."""
    from dataclasses import replace

    from immune.cli.run import launch
    from immune.daemon import Extras, run_daemon
    from immune.errors import ImmuneError

    log = (orders.data_dir.parent / f"daemon-{os.getpid()}.log").open("w", encoding="utf-8")
    sys.stderr = sys.stdout = log
    launched = launch(orders.config, orders.data_dir, None, None, new=False, port=0, warm_start=None, mode=None)
    launched = replace(launched, take_over=orders.take_over)

    def bring(first_us: int, resumed: bool) -> Extras:
        if not orders.agents:
            return Extras()
        # a run that is taken up again has learned already
        return Extras(name="daemon", sources=(Ward(orders.agents, sick_from_us=first_us),), warmup_s=0 if resumed else WARMUP_S)

    try:
        run_daemon(launched, bring)
    except ImmuneError as error:
        log.write(f"{type(error).__name__}: {error}\n")
        log.flush()
        os._exit(error.exit_code)


@dataclass(kw_only=True)
class Victim:
    """One daemon process."""

    orders: Orders
    process: BaseProcess | None = None
    address: dict[str, Any] = field(default_factory=dict)
    started_s: float = 0.0
    """From the fork to the written address: API up, containment folded."""

    def start(self) -> None:
        """Start it, without waiting."""
        self.process = CONTEXT.Process(target=be_a_daemon, args=(self.orders,), daemon=True)
        self.process.start()

    def wait_ready(self) -> bool:
        """Until it answers; False if it died before."""
        assert self.process is not None
        began = time.perf_counter()
        note = self.orders.data_dir / "daemon.json"
        while time.perf_counter() - began < READY_WITHIN_S:
            try:
                said = json.loads(note.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                said = {}
            if said.get("pid") == self.process.pid:
                self.address = said
                self.started_s = time.perf_counter() - began
                return True
            if self.process.exitcode is not None:
                return False
            time.sleep(0.005)
        raise TimeoutError(f"no daemon within {READY_WITHIN_S:g} s: {self.log()[-2000:]}")

    def kill(self, with_signal: int = signal.SIGKILL) -> None:
        """End it, by default without asking."""
        if self.process is not None and self.process.pid is not None:
            if self.process.exitcode is None:
                os.kill(self.process.pid, with_signal)
            self.process.join(30)

    def log(self) -> str:
        """What it said."""
        assert self.process is not None
        path = self.orders.data_dir.parent / f"daemon-{self.process.pid}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""


def prepared(folder: Path, *, webhook: str = "", agents: int = 0) -> Orders:
    """A data directory and a configuration in a folder."""
    hands = ""
    if webhook:
        (folder / "hands.secret").write_text("only for the time of a test, and only here", encoding="utf-8")
        hands = f"""
[[webhook]]
url = "{webhook}"
agents = ["*"]
secret_file = "hands.secret"
allow_loopback = true
timeout_s = 1.0
observe_every_s = 0.2
"""
    config = folder / "immune.toml"
    config.write_text(POLICY + hands, encoding="utf-8")
    return Orders(data_dir=folder / "data", config=config, agents=agents)
