"""Real children under the process connector: really stopped, really begun anew, never more signalled than was started."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from immune.connectors import process as module
from immune.connectors.child import Child
from immune.connectors.gate import GateConnector
from immune.connectors.process import ProcessConnector, ProcessSpec, environment
from immune.connectors.proctable import look
from immune.errors import InputError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

# Works: a line for each piece of work. On SIGTERM it would do one more, were it let.
WORKER = """
trap 'echo last >> "$1"; exit 0' TERM
while :; do echo "$$" >> "$1"; read -r -t 0.01 _ <> <(:); done
"""
# Leaves a grandchild that works too, in another process group of the same session.
FAMILY = """
import os, subprocess, sys, time
subprocess.Popen(["bash", "-c", sys.argv[1], "worker", sys.argv[2]], process_group=0)
while True: time.sleep(0.05)
"""


class Patient:
    """One agent, and what can be seen of its work from outside."""

    def __init__(self, tmp_path: Path, **spec: object) -> None:
        self.work = tmp_path / "work"
        self.ledger = tmp_path / "children.json"
        argv = ("bash", "-c", WORKER, "worker", str(self.work))
        self.spec = ProcessSpec(**{"agent_id": "worker-1", "argv": argv, "grace_s": 1.0, **spec})
        self.connector = ProcessConnector([self.spec], ledger=self.ledger)

    def lines(self) -> list[str]:
        return self.work.read_text().splitlines() if self.work.exists() else []

    async def works(self) -> None:
        before = len(self.lines())
        await until(lambda: len(self.lines()) > before)

    def order(self, level, epoch=1):
        return self.connector.contain("worker-1", level, epoch=epoch)

    def observed(self):
        return self.connector.observed("worker-1")


async def until(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - a process tells no event
            await asyncio.sleep(0.005)


@pytest.fixture
async def patient(tmp_path) -> AsyncIterator[Patient]:
    made = Patient(tmp_path)
    assert await made.connector.start() == {}
    yield made
    await made.connector.close()


async def test_an_isolated_child_does_nothing_and_goes_on_when_released(patient):
    await patient.works()
    assert (await patient.order("isolated")).outcome == "succeeded"
    assert patient.observed() == "isolated"
    assert look(patient.connector.pid("worker-1")).state == "T"
    done = len(patient.lines())
    await asyncio.sleep(0.1)
    assert len(patient.lines()) == done

    assert (await patient.order("none")).outcome == "succeeded"
    assert patient.observed() == "none"
    await patient.works()


async def test_what_is_observed_is_the_child_and_not_what_was_ordered(patient):
    await patient.order("isolated")
    os.kill(patient.connector.pid("worker-1"), signal.SIGCONT)
    await until(lambda: patient.observed() == "none")


async def test_an_evicted_child_is_gone_and_a_release_begins_it_anew(patient):
    first = patient.connector.pid("worker-1")
    await patient.works()
    assert (await patient.order("evicted")).outcome == "succeeded"
    assert patient.observed() == "evicted"
    assert patient.connector.pid("worker-1") is None
    assert patient.lines()[-1] == "last", "a child that was free may end in order"

    await patient.order("none")
    await until(lambda: patient.lines()[-1] not in (str(first), "last"))
    assert patient.connector.pid("worker-1") != first


async def test_a_child_that_is_held_does_no_work_even_when_it_is_ended(patient):
    await patient.works()
    await patient.order("isolated")
    done = patient.lines()
    await patient.order("evicted")
    assert patient.lines() == done


async def test_a_child_that_ignores_being_asked_is_killed(tmp_path):
    stubborn = ("bash", "-c", "trap '' TERM; echo ready > \"$1\"; while :; do read -r -t 0.01 _ <> <(:); done", "stubborn", str(tmp_path / "work"))
    patient = Patient(tmp_path, argv=stubborn, grace_s=0.05)
    await patient.connector.start()
    await until(patient.lines)
    assert (await patient.order("evicted")).outcome == "succeeded"
    assert patient.observed() == "evicted"


async def test_a_restart_while_isolated_begins_without_a_single_instruction_of_the_program(patient):
    await patient.works()
    first = patient.connector.pid("worker-1")
    await patient.order("isolated")
    done = patient.lines()
    answer = await patient.connector.perform("worker-1", "restart_agent", key="r/p/0/do", epoch=1)
    assert answer.outcome == "succeeded"
    assert patient.connector.pid("worker-1") != first
    assert patient.observed() == "isolated"
    await asyncio.sleep(0.05)
    assert patient.lines() == done

    await patient.order("none")
    await until(lambda: patient.lines()[-1] not in (str(first), "last"))


async def test_canary_work_is_bounded_in_time_and_ends_held(tmp_path):
    patient = Patient(tmp_path, seconds_per_dispatch=0.02)
    await patient.connector.start({"worker-1": "isolated"})
    try:
        assert patient.observed() == "isolated"
        assert patient.lines() == []
        assert (await patient.connector.allow("worker-1", 10, epoch=1)).outcome == "succeeded"
        await until(patient.lines)
        assert patient.observed() == "isolated"
        pid = patient.connector.pid("worker-1")
        await until(lambda: look(pid).state == "T")
        assert patient.observed() == "isolated"
    finally:
        await patient.connector.close()


async def test_an_evicted_agent_is_begun_for_its_canary_work_and_ended_after_it(tmp_path):
    patient = Patient(tmp_path, seconds_per_dispatch=0.02)
    await patient.connector.start({"worker-1": "evicted"})
    try:
        assert patient.connector.pid("worker-1") is None
        await patient.connector.allow("worker-1", 10, epoch=1)
        await until(patient.lines)
        assert patient.observed() == "evicted"
        await until(lambda: patient.connector.pid("worker-1") is None)
        assert patient.observed() == "evicted"
    finally:
        await patient.connector.close()


async def test_only_an_isolated_agent_does_canary_work(patient):
    assert (await patient.connector.allow("worker-1", 3, epoch=1)).outcome == "failed"


async def test_throttled_is_a_beat_of_work_and_rest(patient, monkeypatch):
    monkeypatch.setattr(module, "BEAT_RUN_S", 0.05)
    monkeypatch.setattr(module, "BEAT_HOLD_S", 0.05)
    assert (await patient.order("throttled")).outcome == "succeeded"
    pid = patient.connector.pid("worker-1")
    for _ in range(2):
        await until(lambda: look(pid).state == "T")
        assert patient.observed() == "throttled"
        await until(lambda: look(pid).state != "T")
        assert patient.observed() == "throttled"
    await patient.order("none")
    await patient.works()
    assert patient.observed() == "none"


async def test_everything_the_child_started_is_held_with_it_or_the_block_is_not_shown(tmp_path):
    argv = (sys.executable, "-c", FAMILY, WORKER, str(tmp_path / "work"))
    patient = Patient(tmp_path, argv=argv, grace_s=0.05)
    await patient.connector.start()
    try:
        await until(patient.lines)
        answer = await patient.order("isolated")
        grandchild = int(patient.lines()[0])
        assert answer.outcome == "succeeded"
        assert look(grandchild).state == "T"
        assert patient.observed() == "isolated"
        os.kill(grandchild, signal.SIGCONT)
        await until(lambda: patient.observed() == "none")
    finally:
        await patient.connector.close()
    assert look(grandchild) is None or look(grandchild).dead


async def test_restricted_is_beyond_a_signal_and_left_to_the_gate(patient, tmp_path):
    assert (await patient.order("restricted")).outcome == "unsupported"
    assert patient.observed() == "none"

    gate = GateConnector()
    asking = ProcessConnector([patient.spec], gate=gate)
    await asking.start()
    try:
        assert (await asking.contain("worker-1", "restricted", epoch=1)).outcome == "succeeded"
        assert asking.observed("worker-1") != "restricted"
        assert gate.ask("worker-1", "restricted") == (True, "restricted")
        assert asking.observed("worker-1") == "restricted"
    finally:
        await asking.close()


async def test_a_child_that_ended_by_itself_counts_as_held_as_asked(patient):
    os.kill(patient.connector.pid("worker-1"), signal.SIGKILL)
    await until(lambda: patient.connector.pid("worker-1") is None)
    assert patient.observed() == "none"
    await patient.order("isolated")
    assert patient.observed() == "isolated"
    assert (await patient.connector.allow("worker-1", 3, epoch=1)).outcome == "failed"
    assert (await patient.connector.perform("worker-1", "restart_agent", key="k", epoch=1)).outcome == "succeeded"
    assert patient.connector.pid("worker-1") is not None


async def test_a_program_that_ends_at_once_did_not_start(tmp_path):
    patient = Patient(tmp_path, argv=("false",))
    failed = await patient.connector.start()
    assert "ended at once with exit code 1" in failed["worker-1"]
    await patient.connector.close()


async def test_what_a_killed_daemon_left_behind_is_ended_and_nobody_else(tmp_path):
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)  # noqa: ASYNC220 - in a test
    left = Patient(tmp_path)
    orphan = await Child.start(left.spec.argv, env=environment(left.spec), cwd=None, log=None, held=False)
    try:
        ledger = {"boot": module.boot_id(), "children": {"worker-1": [orphan.pid, orphan.started], "worker-2": [bystander.pid, 1]}}
        left.ledger.write_text(json.dumps(ledger))
        await left.connector.start({"worker-1": "isolated"})
        assert orphan.gone()
        assert bystander.poll() is None, "another start time: another process under the same number"
        assert json.loads(left.ledger.read_text())["children"] == {
            "worker-1": [left.connector.pid("worker-1"), look(left.connector.pid("worker-1")).started]
        }
    finally:
        await left.connector.close()
        await orphan.end(grace_s=0.0)
        bystander.kill()
        bystander.wait()


async def test_a_log_that_cannot_be_written_costs_its_own_agent_and_no_other(tmp_path):
    argv = ("sleep", "60")
    wrong = ProcessSpec(agent_id="a-1", argv=argv, log=tmp_path / "no such directory" / "a.log")
    connector = ProcessConnector([wrong, ProcessSpec(agent_id="a-2", argv=argv)])
    failed = await connector.start()
    assert list(failed) == ["a-1"]
    assert "its log cannot be written" in failed["a-1"]
    assert connector.pid("a-2") is not None
    await connector.close()


async def test_a_disk_that_takes_no_ledger_keeps_no_child_from_being_held_or_ended(tmp_path, caplog):
    patient = Patient(tmp_path)
    patient.ledger.with_suffix(".new").mkdir()  # nothing can be written there
    assert await patient.connector.start() == {}
    await patient.works()
    child = look(patient.connector.pid("worker-1"))
    assert (await patient.order("isolated")).outcome == "succeeded"
    assert (await patient.order("evicted")).outcome == "succeeded"
    assert (await patient.connector.perform("worker-1", "restart_agent", key="k", epoch=1)).outcome == "succeeded"
    await patient.connector.close()
    assert look(child.pid) is None
    assert "could not be noted" in caplog.text


@pytest.mark.parametrize("ledger", ["", "[]", '{"boot": 1', '{"boot": "other", "children": {"a": [1, 1]}}'])
async def test_a_ledger_that_cannot_be_read_signals_nobody(tmp_path, ledger):
    patient = Patient(tmp_path)
    patient.ledger.write_text(ledger)
    assert await patient.connector.start() == {}
    await patient.connector.close()


@pytest.mark.fault("F42")
def test_a_child_gets_no_secret_of_the_daemon():
    spec = ProcessSpec(agent_id="a", argv=("true",), env={"MODEL": "small"})
    inherited = {"PATH": "/bin", "IMMUNE_TOKEN": "t", "INFLUXDB_V2_TOKEN": "t", "OTEL_EXPORTER_OTLP_HEADERS": "t"}
    assert environment(spec, inherited) == {"PATH": "/bin", "MODEL": "small"}
    assert "small" not in repr(spec)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"argv": ()}, "process.argv"),
        ({"argv": ("no-such-program-anywhere",)}, "process.argv"),
        ({"argv": ("true",), "cwd": Path("/no/such/directory")}, "process.cwd"),
    ],
)
def test_what_cannot_be_started_is_refused_before_anything_starts(spec, field):
    with pytest.raises(InputError) as refused:
        ProcessConnector([ProcessSpec(agent_id="a", **spec)])
    assert refused.value.field == field


def test_two_processes_for_one_agent_are_refused():
    spec = ProcessSpec(agent_id="a", argv=("true",))
    with pytest.raises(InputError, match="two processes"):
        ProcessConnector([spec, spec])
