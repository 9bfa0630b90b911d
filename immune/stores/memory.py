"""Both stores in memory: the same promises without a disk, for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from immune.core.events import GENESIS, Draft, Envelope, iso, seal
from immune.core.evidence import Bands
from immune.core.vitals import MISSING, SampleBatch, VitalSchema
from immune.errors import InputError, WriterHeldError
from immune.ports import BandSeries, RunInfo, VitalSeries
from immune.stores.chain import check_end, check_expected, check_reached, check_writer, follow, row_of
from immune.stores.samples import (
    MINUTE_US,
    Stamped,
    check_same_vitals,
    check_width,
    minute_of,
    unknown_agent,
    unknown_run,
    vital_column,
    weave,
)

SNAPSHOTS_KEPT = 3


@dataclass(slots=True, kw_only=True)
class _Chain:
    envelopes: list[Envelope] = field(default_factory=list)
    epoch: int = 0
    holder: str = "nobody"
    snapshots: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def head(self) -> tuple[int, str]:
        return (len(self.envelopes), self.envelopes[-1].hash) if self.envelopes else (0, GENESIS)


@dataclass(slots=True)
class _Shelf:
    chains: dict[str, _Chain] = field(default_factory=dict)
    writer: MemoryJournal | None = None
    writer_note: str = ""


class MemoryJournal:
    """A journal that ends with the process."""

    def __init__(self) -> None:
        self._shelf = _Shelf()
        self._held: dict[str, int] = {}

    def another(self) -> MemoryJournal:
        """A second handle on the same content, as a second process would have."""
        handle = MemoryJournal()
        handle._shelf = self._shelf
        return handle

    def acquire(self, run_id: str, holder: str, now_us: int, *, take_over: bool = False) -> int:
        """Become the writer of a run; the new fencing epoch. Raises WriterHeldError while another handle writes, unless it is taken over."""
        shelf = self._shelf
        if shelf.writer not in (None, self) and take_over:
            shelf.writer = None
            for run, other in shelf.chains.items():
                other.epoch += run != run_id  # the other one may be writing another run
        if shelf.writer not in (None, self):
            raise WriterHeldError(
                f"second writer on the same journal: {shelf.writer_note} writes here", field="run", value=run_id, way_out="release the other one"
            )
        if shelf.writer is None:
            shelf.writer, shelf.writer_note = self, f"{holder} (since {iso(now_us)})"
        chain = shelf.chains.setdefault(run_id, _Chain())
        chain.epoch += 1
        chain.holder = holder
        self._held[run_id] = chain.epoch
        return chain.epoch

    def release(self, run_id: str, epoch: int) -> None:
        """Stop being the writer; nothing happens if somebody took over."""
        if self._held.get(run_id) == epoch:
            del self._held[run_id]
        self._drop_idle_lock()

    def confirm(self, run_id: str, epoch: int) -> None:
        """Return while this epoch may write. Raises FencedError."""
        self._checked(run_id, epoch)

    def append(self, run_id: str, drafts: Sequence[Draft], *, expected_seq: int, epoch: int) -> list[Envelope]:
        """Keep these events, all or none. Raises AppendConflictError, FencedError, InputError."""
        if not drafts:
            return []
        chain = self._checked(run_id, epoch)
        check_expected(run_id, len(chain.envelopes), expected_seq)
        try:
            sealed = seal(run_id, tuple(drafts), *chain.head())
        except UnicodeEncodeError as error:
            raise InputError(f"an event cannot be stored: {error}", field="drafts") from None
        if any(not -(2**63) <= draft.at_us < 2**63 for draft in drafts):
            raise InputError("an event cannot be stored: its time needs more than 64 bits", field="drafts")
        chain.envelopes.extend(sealed)
        return sealed

    def read(self, run_id: str, *, after_seq: int = 0, limit: int | None = None) -> Iterator[Envelope]:
        """Events after a seq, in order; others may append meanwhile."""
        chain = self._shelf.chains.get(run_id, _Chain())
        position = max(0, after_seq)
        end = None if limit is None else position + limit
        while position < len(chain.envelopes) and (end is None or position < end):
            yield chain.envelopes[position]
            position += 1

    def head(self, run_id: str) -> tuple[int, str]:
        """(last seq, its hash); (0, genesis) for an unknown run."""
        return self._shelf.chains.get(run_id, _Chain()).head()

    def verify(self, run_id: str) -> int:
        """Check the whole chain; the number of events. Raises JournalBrokenError at the first bad seq."""
        found = follow(run_id, (row_of(envelope) for envelope in self.read(run_id)), 0, GENESIS)
        return check_end(run_id, found, self.head(run_id))

    def runs(self) -> list[RunInfo]:
        """Every run that has events, the newest first."""
        chains = reversed(self._shelf.chains.items())
        return [_run_info(run_id, chain.envelopes) for run_id, chain in chains if chain.envelopes]

    def save_snapshot(self, run_id: str, seq: int, name: str, content: bytes, *, epoch: int) -> None:
        """Keep a snapshot; the newest three of a name stay. Raises FencedError, AppendConflictError."""
        chain = self._checked(run_id, epoch)
        check_reached(run_id, seq, len(chain.envelopes))
        kept = chain.snapshots.setdefault(name, {})
        kept[seq] = bytes(content)
        for old in sorted(kept)[:-SNAPSHOTS_KEPT]:
            del kept[old]

    def load_snapshot(self, run_id: str, name: str) -> tuple[int, bytes] | None:
        """The newest snapshot of this name: (seq, content), or None."""
        kept = self._shelf.chains.get(run_id, _Chain()).snapshots.get(name)
        return max(kept.items()) if kept else None

    def close(self) -> None:
        """Stop being the writer; the content stays as long as this object."""
        self._held.clear()
        self._drop_idle_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, run_id: str, epoch: int) -> _Chain:
        chain = self._shelf.chains.get(run_id, _Chain())
        check_writer(run_id, epoch, current=chain.epoch, held=self._held.get(run_id), holder=chain.holder)
        return chain

    def _drop_idle_lock(self) -> None:
        if not self._held and self._shelf.writer is self:
            self._shelf.writer = None


def _run_info(run_id: str, envelopes: list[Envelope]) -> RunInfo:
    first, last = envelopes[0], envelopes[-1]
    return RunInfo(run_id=run_id, events=len(envelopes), first_at_us=first.at_us, last_at_us=last.at_us, head=last.hash)


@dataclass(slots=True, kw_only=True)
class _Measured:
    vitals: tuple[str, ...]
    agents: dict[int, str] = field(default_factory=dict)
    ticks: dict[int, tuple[int, SampleBatch]] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    waiting: dict[int, int] = field(default_factory=dict)
    """Ticks with samples that are not closed, and their times: what `compact` looks through, every tick."""
    bands: dict[int, Bands] = field(default_factory=dict)

    def index(self, agent_id: str) -> int:
        found = [index for index, known in self.agents.items() if known == agent_id]
        if not found:
            raise unknown_agent(agent_id)
        return min(found)


class MemoryTelemetry:
    """Measurements that end with the process. Keeps every batch; nothing is packed."""

    def __init__(self) -> None:
        self._runs: dict[str, _Measured] = {}

    def begin(self, run_id: str, schema: VitalSchema) -> None:
        """Start or go on with a run. Raises InputError when it goes on with other vitals."""
        run = self._runs.setdefault(run_id, _Measured(vitals=schema.names))
        check_same_vitals(run_id, run.vitals, schema.names)

    def write(self, run_id: str, tick: int, now_us: int, batch: SampleBatch) -> None:
        """Store one tick's samples; the same tick again replaces them until its minute is closed. Raises UnknownIdError, InputError."""
        run = self._known(run_id)
        check_width(batch, run.vitals)
        if tick not in run.closed:
            run.ticks[tick] = (now_us, _kept(batch))
            run.waiting.pop(tick, None)
            if len(batch):
                run.waiting[tick] = now_us

    def name_agents(self, run_id: str, first_index: int, agent_ids: Sequence[str]) -> None:
        """Remember the ids of the indices from `first_index` on."""
        self._known(run_id).agents.update(enumerate(agent_ids, first_index))

    def compact(self, run_id: str, now_us: int, *, parts: int | None = None) -> int:
        """Close every minute that ended by `now_us`, or the first so many ticks of them; how many minutes."""
        run = self._known(run_id)
        end_us = minute_of(now_us) * MINUTE_US
        closing = sorted((at, tick) for tick, at in run.waiting.items() if at < end_us)[:parts]
        for _, tick in closing:
            run.closed.add(tick)
            del run.waiting[tick]
        return len({minute_of(at) for at, _ in closing})

    def expire(self, run_id: str, before_us: int) -> int:
        """Forget whole minutes that ended by `before_us`, bands too; how many blocks of samples went."""
        run = self._known(run_id)
        end_us = minute_of(before_us) * MINUTE_US
        gone = [tick for tick, (at, batch) in run.ticks.items() if at < end_us and len(batch)]
        for tick in gone:
            del run.ticks[tick]
            run.waiting.pop(tick, None)
        run.closed.difference_update(gone)
        run.bands = {at: bands for at, bands in run.bands.items() if at >= end_us}
        return len(gone)

    def vitals(self, run_id: str) -> tuple[str, ...]:
        """The run's vitals, in column order. Empty for an unknown run."""
        return self._runs[run_id].vitals if run_id in self._runs else ()

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids by roster index; an index that was never named has an empty one."""
        named = self._runs[run_id].agents if run_id in self._runs else {}
        return tuple(named.get(index, "") for index in range(max(named, default=-1) + 1))

    def series(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> VitalSeries:
        """All values of one vital of one agent in ``[from_us, to_us)``, missing ones left out. Raises UnknownIdError."""
        run = self._known(run_id)
        column = vital_column(run.vitals, vital)
        agent = run.index(agent_id)
        pieces = []
        for tick, (_, batch) in run.ticks.items():
            rows = np.flatnonzero(batch.agent == agent)
            pieces.append((batch.at_us[rows], np.full(len(rows), tick, dtype=np.int64), batch.values[rows, column]))
        return weave(vital, pieces, from_us, to_us)

    def write_bands(self, run_id: str, now_us: int, bands: Bands) -> None:
        """Store what the baselines expect at this moment; the same moment again replaces it."""
        self._known(run_id).bands[now_us] = Bands(expected=bands.expected.copy(), low=bands.low.copy(), high=bands.high.copy())

    def bands(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> BandSeries:
        """The band of one vital of one agent in ``[from_us, to_us)``. Raises UnknownIdError."""
        run = self._known(run_id)
        column = vital_column(run.vitals, vital)
        agent = run.index(agent_id)
        times = sorted(at for at, bands in run.bands.items() if at >= from_us and (to_us is None or at < to_us) and agent < len(bands.expected))
        lines = [np.array([getattr(run.bands[at], side)[agent, column] for at in times], dtype=np.float32) for side in ("expected", "low", "high")]
        return BandSeries(vital=vital, at_us=np.array(times, dtype=np.int64), expected=lines[0], low=lines[1], high=lines[2])

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one, by agent: the last one of the highest tick that brought any."""
        run = self._runs.get(run_id)
        if run is None:
            return SampleBatch.empty()
        pieces = [Stamped.of_tick(tick, now_us, batch) for tick, (now_us, batch) in run.ticks.items()]
        return Stamped.join(pieces, len(run.vitals)).newest().batch

    def samples(self, run_id: str, from_us: int, to_us: int) -> SampleBatch:
        """All samples of the whole minutes of ticks that touch ``[from_us, to_us)``. Raises UnknownIdError."""
        run = self._known(run_id)
        first, end = minute_of(from_us), minute_of(to_us - 1) + 1
        batches = [batch for _, (now_us, batch) in sorted(run.ticks.items()) if first <= minute_of(now_us) < end]
        return SampleBatch.concatenate(batches, len(run.vitals))

    def counts(self, run_id: str) -> int:
        """How many samples are stored."""
        run = self._runs.get(run_id)
        return sum(len(batch) for _, batch in run.ticks.values()) if run else 0

    def close(self) -> None:
        """Nothing to let go of."""

    def _known(self, run_id: str) -> _Measured:
        if run_id not in self._runs:
            raise unknown_run(run_id)
        return self._runs[run_id]


def _kept(batch: SampleBatch) -> SampleBatch:
    copy = batch.take(np.arange(len(batch)))
    copy.codes.fill(MISSING)
    return copy
