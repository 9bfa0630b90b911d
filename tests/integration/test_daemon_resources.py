"""What the system may take away: confirmations of the disk, memory, file handles. The tick and the gate go on."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from immune.runtime.supervisor import Supervisor
from immune.stores.journal_sqlite import SqliteJournal
from tests.doubles import START_US
from tests.integration import failing_fsync
from tests.integration.daemon_kit import daemon

ROOT = Path(__file__).resolve().parents[2]


def in_a_process(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.crash
@pytest.mark.fault("F8")
def test_a_sync_that_failed_is_never_told_as_a_success_however_often_it_is_tried(tmp_path):
    done = in_a_process("-m", "tests.integration.failing_fsync", str(tmp_path))
    if done.returncode == failing_fsync.NOT_HERE:
        pytest.skip("this kernel takes no filters of system calls")
    assert done.returncode == 0, done.stderr
    acknowledged = [line for line in done.stdout.splitlines() if line.startswith("acknowledged")]
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused:")]
    assert acknowledged == [f"acknowledged {n}" for n in range(1, 6)]
    assert len(refused) == 10, done.stdout
    assert all("the disk reports an error" in line and line.endswith("head 5") for line in refused)
    with SqliteJournal(tmp_path) as journal:
        assert journal.verify("r") in {5, 6}, "whatever the dying disk kept is a whole chain that begins with what was acknowledged"
        assert [envelope.subject for envelope in journal.read("r")][:5] == [f"a-{n}" for n in range(5)]


@pytest.mark.fault("F9")
async def test_a_child_that_runs_out_of_memory_is_started_again_and_takes_nobody_along():
    class Quick:
        def now_us(self):
            return START_US

        async def sleep_until_us(self, at_us):
            await asyncio.sleep(0)

    failures, work = [], []

    async def greedy():
        if len(failures) < 3:
            bytearray(1 << 62)  # more than any machine has: a real MemoryError
        work.append("greedy at last")

    async def modest():
        for _ in range(50):
            work.append("modest")
            await asyncio.sleep(0)

    supervisor = Supervisor(Quick(), failures.append)
    supervisor.start("greedy", greedy)
    supervisor.start("modest", modest)
    for _ in range(10_000):
        if "greedy at last" in work and work.count("modest") == 50:
            break
        await asyncio.sleep(0)
    children = {one.name: one for one in supervisor.children()}
    await supervisor.stop()
    assert [failure.error.split(":")[0] for failure in failures] == ["MemoryError"] * 3
    assert (children["greedy"].failures, children["greedy"].last_error[:11]) == (3, "MemoryError")
    assert children["modest"].failures == 0


@pytest.mark.fault("F9")
@pytest.mark.crash
def test_an_allocation_that_the_system_refuses_in_a_request_is_an_error_and_not_the_end(tmp_path):
    """The daemon with little memory left, for real: a process whose address space may not grow."""
    program = (
        "import asyncio, json, resource, sys; from pathlib import Path; from tests.integration.daemon_kit import daemon\n"
        "async def main():\n"
        "    async with daemon(Path(sys.argv[1]), on_disk=True) as made:\n"
        "        await made.vitals({'agent': 'a', 'latency_ms': 5}); await made.tick(3)\n"
        "        used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "        hard = resource.getrlimit(resource.RLIMIT_AS)[1]\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**20, hard))\n"
        "        refused = 0\n"
        "        try:\n"
        "            bytearray(64 * 2**20)\n"
        "        except MemoryError:\n"
        "            refused = 1\n"
        "        ticks = made.engine.counters.ticks\n"
        "        await made.tick(5)\n"
        "        gate = await made.ask('GET', '/v1/gate/a')\n"
        "        contained = await made.ask('POST', '/v1/agents/a/contain', {'level': 'isolated', 'reason': 'r'})\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))\n"
        "        print(json.dumps([refused, made.engine.counters.ticks - ticks, gate.status, contained.status]))\n"
        "asyncio.run(main())\n"
    )
    done = in_a_process("-c", program, str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[1, 5, 200, 200]"
    with SqliteJournal.open_read_only(tmp_path) as journal:
        assert journal.verify("run-1") > 0


@contextmanager
def no_handles():
    """No file and no socket can be opened inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    taken = []
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.fault("F10")
async def test_without_file_handles_the_tick_the_gate_and_the_journal_go_on_and_new_callers_come_in_afterwards(tmp_path, caplog):
    async with daemon(tmp_path, on_disk=True) as made:
        await made.vitals({"agent": "a", "latency_ms": 5})
        await made.tick(2)
        with no_handles():
            with pytest.raises(OSError, match="Too many open files"):
                (tmp_path / "x").open("w")
            ticks, seq = made.engine.counters.ticks, made.engine.state.seq
            await made.tick(5)
            assert made.engine.counters.ticks == ticks + 5
            contained = await made.ask("POST", "/v1/agents/a/contain", {"level": "isolated", "reason": "by hand"})
            assert contained.status == 200, "who is connected already is served, and it is durable"
            assert made.engine.state.seq > seq
            assert (await made.ask("GET", "/v1/gate/a")).document["allowed"] is False
            why = await made.ask("GET", "/v1/why/a")
            assert why.status == 503, "what needs another handle asks to come again"
        assert (await made.ask("GET", "/v1/why/a")).status == 200
        reader = SqliteJournal.open_read_only(tmp_path)
        assert reader.verify("run-1") == made.engine.state.seq
        reader.close()
        assert made.api.context.counters.bugs == 0
