"""Stored samples in memory: packing, putting pieces in order, and the newest of each agent. Shared by both telemetry stores.

A stored sample has, beside what was measured, the tick that brought it and that tick's time. Where two samples of an
agent have the same time, the tick and then the place in its batch decide, so that order never depends on how samples
happen to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import CONTEXT_FIELDS, MISSING, SampleBatch
from immune.errors import InputError, UnknownIdError
from immune.ports import VitalSeries
from immune.stores.columns import Columns, pack_floats, pack_ints

MINUTE_US = 60_000_000
FIRST_VITAL = 3
"""Where the vitals begin in `pack_columns`: step, status and task come first."""

Piece = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Some samples of one agent and vital: at_us, tick, value; each (n,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """A batch and where it came from: ``tick`` and ``now_us`` are (n,) int64."""

    batch: SampleBatch
    tick: NDArray[np.int64]
    now_us: NDArray[np.int64]

    @classmethod
    def of_tick(cls, tick: int, now_us: int, batch: SampleBatch) -> Stamped:
        """All samples of one tick."""
        n = len(batch)
        return cls(batch=batch, tick=np.full(n, tick, dtype=np.int64), now_us=np.full(n, now_us, dtype=np.int64))

    @classmethod
    def join(cls, pieces: Sequence[Stamped], vitals: int) -> Stamped:
        """One after the other."""
        if not pieces:
            return cls.of_tick(0, 0, SampleBatch.empty(vitals))
        return cls(
            batch=SampleBatch.concatenate([piece.batch for piece in pieces], vitals),
            tick=np.concatenate([piece.tick for piece in pieces]),
            now_us=np.concatenate([piece.now_us for piece in pieces]),
        )

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Stamped:
        """The samples of these rows, in this order."""
        return Stamped(batch=self.batch.take(rows), tick=self.tick[rows], now_us=self.now_us[rows])

    def newest(self) -> Stamped:
        """One sample an agent, by agent: the last one of the highest tick that brought any."""
        order = np.lexsort((self.tick, self.batch.agent))
        agent = self.batch.agent[order]
        last = np.ones(len(agent), dtype=np.bool_)
        last[:-1] = agent[1:] != agent[:-1]
        return self.take(order[last])


KEYS = np.dtype([("agent", "<i4"), ("at_us", "<i8")])


@cache
def rest_type(vitals: int) -> np.dtype[np.void]:
    """The record of everything but who and when."""
    return np.dtype([("step", "<i4"), ("status", "i1"), ("task_id", "<i8"), ("values", "<f8", (vitals,))])


def pack_records(batch: SampleBatch) -> tuple[bytes, bytes]:
    """A batch as plain records, `KEYS` and `rest_type`: quick to write, and records of many ticks may simply be joined."""
    keys = np.empty(len(batch), dtype=KEYS)
    keys["agent"], keys["at_us"] = batch.agent, batch.at_us
    rest = np.empty(len(batch), dtype=rest_type(batch.values.shape[1]))
    rest["step"], rest["status"], rest["task_id"], rest["values"] = batch.step, batch.status, batch.task_id, batch.values
    return keys.tobytes(), rest.tobytes()


def unpack_records(keys: bytes, rest: bytes, vitals: int) -> SampleBatch:
    """A batch of its records; context codes are not kept and come back as missing."""
    who, what = np.frombuffer(keys, KEYS), np.frombuffer(rest, rest_type(vitals))
    return SampleBatch(
        agent=who["agent"].astype(np.int32),
        at_us=who["at_us"].astype(np.int64),
        values=what["values"].astype(np.float64),
        step=what["step"].astype(np.int32),
        status=what["status"].astype(np.int8),
        task_id=what["task_id"].astype(np.int64),
        codes=np.full((len(who), len(CONTEXT_FIELDS)), MISSING, dtype=np.int32),
    )


def pack_columns(batch: SampleBatch, rows: slice = slice(None)) -> bytes:
    """Everything but who and when, by column."""
    return pack_ints((batch.step[rows], batch.status[rows], batch.task_id[rows])) + pack_floats(batch.values[rows])


def unpack_columns(n: int, keys: bytes, rest: bytes, vitals: int) -> SampleBatch:
    """A batch of a section of a closed minute: keys hold agent, time and tick, the rest is of `pack_columns`."""
    who, what = Columns(keys, n), Columns(rest, n)
    return SampleBatch(
        agent=who.ints(0).astype(np.int32),
        at_us=who.ints(1),
        values=np.column_stack([what.floats(FIRST_VITAL + column) for column in range(vitals)]),
        step=what.ints(0).astype(np.int32),
        status=what.ints(1).astype(np.int8),
        task_id=what.ints(2),
        codes=np.full((n, len(CONTEXT_FIELDS)), MISSING, dtype=np.int32),
    )


def weave(vital: str, pieces: Sequence[Piece], from_us: int, to_us: int | None) -> VitalSeries:
    """The pieces as one series in ``[from_us, to_us)``, by time, missing values left out."""
    at_us = np.concatenate([piece[0] for piece in pieces] or [np.empty(0, dtype=np.int64)])
    tick = np.concatenate([piece[1] for piece in pieces] or [np.empty(0, dtype=np.int64)])
    value = np.concatenate([piece[2] for piece in pieces] or [np.empty(0)])
    wanted = ~np.isnan(value) & (at_us >= from_us)
    if to_us is not None:
        wanted &= at_us < to_us
    at_us, tick, value = at_us[wanted], tick[wanted], value[wanted]
    order = np.lexsort((tick, at_us))
    return VitalSeries(vital=vital, at_us=at_us[order], value=value[order])


def minute_of(now_us: int) -> int:
    """The minute, counted from 1970, that a time falls in."""
    return now_us // MINUTE_US


def check_width(batch: SampleBatch, vitals: Sequence[str]) -> None:
    """Raises InputError for a batch whose columns are not the run's."""
    if batch.values.shape[1] != len(vitals):
        raise InputError(
            f"this run has {len(vitals)} vitals", field="values", value=batch.values.shape, way_out="use the schema that the run began with"
        )


def check_same_vitals(run_id: str, known: Sequence[str], named: Sequence[str]) -> None:
    """Raises InputError when a run goes on with other columns than it began with."""
    if tuple(known) != tuple(named):
        raise InputError(
            f"run {run_id} was begun with other vitals", field="vitals", value=tuple(named), way_out="start a new run, or name: " + " ".join(known)
        )


def vital_column(vitals: Sequence[str], vital: str) -> int:
    """Column of a vital. Raises UnknownIdError."""
    if vital not in vitals:
        raise UnknownIdError("this run has no such vital", field="vital", value=vital, way_out="one of " + " ".join(vitals))
    return list(vitals).index(vital)


def unknown_run(run_id: str) -> UnknownIdError:
    """No measurements under this id."""
    return UnknownIdError("no measurements of this run", field="run", value=run_id, way_out="see immune runs")


def unknown_agent(agent_id: str) -> UnknownIdError:
    """No agent of this id in the run."""
    return UnknownIdError("this run has no such agent", field="agent", value=agent_id, way_out="see immune agents")
