"""Vitals on their way to InfluxDB: taken beside the tick, packed in a thread, brought in order, kept on the disk meanwhile.

    tick ──► ticks (bounded) ──► parcels: gzipped lines ──► server
                                     │ slow, away                ▲
                                     └────────► spool on disk ───┘ oldest first

Every point accepted is in exactly one place: stored, waiting in memory, spooled, dead-lettered, or counted as dropped.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from immune.clock import US, Clock
from immune.core.evidence import Bands
from immune.core.vitals import SampleBatch
from immune.errors import StoreUnavailableError
from immune.stores.influx.courier import GZIP_LEVEL, Courier, Delivery, NotNowError
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.lines import Block
from immune.stores.influx.mark import Mark
from immune.stores.influx.spool import Parcel, Waiting
from immune.stores.influx.vitals import Encoder

PARCEL_POINTS = 5_000
TICKS_POINTS_MAX = 1_000_000
"""About 150 bytes each: what waits to be packed is bounded, should the threads not get a turn."""
PARCELS_IN_MEMORY = 8
CLOSE_S = 5.0
CLOSE_REQUEST_S = 0.8
READ_AGAIN_S = 1.0
PROFILE_EVERY_US = 60 * US
MARK_EVERY_US = US


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where every accepted point is: ``accepted = stored + waiting + spooled + dead_lettered + dropped``, always."""

    accepted: int
    stored: int
    waiting: int
    spooled: int
    dead_lettered: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    now_us: int
    batch: SampleBatch | None
    bands: Bands | None
    points: int


Backlog = Callable[[], Iterator[SampleBatch]]
"""Samples that the telemetry store holds and an earlier process did not bring any more."""


