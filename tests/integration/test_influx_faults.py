"""A server that misbehaves, told and scripted: nothing is lost, everything is counted, and what only a person can mend is said once."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path

import numpy as np
import pytest

from immune.clock import SystemClock
from immune.core.acts import SicknessReported
from immune.core.events import Draft
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from immune.stores.influx import writer as writer_module
from immune.stores.influx.beside import pair
from immune.stores.influx.courier import Courier, NotNowError, asked_s
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.spool import Waiting
from immune.stores.influx.vitals import Encoder
from immune.stores.influx.writer import VitalsWriter, pack
from immune.stores.memory import MemoryJournal
from tests.influx_kit import FakeInflux

S = 1_000_000
T0 = 1_767_225_600 * S
QUICK = (0.01, 0.02)
MB = 2**20


def roster_of(*ids: str) -> Roster:
    roster = Roster()
    for agent_id in ids:
        roster.enroll(AgentIdentity(agent_id=agent_id, type="writer"))
    return roster


def batch_of(agents: int, at_us: int, value: float = 1.5) -> SampleBatch:
    batch = SampleBatch.blank(agents)
    batch.agent[:] = np.arange(agents)
    batch.at_us[:] = at_us
    batch.values[:, 0] = value
    return batch


def writer_to(target, folder, *, said=None, agents=3, cap_bytes=64 * MB, ids=None) -> VitalsWriter:
    courier = Courier(target=target, clock=SystemClock(), say=(said if said is not None else []).append, timeout_s=0.3, pauses_s=QUICK)
    return VitalsWriter(
        encoder=Encoder("r", roster_of(*(ids or [f"a{n}" for n in range(agents)])), VitalSchema()),
        courier=courier,
        waiting=Waiting(folder / "spool", cap_bytes),
        letters=DeadLetters(folder),
        mark=Mark(folder / "mark.json", target),
        clock=SystemClock(),
    )


async def until(condition, deadline_s=10.0):
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.005)


class Running:
    """A writer's companion task for the length of a block."""

    def __init__(self, writer):
        self.writer = writer

    async def __aenter__(self):
        self.task = asyncio.create_task(self.writer.run())
        return self.writer

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.writer.close()
        assert_accounted(self.writer)


def assert_accounted(writer):
    account = writer.account()
    assert account.accepted == account.stored + account.waiting + account.spooled + account.dead_lettered + account.dropped


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([(503, {}, "busy")] * 3, marks=pytest.mark.fault("F19")),
        pytest.param([(500, {}, "broken")] * 2, marks=pytest.mark.fault("F12")),
        pytest.param(["drop", "drop"], marks=pytest.mark.fault("F12")),
        pytest.param(["hang"], marks=pytest.mark.fault("F13", "F14")),
        pytest.param([(429, {"Retry-After": "0"}, "slow down")], marks=pytest.mark.fault("F19")),
    ],
    ids=["503", "500", "connection lost", "hanging", "429"],
)
async def test_what_a_troubled_server_does_not_take_is_kept_and_brought_in_order(tmp_path, answers):
    async with FakeInflux() as server:
        server.script.extend(answers)
        said = []
        async with Running(writer_to(server.target(), tmp_path, said=said)) as writer:
            for tick in range(5):
                writer.take(T0 + tick * S, batch_of(3, T0 + tick * S))
                await asyncio.sleep(0)
            await until(lambda: writer.account().stored == 15)
        times = [int(line.rsplit(b" ", 1)[1]) for line in server.lines]
        assert sorted(set(times)) == list(dict.fromkeys(times))
        assert len(set(server.lines)) == 15
        assert len(said) == 2  # once that it is away, once that it is back
        assert writer.health()["trouble"] == ""


@pytest.mark.fault("F19")
async def test_it_waits_as_long_as_the_server_asks(tmp_path):
    async with FakeInflux() as server:
        courier = Courier(target=server.target(), clock=SystemClock(), say=lambda _: None)
        server.script.append((503, {"Retry-After": "7"}, "busy"))
        with pytest.raises(NotNowError) as not_now:
            await courier.deliver(pack([b"m v=1\n"]), "us", 1)
        assert not_now.value.wait_s >= 7
        await courier.close()
    assert asked_s("Sat, 21 Nov 2026 10:00:30 GMT", 1_795_255_200 * S) == 30
    assert [asked_s(text, 0) for text in ("", "soon", "-3", "999999")] == [0, 0, 0, 600]


@pytest.mark.fault("F15", "F20")
async def test_a_poisoned_line_becomes_a_dead_letter_and_nobody_elses_line_waits_for_it(tmp_path):
    async with FakeInflux() as server:
        server.poison = b"agent=bad"
        async with Running(writer_to(server.target(), tmp_path, ids=[*(f"a{n}" for n in range(99)), "bad"])) as writer:
            writer.take(T0, batch_of(100, T0))
            await until(lambda: writer.account().stored == 99)
        account = writer.account()
        assert (account.stored, account.dead_lettered, account.dropped) == (99, 1, 0)
        assert server.requests <= 2 * 8
        letters = (tmp_path / "dead-letter.lp").read_text()
        assert letters.startswith("# ")
        assert "agent=bad" in letters


@pytest.mark.fault("F18")
async def test_too_much_at_once_is_sent_in_halves(tmp_path):
    async with FakeInflux() as server:
        server.limit_bytes = 2000
        async with Running(writer_to(server.target(), tmp_path, agents=100)) as writer:
            writer.take(T0, batch_of(100, T0))
            await until(lambda: writer.account().stored == 100)
        assert len(server.lines) == len(set(server.lines)) == 100
        assert all(len(body) <= 2000 for body in server.bodies)


