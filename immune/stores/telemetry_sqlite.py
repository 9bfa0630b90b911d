"""Measurements in one SQLite file: one packed block a tick, each closed minute transposed by agent.

A tick is one row of plain records, so that writing costs little, and the same for the first and the millionth. Read by
agent, such rows would be read whole: a gigabyte for one agent's hour in a fleet of 10,000. So `compact` turns each closed
minute into one row per `SECTION` agents, sorted by agent and packed by column without loss, and removes its ticks in the
same transaction. A tick whose minute is closed is stored for good: writing it again changes nothing, writing it again
before replaces it.

Best effort with an exact account: WAL and synchronous=NORMAL lose at most the last moments at a power cut and
never tear a block; what could not be written raises, so that the caller can count it. Samples of closed minutes are
counted by triggers; the open ones, a minute or two, are summed when asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np

from immune.core.evidence import Bands
from immune.core.vitals import SampleBatch, VitalSchema
from immune.errors import RefusedError
from immune.ports import BandSeries, VitalSeries
from immune.stores.columns import Columns, pack_ints
from immune.stores.samples import (
    FIRST_VITAL,
    KEYS,
    MINUTE_US,
    Piece,
    Stamped,
    check_same_vitals,
    check_width,
    minute_of,
    pack_columns,
    pack_records,
    rest_type,
    unknown_agent,
    unknown_run,
    unpack_columns,
    unpack_records,
    vital_column,
    weave,
)
from immune.stores.sqlite import Layout, guarded, located, one_view, open_readable, open_writable, transaction

FILE_NAME = "telemetry.db"
SECTION = 64
"""Agents that share a row of a closed minute: few make reading one agent cheap, many make rows few."""
SAMPLES_AT_ONCE = 100_000
"""About what `compact` takes on at a time, 150 bytes each in memory; a larger minute is transposed in parts."""
_END_OF_TIME = 2**63 - 1

LAYOUT = Layout(
    what="telemetry store",
    application_id=0x494D544C,
    version=1,
    page_size=8192,  # large blocks like large pages; a small fleet's tick should not cost three pages of 16 kB
    synchronous="NORMAL",
    script=(
        "CREATE TABLE runs (run INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, vitals TEXT NOT NULL, closed_samples INTEGER NOT NULL DEFAULT 0)",
        "CREATE TABLE agents (run INTEGER NOT NULL, agent INTEGER NOT NULL, agent_id TEXT NOT NULL, PRIMARY KEY (run, agent)) WITHOUT ROWID",
        "CREATE INDEX agents_by_id ON agents (run, agent_id)",
        """CREATE TABLE ticks (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, tick INTEGER NOT NULL, now_us INTEGER NOT NULL, first_us INTEGER NOT NULL,
            last_us INTEGER NOT NULL, n INTEGER NOT NULL, keys BLOB NOT NULL, rest BLOB NOT NULL, UNIQUE (run, tick))""",
        """CREATE TABLE minutes (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, section INTEGER NOT NULL, minute INTEGER NOT NULL, first_us INTEGER NOT NULL,
            last_us INTEGER NOT NULL, n INTEGER NOT NULL, keys BLOB NOT NULL, rest BLOB NOT NULL)""",
        "CREATE INDEX minutes_by_section ON minutes (run, section, first_us, last_us)",
        "CREATE INDEX minutes_by_time ON minutes (run, minute)",
        "CREATE TABLE closed (run INTEGER NOT NULL, tick INTEGER NOT NULL, minute INTEGER NOT NULL, PRIMARY KEY (run, tick)) WITHOUT ROWID",
        "CREATE INDEX closed_by_time ON closed (run, minute)",
        "CREATE TABLE latest (run INTEGER PRIMARY KEY, n INTEGER NOT NULL, stamps BLOB NOT NULL, keys BLOB NOT NULL, rest BLOB NOT NULL)",
        """CREATE TABLE bands (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL, section INTEGER NOT NULL, at_us INTEGER NOT NULL, content BLOB NOT NULL,
            UNIQUE (run, section, at_us))""",
        "CREATE INDEX bands_by_time ON bands (run, at_us)",
        "CREATE TRIGGER minute_came AFTER INSERT ON minutes BEGIN UPDATE runs SET closed_samples = closed_samples + new.n WHERE run = new.run; END",
        "CREATE TRIGGER minute_went AFTER DELETE ON minutes BEGIN UPDATE runs SET closed_samples = closed_samples - old.n WHERE run = old.run; END",
    ),
)

_WRITE = """INSERT OR REPLACE INTO ticks (run, tick, now_us, first_us, last_us, n, keys, rest) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
    WHERE NOT EXISTS (SELECT 1 FROM closed WHERE run = ?1 AND tick = ?2)"""
_CLOSABLE = "SELECT id, tick, now_us, n FROM ticks WHERE run = ? AND now_us < ? ORDER BY tick"
_COUNT = """SELECT coalesce((SELECT closed_samples FROM runs WHERE run = :run), 0)
    + coalesce((SELECT sum(n) FROM ticks WHERE run = :run), 0)"""
_ADD_MINUTE = "INSERT INTO minutes (run, section, minute, first_us, last_us, n, keys, rest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_OPEN_KEYS = "SELECT id, tick, keys FROM ticks WHERE run = ? AND first_us < ? AND last_us >= ?"
_CLOSED_ROWS = "SELECT n, keys, rest FROM minutes WHERE run = ? AND section = ? AND first_us < ? AND last_us >= ?"
_OPEN_NEWEST = "SELECT id, tick, now_us, keys FROM ticks WHERE run = ? ORDER BY tick DESC"
_BANDS = "SELECT at_us, content FROM bands WHERE run = ? AND section = ? AND at_us >= ? AND at_us < ? ORDER BY at_us"


class SqliteTelemetry:
    """The measurements of a data directory. To be used from one thread."""

    def __init__(self, data_dir: Path, *, read_only: bool = False) -> None:
        """Raises StoreUnavailableError, and SchemaTooNewError for a store of a newer version."""
        self.path = located(data_dir, FILE_NAME) if read_only else data_dir / FILE_NAME
        self.read_only = read_only
        self._connection = open_readable(self.path, LAYOUT) if read_only else open_writable(self.path, LAYOUT)
        self._runs: dict[str, tuple[int, tuple[str, ...]]] = {}

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """A handle on the store of a data directory, or on one file, that cannot write. Any process may have one."""
        return cls(path, read_only=True)

    def begin(self, run_id: str, schema: VitalSchema) -> None:
        """Start or go on with a run. Raises InputError when it goes on with other vitals, RefusedError, StoreUnavailableError."""
        self._check_writable()
        with transaction(self._connection, self.path):
            self._connection.execute("INSERT OR IGNORE INTO runs (run_id, vitals) VALUES (?, ?)", (run_id, json.dumps(schema.names)))
        check_same_vitals(run_id, self._known(run_id)[1], schema.names)

    def write(self, run_id: str, tick: int, now_us: int, batch: SampleBatch) -> None:
        """Store one tick's samples; the same tick again replaces them until its minute is closed.

        Raises UnknownIdError before `begin`, InputError, RefusedError, StoreUnavailableError; then nothing was stored.
        """
        self._check_writable()
        run, vitals = self._known(run_id)
        check_width(batch, vitals)
        with transaction(self._connection, self.path):
            if len(batch):
                span = (int(batch.at_us.min()), int(batch.at_us.max()))
                self._connection.execute(_WRITE, (run, tick, now_us, *span, len(batch), *pack_records(batch)))
            else:
                self._connection.execute("DELETE FROM ticks WHERE run = ? AND tick = ?", (run, tick))

    def name_agents(self, run_id: str, first_index: int, agent_ids: Sequence[str]) -> None:
        """Remember the ids of the indices from `first_index` on. Raises UnknownIdError, RefusedError, StoreUnavailableError."""
        self._check_writable()
        run, _ = self._known(run_id)
        with transaction(self._connection, self.path):
            rows = [(run, index, agent_id) for index, agent_id in enumerate(agent_ids, first_index)]
            self._connection.executemany("INSERT OR REPLACE INTO agents VALUES (?, ?, ?)", rows)

    def compact(self, run_id: str, now_us: int, *, parts: int | None = None) -> int:
        """Transpose every minute that ended by `now_us`; how many minutes. A crash in between loses and doubles nothing.

        With `parts`, stop after so many steps of about `SAMPLES_AT_ONCE` samples each: called every tick, it never holds one up for long.
        """
        self._check_writable()
        run, vitals = self._known(run_id)
        with guarded(self.path):
            rows = self._connection.execute(_CLOSABLE, (run, minute_of(now_us) * MINUTE_US)).fetchall()
        done = list(islice(_parts(rows), parts))
        for part in done:
            with transaction(self._connection, self.path):
                self._close_ticks(run, len(vitals), part)
        return len({minute_of(part[0][2]) for part in done})

    def expire(self, run_id: str, before_us: int) -> int:
        """Forget whole minutes that ended by `before_us`, bands too; how many blocks of samples went."""
        self._check_writable()
        run, vitals = self._known(run_id)
        minute = minute_of(before_us)
        with transaction(self._connection, self.path):
            gone = self._connection.execute("DELETE FROM ticks WHERE run = ? AND now_us < ?", (run, minute * MINUTE_US)).rowcount
            gone += self._connection.execute("DELETE FROM minutes WHERE run = ? AND minute < ?", (run, minute)).rowcount
            self._connection.execute("DELETE FROM closed WHERE run = ? AND minute < ?", (run, minute))
            self._connection.execute("DELETE FROM bands WHERE run = ? AND at_us < ?", (run, minute * MINUTE_US))
            if gone:
                kept = self._latest_closed(run, len(vitals))
                self._keep_latest(run, kept.take(kept.now_us >= minute * MINUTE_US))
        return gone

    def forget_run(self, run_id: str) -> None:
        """Delete all measurements of a run for good; nothing happens for an unknown one. Raises RefusedError, StoreUnavailableError."""
        self._check_writable()
        found = self._find(run_id)
        if found is None:
            return
        with transaction(self._connection, self.path):
            for table in ("ticks", "minutes", "closed", "latest", "bands", "agents", "runs"):
                self._connection.execute(f"DELETE FROM {table} WHERE run = ?", (found[0],))  # noqa: S608  (our own table names)
        del self._runs[run_id]

    def vitals(self, run_id: str) -> tuple[str, ...]:
        """The run's vitals, in column order. Empty for an unknown run."""
        found = self._find(run_id)
        return found[1] if found else ()

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids by roster index; an index that was never named has an empty one."""
        found = self._find(run_id)
        with guarded(self.path):
            rows = self._connection.execute("SELECT agent, agent_id FROM agents WHERE run = ? ORDER BY agent", (found[0] if found else 0,)).fetchall()
        named = dict(rows)
        return tuple(named.get(index, "") for index in range(rows[-1][0] + 1)) if rows else ()

    def series(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> VitalSeries:
        """All values of one vital of one agent in ``[from_us, to_us)``, missing ones left out. Raises UnknownIdError."""
        run, vitals = self._known(run_id)
        column = vital_column(vitals, vital)
        span = (_END_OF_TIME if to_us is None else to_us, from_us)
        with one_view(self._connection, self.path):
            agent = self._agent(run, agent_id)
            pieces = [*self._closed_pieces(run, agent, column, span), *self._open_pieces(run, agent, (column, len(vitals)), span)]
        return weave(vital, pieces, from_us, to_us)

    def write_bands(self, run_id: str, now_us: int, bands: Bands) -> None:
        """Store what the baselines expect at this moment; the same moment again replaces it."""
        self._check_writable()
        run, vitals = self._known(run_id)
        cube = np.stack((bands.expected, bands.low, bands.high), axis=1).astype("<f4").reshape(-1, 3 * len(vitals))
        rows = [(run, section, now_us, cube[section * SECTION : (section + 1) * SECTION].tobytes()) for section in range(-(-len(cube) // SECTION))]
        with transaction(self._connection, self.path):
            self._connection.execute("DELETE FROM bands WHERE run = ? AND at_us = ?", (run, now_us))
            self._connection.executemany("INSERT INTO bands (run, section, at_us, content) VALUES (?, ?, ?, ?)", rows)

    def bands(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> BandSeries:
        """The band of one vital of one agent in ``[from_us, to_us)``. Raises UnknownIdError."""
        run, vitals = self._known(run_id)
        column = vital_column(vitals, vital)
        with one_view(self._connection, self.path):
            section, place = divmod(self._agent(run, agent_id), SECTION)
            rows = self._connection.execute(_BANDS, (run, section, from_us, _END_OF_TIME if to_us is None else to_us)).fetchall()
        size = 3 * len(vitals)
        kept = [(at_us, np.frombuffer(content, "<f4", size, 4 * size * place)) for at_us, content in rows if len(content) >= 4 * size * (place + 1)]
        lines = np.array([line.reshape(3, -1)[:, column] for _, line in kept], dtype=np.float32).reshape(-1, 3)
        at_us = np.array([at_us for at_us, _ in kept], dtype=np.int64)
        return BandSeries(vital=vital, at_us=at_us, expected=lines[:, 0], low=lines[:, 1], high=lines[:, 2])

    def profiles(self, run_id: str, every_us: int) -> Iterator[tuple[int, Bands]]:
        """The bands of all agents, no closer together than `every_us`, by time. Raises UnknownIdError."""
        run, vitals = self._known(run_id)
        with guarded(self.path):
            times = [row[0] for row in self._connection.execute("SELECT DISTINCT at_us FROM bands WHERE run = ? ORDER BY at_us", (run,))]
        last_us = -every_us
        for at_us in times:
            if at_us - last_us >= every_us:
                last_us = at_us
                with guarded(self.path):
                    rows = self._connection.execute("SELECT content FROM bands WHERE run = ? AND at_us = ? ORDER BY section", (run, at_us)).fetchall()
                cube = np.frombuffer(b"".join(content for (content,) in rows), "<f4").reshape(-1, 3, len(vitals))
                yield at_us, Bands(expected=cube[:, 0], low=cube[:, 1], high=cube[:, 2])

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one, by agent: the last one of the highest tick that brought any."""
        found = self._find(run_id)
        if not found:
            return SampleBatch.empty()
        run, vitals = found
        with one_view(self._connection, self.path):
            pieces = [self._latest_closed(run, len(vitals)), *self._latest_open(run, len(vitals))]
        return Stamped.join(pieces, len(vitals)).newest().batch

    def samples(self, run_id: str, from_us: int, to_us: int) -> SampleBatch:
        """All samples of the whole minutes of ticks that touch ``[from_us, to_us)``. Raises UnknownIdError."""
        run, vitals = self._known(run_id)
        first, end = minute_of(from_us), minute_of(to_us - 1) + 1
        with one_view(self._connection, self.path):
            closed = self._connection.execute("SELECT n, keys, rest FROM minutes WHERE run = ? AND minute >= ? AND minute < ?", (run, first, end))
            pieces = [unpack_columns(n, keys, rest, len(vitals)) for n, keys, rest in closed]
            span = (run, first * MINUTE_US, end * MINUTE_US)
            ticks = self._connection.execute("SELECT keys, rest FROM ticks WHERE run = ? AND now_us >= ? AND now_us < ? ORDER BY tick", span)
            pieces += [unpack_records(keys, rest, len(vitals)) for keys, rest in ticks]
        return SampleBatch.concatenate(pieces, len(vitals))

    def counts(self, run_id: str) -> int:
        """How many samples are stored."""
        found = self._find(run_id)
        with guarded(self.path):
            return int(self._connection.execute(_COUNT, {"run": found[0] if found else None}).fetchone()[0])

    def close(self) -> None:
        """Let go of the file; nothing happens the second time."""
        with guarded(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_writable(self) -> None:
        if self.read_only:
            raise RefusedError("this handle only reads", field="telemetry", value=str(self.path), way_out="write through the daemon that owns it")

    def _find(self, run_id: str) -> tuple[int, tuple[str, ...]] | None:
        known = self._runs.get(run_id)
        if known is None:
            with guarded(self.path):
                row = self._connection.execute("SELECT run, vitals FROM runs WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                return None
            known = self._runs[run_id] = (row[0], tuple(json.loads(row[1])))
        return known

    def _known(self, run_id: str) -> tuple[int, tuple[str, ...]]:
        found = self._find(run_id)
        if found is None:
            raise unknown_run(run_id)
        return found

    def _agent(self, run: int, agent_id: str) -> int:
        row = self._connection.execute("SELECT agent FROM agents WHERE run = ? AND agent_id = ? ORDER BY agent LIMIT 1", (run, agent_id)).fetchone()
        if row is None:
            raise unknown_agent(agent_id)
        return int(row[0])

    def _closed_pieces(self, run: int, agent: int, column: int, span: tuple[int, int]) -> Iterator[Piece]:
        for n, keys, rest in self._connection.execute(_CLOSED_ROWS, (run, agent // SECTION, *span)):
            who = Columns(keys, n)
            start, end = np.searchsorted(who.ints(0), (agent, agent + 1))
            if start < end:
                rows = slice(start, end)
                yield who.ints(1)[rows], who.ints(2)[rows], Columns(rest, n).floats(FIRST_VITAL + column)[rows]

    def _open_pieces(self, run: int, agent: int, place: tuple[int, int], span: tuple[int, int]) -> Iterator[Piece]:
        column, vitals = place
        for tick_id, tick, keys in self._connection.execute(_OPEN_KEYS, (run, *span)):
            who = np.frombuffer(keys, KEYS)
            rows = np.flatnonzero(who["agent"] == agent)
            if len(rows):
                value = np.frombuffer(self._rest(tick_id), rest_type(vitals))["values"][rows, column]
                yield who["at_us"][rows], np.full(len(rows), tick, dtype=np.int64), value

    def _rest(self, tick_id: int) -> bytes:
        content: bytes = self._connection.execute("SELECT rest FROM ticks WHERE id = ?", (tick_id,)).fetchone()[0]
        return content

    def _latest_open(self, run: int, vitals: int) -> Iterator[Stamped]:
        named = self._connection.execute("SELECT coalesce(max(agent), -1) + 1 FROM agents WHERE run = ?", (run,)).fetchone()[0]
        seen = np.zeros(named, dtype=np.bool_)
        for tick_id, tick, now_us, keys in self._connection.execute(_OPEN_NEWEST, (run,)):
            agent = np.frombuffer(keys, KEYS)["agent"]
            seen = np.pad(seen, (0, max(0, int(agent.max()) + 1 - len(seen))))
            fresh = ~seen[agent]
            if fresh.any():
                batch = unpack_records(keys, self._rest(tick_id), vitals)
                yield Stamped.of_tick(tick, now_us, batch.take(fresh))
                seen[agent] = True
            if named and seen[:named].all():
                return

    def _latest_closed(self, run: int, vitals: int) -> Stamped:
        row = self._connection.execute("SELECT n, stamps, keys, rest FROM latest WHERE run = ?", (run,)).fetchone()
        if row is None:
            return Stamped.join([], vitals)
        n, stamps, keys, rest = row
        stamp = Columns(stamps, n)
        return Stamped(batch=unpack_records(keys, rest, vitals), tick=stamp.ints(0), now_us=stamp.ints(1))

    def _keep_latest(self, run: int, kept: Stamped) -> None:
        row = (run, len(kept.batch), pack_ints((kept.tick, kept.now_us)), *pack_records(kept.batch))
        self._connection.execute("INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?)", row)

    def _close_ticks(self, run: int, vitals: int, ticks: Sequence[tuple[int, int, int, int]]) -> None:
        minute = minute_of(ticks[0][2])
        samples = self._open_ticks(ticks, vitals)
        samples = samples.take(np.argsort(samples.batch.agent, kind="stable"))
        self._connection.executemany(_ADD_MINUTE, [(run, *row) for row in _sections(samples, minute)])
        last = np.flatnonzero(np.diff(samples.batch.agent, append=-1))
        self._keep_latest(run, Stamped.join([self._latest_closed(run, vitals), samples.take(last)], vitals).newest())
        self._connection.executemany("INSERT INTO closed VALUES (?, ?, ?)", [(run, tick[1], minute) for tick in ticks])
        self._connection.executemany("DELETE FROM ticks WHERE id = ?", [(tick[0],) for tick in ticks])

    def _open_ticks(self, ticks: Sequence[tuple[int, int, int, int]], vitals: int) -> Stamped:
        read = [self._connection.execute("SELECT keys, rest FROM ticks WHERE id = ?", (tick[0],)).fetchone() for tick in ticks]
        batch = unpack_records(b"".join(keys for keys, _ in read), b"".join(rest for _, rest in read), vitals)
        _, tick, now_us, n = (np.array(column, dtype=np.int64) for column in zip(*ticks, strict=True))
        return Stamped(batch=batch, tick=np.repeat(tick, n), now_us=np.repeat(now_us, n))


def _parts(rows: Sequence[tuple[int, int, int, int]]) -> Iterator[list[tuple[int, int, int, int]]]:
    """The ticks (id, tick, now_us, n) of one minute after the other, no part far larger than `SAMPLES_AT_ONCE`."""
    part: list[tuple[int, int, int, int]] = []
    for row in rows:
        if part and (minute_of(row[2]) != minute_of(part[0][2]) or sum(one[3] for one in part) >= SAMPLES_AT_ONCE):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _sections(samples: Stamped, minute: int) -> Iterator[tuple[int, int, int, int, int, bytes, bytes]]:
    """Rows of `minutes`, one per `SECTION` agents, of samples sorted by agent."""
    batch = samples.batch
    section = batch.agent // SECTION
    starts = np.flatnonzero(np.diff(section, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(section)], strict=True):
        rows = slice(start, end)
        at_us = batch.at_us[rows]
        keys = pack_ints((batch.agent[rows], at_us, samples.tick[rows]))
        yield int(section[start]), minute, int(at_us.min()), int(at_us.max()), len(at_us), keys, pack_columns(batch, rows)