class VitalsWriter:
    """A companion of the engine. `take` is called by the tick and never waits; everything else happens in `run`."""

    name = "influx vitals"

    def __init__(
        self, *, encoder: Encoder, courier: Courier, waiting: Waiting, letters: DeadLetters, mark: Mark, clock: Clock, backlog: Backlog | None = None
    ) -> None:
        self.encoder = encoder
        self.courier = courier
        self.waiting = waiting
        self.letters = letters
        self.mark = mark
        self.clock = clock
        self._backlog = backlog
        self._ticks: deque[_Taken] = deque()
        self._in_ticks = self._in_packing = 0
        self._accepted = waiting.inherited
        self._stored = self._dead = self._dropped = 0
        self._profiled_us = 0
        self._marked_us = 0
        self._something = asyncio.Event()
        self._arrived = asyncio.Event()
        self._packing, self._spilling = asyncio.Lock(), asyncio.Lock()
        self._through_us = 0

    # -- beside the tick -----------------------------------------------------------------------------------------------

    def take(self, now_us: int, batch: SampleBatch) -> None:
        """One tick's samples. Beyond the bound the oldest tick goes, counted."""
        if len(batch):
            self._put(_Taken(now_us=now_us, batch=batch, bands=None, points=len(batch)))

    def take_bands(self, now_us: int, bands: Bands) -> None:
        """What the baselines expect; about once a minute it is passed on."""
        points = int((bands.expected == bands.expected).any(axis=1).sum())
        if points and now_us - self._profiled_us >= PROFILE_EVERY_US:
            self._profiled_us = now_us
            self._put(_Taken(now_us=now_us, batch=None, bands=_copied(bands), points=points))

    def _put(self, taken: _Taken) -> None:
        self._accepted += taken.points
        self._in_ticks += taken.points
        self._ticks.append(taken)
        while self._in_ticks > TICKS_POINTS_MAX and len(self._ticks) > 1:
            gone = self._ticks.popleft().points
            self._in_ticks -= gone
            self._dropped += gone
        self._something.set()

    # -- the companion -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Pack and bring until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._keep_packing())
            both.create_task(self._keep_bringing())

    async def bring_backlog(self) -> None:
        """Bring what the telemetry store holds, without an engine beside; what the server does not take is spooled by `close`."""
        await self._pack_backlog(self._bring_waiting)

    async def bring_taken(self) -> None:
        """Bring what was taken, without an engine beside."""
        await self._pack()
        await self._bring_waiting()

    async def _bring_waiting(self) -> None:
        while not self.courier.trouble and len(self.waiting) and not await self._bring():
            pass  # each brings what makes one request
        await self._spill_if_held_up()

    async def close(self) -> None:
        """Bring what is left if the server answers at once, else put it on the disk."""
        await self._pack()
        self.courier.timeout_s = CLOSE_REQUEST_S
        deadline_us = self.clock.now_us() + round(CLOSE_S * US)
        while not self.courier.trouble and self.clock.now_us() < deadline_us and len(self.waiting) and not await self._bring():
            pass  # as above
        await self._spill()
        self._note_mark()
        await self.courier.close()

    def health(self) -> Mapping[str, str | int | float | bool]:
        """The account, and what troubles it."""
        account = self.account()
        return {
            "trouble": self.courier.trouble or self.waiting.disk_trouble,
            "accepted": account.accepted,
            "stored": account.stored,
            "waiting": account.waiting,
            "spooled": account.spooled,
            "spool_bytes": self.waiting.size_bytes,
            "dead_lettered": account.dead_lettered,
            "dropped": account.dropped,
        }

    def account(self) -> Account:
        """The exact account of this process; what it found in the spool counts as accepted."""
        return Account(
            accepted=self._accepted,
            stored=self._stored,
            waiting=self._in_ticks + self._in_packing + self.waiting.in_memory,
            spooled=self.waiting.spooled,
            dead_lettered=self._dead,
            dropped=self._dropped + self.waiting.dropped,
        )

    # -- packing -------------------------------------------------------------------------------------------------------

    async def _keep_packing(self) -> None:
        await self._pack_backlog(self._spill_if_held_up)
        while True:
            await self._something.wait()
            self._something.clear()
            await _to_its_end(self._pack())
            await self._spill_if_held_up()

    async def _pack_backlog(self, between: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What the telemetry store has and an earlier process did not bring: sent again, because twice is once."""
        if self._backlog is None:
            return
        found = self._backlog()
        while (piece := await asyncio.to_thread(next, found, None)) is not None:
            self._accepted += len(piece)
            self._in_packing += len(piece)
            await _to_its_end(self._pack_batch(piece, 0))
            await between()
        self._backlog = None

    async def _pack(self) -> None:
        async with self._packing:
            while self._ticks:
                group = self._next_group()
                batches = [taken.batch for taken in group if taken.batch is not None]
                if batches:
                    await self._pack_batch(SampleBatch.concatenate(batches), group[-1].now_us)
                for taken in group:
                    if taken.bands is not None:
                        content = await asyncio.to_thread(self._profile, taken.now_us, taken.bands)
                        self._in_packing -= taken.points
                        self.waiting.add(taken.points, 0, content)
                self._arrived.set()

    def _next_group(self) -> list[_Taken]:
        """Ticks to be packed together: all of a small fleet's, one of a large one's."""
        group: list[_Taken] = []
        points = 0
        while self._ticks and (not group or points + self._ticks[0].points <= PARCEL_POINTS):
            group.append(self._ticks.popleft())
            points += group[-1].points
        self._in_ticks -= points
        self._in_packing += points
        return group

    async def _pack_batch(self, batch: SampleBatch, through_us: int) -> None:
        for start in range(0, len(batch), PARCEL_POINTS):
            rows = slice(start, start + PARCEL_POINTS)
            piece = batch if len(batch) <= PARCEL_POINTS else _part(batch, rows)
            content = await asyncio.to_thread(self._encode, piece)
            self._in_packing -= len(piece)
            self.waiting.add(len(piece), through_us if start + PARCEL_POINTS >= len(batch) else 0, content)
            self._arrived.set()

    def _encode(self, batch: SampleBatch) -> bytes:
        return pack(self.encoder.samples(batch))

    def _profile(self, now_us: int, bands: Bands) -> bytes:
        return pack(self.encoder.profiles(now_us, bands))

    async def _spill_if_held_up(self) -> None:
        """The disk takes over while the server is away, or slower than the ticks come."""
        if self.courier.trouble:
            await self._spill()
        elif self.waiting.parcels_in_memory > PARCELS_IN_MEMORY:
            await self._spill(keep_first=True)

    async def _spill(self, *, keep_first: bool = False) -> None:
        await _to_its_end(self._spill_now(keep_first))

    async def _spill_now(self, keep_first: bool) -> None:
        async with self._spilling:
            for parcel in self.waiting.unwritten(keep_first=keep_first):
                try:
                    await asyncio.to_thread(self.waiting.write, parcel)
                except StoreUnavailableError as error:
                    self.waiting.unwritable(error)
                    return
                self.waiting.written(parcel)

    # -- bringing ------------------------------------------------------------------------------------------------------

    async def _keep_bringing(self) -> None:
        while True:
            if not len(self.waiting):
                self._arrived.clear()
                await self._arrived.wait()
                continue
            wait_s = await self._bring()
            if wait_s:
                await self._spill()
                await asyncio.sleep(wait_s)

    async def _bring(self) -> float:
        """Bring the oldest parcels, as many as make one request; seconds to wait when they could not be."""
        load = self.waiting.next_load(PARCEL_POINTS)
        try:
            contents = await asyncio.to_thread(lambda: [self.waiting.content(parcel) for parcel in load])
        except StoreUnavailableError:  # short of handles, say: the parcel stays, at its place
            return READ_AGAIN_S
        if None in contents:
            gone = [parcel for parcel, content in zip(load, contents, strict=True) if content is None]
            self._dropped += sum(parcel.points for parcel in gone if self.waiting.done(parcel))
            return 0.0
        try:
            delivery = await self.courier.deliver(b"".join(content or b"" for content in contents), "us", sum(parcel.points for parcel in load))
        except NotNowError as not_now:
            return not_now.wait_s
        except DAMAGED:
            self._drop_damaged(load, contents)
            return 0.0
        self._settle(load, delivery)
        return 0.0

    def _drop_damaged(self, load: Sequence[Parcel], contents: Sequence[bytes | None]) -> None:
        """Those of a load that are no gzip any more; the others are brought again without them."""
        damaged = [parcel for parcel, content in zip(load, contents, strict=True) if not _whole(content or b"")]
        self._dropped += sum(parcel.points for parcel in damaged or load if self.waiting.done(parcel))

    def _settle(self, load: Sequence[Parcel], delivery: Delivery) -> None:
        """Account for what was brought; what had to make room meanwhile is counted as dropped already."""
        settled = [parcel for parcel in load if self.waiting.done(parcel)]
        points = sum(parcel.points for parcel in settled)
        dead = min(points, self.letters.add(delivery.dead) if delivery.dead else 0)
        stored = min(points - dead, delivery.stored)
        self._stored += stored
        self._dead += dead
        self._dropped += points - stored - dead
        self._through_us = max([self._through_us, *(parcel.through_us for parcel in settled)])
        if self._through_us - self._marked_us >= MARK_EVERY_US:
            self._note_mark()

    def _note_mark(self) -> None:
        """What lies in the spool is as good as brought."""
        through_us = max(self._through_us, self.waiting.spooled_through_us)
        if through_us > self.mark.value:
            self._marked_us = through_us
            self.mark.move(through_us)


DAMAGED = (OSError, EOFError, zlib.error)
"""What a file of the spool raises that is no gzip any more."""


def pack(blocks: Iterable[bytes | Block]) -> bytes:
    """Lines, gzipped as the server wants them."""
    squeeze = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*(squeeze.compress(block) for block in blocks), squeeze.flush()])


def _whole(content: bytes) -> bool:
    try:
        gzip.decompress(content)
    except DAMAGED:
        return False
    return True


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await work that must not be torn in the middle: whoever is cancelled here leaves it running to its end."""
    await asyncio.shield(asyncio.create_task(work))


def _copied(bands: Bands) -> Bands:
    return Bands(expected=bands.expected.copy(), low=bands.low.copy(), high=bands.high.copy())


def _part(batch: SampleBatch, rows: slice) -> SampleBatch:
    return batch.take(np.arange(len(batch))[rows])