@pytest.mark.parametrize("status", [pytest.param(401, marks=pytest.mark.fault("F16")), pytest.param(404, marks=pytest.mark.fault("F17"))])
async def test_what_only_a_person_can_mend_is_said_once_and_nothing_is_lost(tmp_path, status, monkeypatch):
    monkeypatch.setattr("immune.stores.influx.courier.PERSON_NEEDED_S", 0.01)
    async with FakeInflux() as server:
        server.script.extend([(status, {}, "no")] * 5)
        said = []
        async with Running(writer_to(server.target(), tmp_path, said=said)) as writer:
            writer.take(T0, batch_of(3, T0))
            await until(lambda: server.requests >= 3)
            assert "immune influx setup" in writer.health()["trouble"]
            await until(lambda: writer.account().stored == 3)
        assert len(said) == 2
        assert f"HTTP {status}" in said[0]


@pytest.mark.fault("F12")
async def test_a_full_spool_lets_the_oldest_go_and_counts_them(tmp_path):
    async with FakeInflux() as server:
        server.usual = (503, {}, "away")
        writer = writer_to(server.target(), tmp_path, agents=1000, cap_bytes=40_000)
        async with Running(writer):
            for tick in range(20):
                writer.take(T0 + tick * S, batch_of(1000, T0 + tick * S, value=tick + 0.25))
                await until(lambda: writer.account().waiting == 0 or writer.courier.trouble)
            await until(lambda: writer.account().dropped > 0)
        account = writer.account()
        assert account.stored == 0
        assert account.spooled > 0
        assert account.dropped + account.spooled == account.accepted == 20_000
        assert writer.waiting.size_bytes <= 40_000


@pytest.mark.fault("F2", "F12")
async def test_what_was_spooled_is_brought_by_the_next_process(tmp_path):
    async with FakeInflux() as server:
        server.usual = (503, {}, "away")
        async with Running(writer_to(server.target(), tmp_path)) as first:
            for tick in range(4):
                first.take(T0 + tick * S, batch_of(3, T0 + tick * S))
            await until(lambda: first.courier.trouble)
        assert first.account().spooled == 12
        (tmp_path / "spool" / "000000000099-7.lp.part").write_bytes(b"torn")
        server.usual = (204, {}, "")
        async with Running(writer_to(server.target(), tmp_path)) as second:
            assert second.account().accepted == 12
            await until(lambda: second.account().stored == 12)
        assert len(set(server.lines)) == 12
        assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.fault("F2")
async def test_a_damaged_file_of_the_spool_holds_up_nobody(tmp_path):
    async with FakeInflux() as server:
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "000000000001-5.lp.gz").write_bytes(b"")
        server.script.append((400, {}, "bad gzip"))
        async with Running(writer_to(server.target(), tmp_path)) as writer:
            writer.take(T0, batch_of(3, T0))
            await until(lambda: writer.account().stored == 3)
        assert writer.account().dropped == 5


async def test_a_file_of_the_spool_that_nobody_has_a_handle_for_is_brought_later_and_not_thrown_away(tmp_path, monkeypatch):
    async with FakeInflux() as server:
        first = writer_to(server.target(), tmp_path)
        server.usual = "hang"
        first.take(T0, batch_of(3, T0))
        await first.close()
        server.usual = (204, {}, "")
        left, read_bytes = [OSError(errno.EMFILE, "too many open files")], Path.read_bytes
        monkeypatch.setattr(writer_module, "READ_AGAIN_S", 0.001)
        monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(left.pop()) if left else read_bytes(path))
        async with Running(writer_to(server.target(), tmp_path)) as second:
            await until(lambda: second.account().stored == 3)
        assert second.account().dropped == 0
        assert not left


@pytest.mark.fault("F13")
async def test_closing_with_a_hanging_server_takes_a_second(tmp_path):
    async with FakeInflux() as server:
        server.usual = "hang"
        writer = writer_to(server.target(), tmp_path)
        writer.take(T0, batch_of(3, T0))
        began = time.monotonic()
        await writer.close()
        assert time.monotonic() - began < 2.0
        assert writer.account().spooled == 3


@pytest.mark.fault("F20")
async def test_points_beyond_the_buckets_retention_are_counted_and_not_tried_one_by_one(tmp_path):
    async with FakeInflux() as server:
        server.script.append((422, {}, "failure writing points to database: partial write: points beyond retention policy dropped=40"))
        async with Running(writer_to(server.target(), tmp_path, agents=100)) as writer:
            writer.take(T0, batch_of(100, T0))
            await until(lambda: writer.account().stored == 60)
        assert writer.account().dropped == 40
        assert server.requests == 1


@pytest.mark.fault("F1", "F12")
async def test_the_tail_of_an_earlier_run_is_brought_by_the_next_run(tmp_path):
    journal = MemoryJournal()
    for run in ("first", "second"):
        epoch = journal.acquire(run, "test", 0)
        drafts = [Draft(at_us=T0 + n, subject="a", event=SicknessReported(reason=str(n))) for n in range(5)]
        journal.append(run, drafts, expected_seq=0, epoch=epoch)
    async with FakeInflux() as server:
        Mark(tmp_path / "first.events.json", server.target()).move(2)
        both = pair(
            server.target(),
            folder=tmp_path,
            run_id="second",
            roster=roster_of("a"),
            schema=VitalSchema(),
            journal=journal,
            clock=SystemClock(),
            say=lambda _: None,
        )
        both.mirror._held = None
        task = asyncio.create_task(both.mirror.run())
        await until(lambda: len(server.lines) == 8)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(both.writer.close(), both.mirror.close())
        runs = [line.split(b"run_id=")[1].split(b" ")[0] for line in server.lines]
        assert runs == [b"first"] * 3 + [b"second"] * 5
