"""Named arrays that grow together along one axis, and go to bytes and back bit for bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from immune.errors import InputError

Rows = slice | NDArray[np.intp]
FIRST_CAPACITY = 16
BLOCKS_KEPT = 512
DENSE = 3
"""Rows that fill at least a third of their span are written back by a mask, which is several times faster than by index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How one array looks: ``lead + (capacity,) + trail``; new rows hold `fill`."""

    dtype: np.dtype[Any]
    fill: float
    lead: tuple[int, ...]
    trail: tuple[int, ...]


class Arena:
    """State of many things (agents, types, cells) as a few arrays; capacity doubles, so growth costs O(1) per row."""

    def __init__(self) -> None:
        self.size = 0
        self.capacity = 0
        self._blocks: dict[tuple[int, int], Block] = {}
        self._columns: dict[str, Column] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def declare(self, name: str, dtype: DTypeLike, *, fill: float = 0, lead: tuple[int, ...] = (), trail: tuple[int, ...] = ()) -> None:
        """Add an array before the first row exists."""
        column = Column(dtype=np.dtype(dtype), fill=fill, lead=lead, trail=trail)
        self._columns[name] = column
        self._arrays[name] = np.full((*lead, 0, *trail), fill, dtype=column.dtype)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def grow(self, size: int) -> None:
        """Make room for at least `size` rows; existing rows keep their values."""
        if size > self.capacity:
            self._reserve(max(FIRST_CAPACITY, 1 << (size - 1).bit_length()))
        self.size = max(self.size, size)

    def _reserve(self, capacity: int) -> None:
        for name, column in self._columns.items():
            bigger = np.full((*column.lead, capacity, *column.trail), column.fill, dtype=column.dtype)
            bigger[_along(column, slice(0, self.size))] = self._arrays[name][_along(column, slice(0, self.size))]
            self._arrays[name] = bigger
        self.capacity = capacity
        self._blocks.clear()

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes views of its own."""
        return {**self.__dict__, "_blocks": {}}

    def block(self, rows: Rows) -> Block:
        """Working arrays of these rows; the views of neighbours are kept, so that small fleets do not pay for them each time."""
        if not isinstance(rows, slice):
            return Block(self, rows)
        known = self._blocks.get((rows.start, rows.stop))
        if known is None:
            if len(self._blocks) >= BLOCKS_KEPT:
                self._blocks.clear()
            known = self._blocks[rows.start, rows.stop] = Block(self, rows)
        return known

    def clear(self, rows: Rows) -> None:
        """Set these rows back to their first values."""
        for name, column in self._columns.items():
            self._arrays[name][_along(column, rows)] = column.fill

    def refill(self, name: str, rows: Rows) -> None:
        """Set these rows of one array back to their first values."""
        self._arrays[name][_along(self._columns[name], rows)] = self._columns[name].fill

    @property
    def nbytes(self) -> int:
        """Bytes held, capacity included."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def layout(self) -> str:
        """Names, types and shapes of the arrays, as text."""
        return ";".join(f"{name}:{column.dtype.str}:{column.lead}:{column.trail}" for name, column in self._columns.items())

    def pack(self) -> bytes:
        """The rows in use as bytes: a JSON line with names and types, then the arrays one after the other."""
        head = {"size": self.size, "columns": [[name, column.dtype.str] for name, column in self._columns.items()]}
        parts = [json.dumps(head, separators=(",", ":")).encode() + b"\n"]
        for name, column in self._columns.items():
            parts.append(np.ascontiguousarray(self._arrays[name][_along(column, slice(0, self.size))]).tobytes())
        return b"".join(parts)

    def unpack(self, content: bytes) -> None:
        """Take over what `pack` wrote. Raises InputError if it was made for other arrays."""
        line, _, body = content.partition(b"\n")
        head = json.loads(line)
        if head["columns"] != [[name, column.dtype.str] for name, column in self._columns.items()]:
            raise InputError("this snapshot was made by another version", field="snapshot", way_out="let the baselines be learned anew")
        self.size = 0
        self.grow(head["size"])
        self.size = head["size"]
        offset = 0
        for name, column in self._columns.items():
            place = _along(column, slice(0, self.size))
            shape = self._arrays[name][place].shape
            count = int(np.prod(shape, dtype=np.int64))
            self._arrays[name][...] = column.fill
            self._arrays[name][place] = np.frombuffer(body, dtype=column.dtype, count=count, offset=offset).reshape(shape)
            offset += count * column.dtype.itemsize


def _along(column: Column, rows: Rows) -> tuple[Any, ...]:
    return (*(slice(None) for _ in column.lead), rows)


class Block(dict[str, NDArray[Any]]):
    """Some rows of an arena as working arrays by name: views for a slice, copies (written back by `commit`) for an index.

    A dict, because a small fleet looks up seventy arrays a tick.
    """

    def __init__(self, arena: Arena, rows: Rows) -> None:
        super().__init__()
        self.rows = rows
        self._arena = arena

    def __missing__(self, name: str) -> NDArray[Any]:
        array, rows = self._arena[name], self.rows
        held = self[name] = array[..., rows] if isinstance(rows, slice) else array.take(rows, axis=-1)
        return held

    def flat(self, name: str) -> tuple[NDArray[Any], int, int]:
        """(the array in one dimension, its length along the rows, where these rows begin), for look-ups by `take`."""
        if isinstance(self.rows, slice):
            whole = self._arena[name]
            return whole.reshape(-1), whole.shape[-1], self.rows.start
        held = self[name]
        return held.reshape(-1), held.shape[-1], 0

    def commit(self) -> None:
        """Write changed copies back."""
        rows = self.rows
        if isinstance(rows, slice):
            return
        first, span = int(rows[0]), int(rows[-1] - rows[0]) + 1
        if span > DENSE * len(rows):
            for name, held in self.items():
                self._arena[name][..., rows] = held
            return
        here = np.zeros(span, dtype=np.bool_)
        here[rows - first] = True
        source = np.cumsum(here) - 1
        for name, held in self.items():
            np.copyto(self._arena[name][..., first : first + span], held.take(source, axis=-1), where=here)
