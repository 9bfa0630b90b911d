"""Accepted = stored + waiting + spooled + dead-lettered + dropped, after every step, whatever server, disk and process do."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immune.clock import SystemClock
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from immune.errors import StoreUnavailableError
from immune.settings import InfluxSettings
from immune.stores.influx.courier import Delivery, NotNowError
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.spool import Waiting
from immune.stores.influx.vitals import Encoder
from immune.stores.influx.writer import VitalsWriter
from tests.effort import examples

T0 = 1_767_225_600_000_000
TARGET = InfluxSettings(url="http://127.0.0.1:9", org="o", bucket="b")


@dataclass
class ToldCourier:
    """Does with each parcel what the script says next."""

    script: list[str] = field(default_factory=list)
    trouble: str = ""
    timeout_s: float = 1.0

    async def deliver(self, packed, precision, lines):
        answer = self.script.pop(0) if self.script else "store"
        self.trouble = ""
        if answer == "away":
            self.trouble = "away"
            raise NotNowError("away", 0.0)
        if answer == "poison":
            return Delivery(stored=lines - 1, dead=(("bad", b"line\n"),))
        return Delivery(stored=lines - 1, expired=1) if answer == "expired" else Delivery(stored=lines)

    async def close(self):
        pass


class StubbornWaiting(Waiting):
    """A spool whose disk can be full."""

    full = False

    def write(self, parcel):
        if self.full:
            raise StoreUnavailableError("no space left on device")
        super().write(parcel)


def writer_in(folder: Path, courier: ToldCourier) -> VitalsWriter:
    roster = Roster()
    for n in range(8):
        roster.enroll(AgentIdentity(agent_id=f"a{n}"))
    return VitalsWriter(
        encoder=Encoder("r", roster, VitalSchema()),
        courier=courier,
        waiting=StubbornWaiting(folder / "spool", 1200),
        letters=DeadLetters(folder, limit_bytes=100),
        mark=Mark(folder / "mark", TARGET),
        clock=SystemClock(),
    )


def check(writer):
    account = writer.account()
    assert account.accepted == account.stored + account.waiting + account.spooled + account.dead_lettered + account.dropped
    return account


STEPS = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 8)),
    st.tuples(st.just("pack"), st.none()),
    st.tuples(st.just("bring"), st.sampled_from(["store", "away", "poison", "expired"])),
    st.tuples(st.just("spill"), st.booleans()),
    st.tuples(st.just("disk"), st.booleans()),
    st.tuples(st.just("restart"), st.none()),
)


async def play(steps, folder):
    courier = ToldCourier()
    writer = writer_in(folder, courier)
    tick = 0
    for verb, what in steps:
        if verb == "take":
            tick += 1
            batch = SampleBatch.blank(what)
            batch.agent[:] = range(what)
            batch.at_us[:] = T0 + tick
            writer.take(T0 + tick, batch)
        elif verb == "pack":
            await writer._pack()
        elif verb == "bring" and len(writer.waiting):
            courier.script.append(what)
            await writer._bring()
        elif verb == "spill":
            await writer._spill(keep_first=what)
        elif verb == "disk":
            writer.waiting.full = what
        elif verb == "restart":
            writer.waiting.full = False
            courier.trouble = "away"
            await writer.close()
            left = check(writer)
            assert left.waiting == 0
            writer = writer_in(folder, courier)
            assert writer.account().accepted == left.spooled
        check(writer)
    writer.waiting.full = False
    courier.trouble = ""
    await writer.close()
    final = check(writer)
    assert (final.waiting, final.spooled) == (0, 0)


@pytest.mark.fault("F6", "F12", "F20")
@settings(max_examples=examples(25))
@given(st.lists(STEPS, max_size=14))
def test_every_point_is_always_in_exactly_one_place(steps):
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(play(steps, Path(name)))
