"""Everything the sentinel remembers, and whose it is: rows for agents, what is forgotten with them, and the snapshot of it all.

State that outlives a tick is kept here and nowhere else, so that a snapshot cannot miss any. Who has which row is said by `sessions.Seats`;
each agent's arrays are declared by the file that reads them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import (
    baseline,
    contexts,
    drift,
    episodes,
    eprocess,
    facts,
    hard,
    kin,
    looping,
    sessions,
    silence,
    standing,
    stuck,
    surprise,
    tail,
)
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.cells import Cells
from immune.core.sentinel.peers import Peers
from immune.core.sentinel.sessions import Seats, Turnover
from immune.core.sentinel.shared_cause import SharedCause
from immune.core.sentinel.streams import StreamTable
from immune.core.vitals import Roster, SampleBatch
from immune.errors import InputError

FORMAT = 4
"""Of snapshots: raised when what is in the arrays means something else than before."""
UNNAMED_TYPE = "agent"
"""The type of agents of which nobody said one: they need not be alike."""

Index = NDArray[np.intp]


class Memory:
    """What is known of agents (`arena`), of types (`peers`), of places (`cells`, `contexts`), of tasks (`episodes`) and of shared causes (`shared`).

    fleet         the gaps that all agents together leave, as if they were one
    types, named  code of each row's type, and whether somebody named that type, (rows,)
    rounds        how many rounds of samples were scored
    awake_us      nobody listened before: silence counts from here

    The parts are filled in place, never replaced: whoever holds one holds the right one.
    """

    def __init__(self, *, roster: Roster, table: StreamTable, seed: int, cap: np.float32, threshold_nats: float) -> None:
        self._roster, self.table = roster, table
        self.arena, self.fleet = _agents(table), Arena()
        silence.declare(self.fleet)
        self.fleet.grow(1)
        self.peers = Peers(len(table), table.continuous)
        self.cells = Cells(table.continuous)
        self.contexts = contexts.Contexts(table.continuous)
        self.episodes = episodes.Episodes(table.task_columns, seed, cap)
        self.shared = SharedCause(table.names, threshold_nats)
        self.seats, self.turnover = Seats(), Turnover()
        self.types = np.zeros(0, dtype=np.int32)
        self.named = np.zeros(0, dtype=np.bool_)
        self.rounds = 0
        self.awake_us = 0

    # -- who has a row -------------------------------------------------------------------------------------------------

    def enroll(self) -> bool:
        """Rows for who joined the roster since the last time; whether anything changed."""
        size = len(self._roster)
        if size == len(self.seats.of) and len(self.types):
            return False
        if size > len(self.seats.of):
            self.seats.enroll(size)
        self._reseat()
        return True

    def seated(self, batch: SampleBatch) -> SampleBatch:
        """The batch by rows instead of roster numbers; who comes back gets a row again."""
        if self.seats.plain:
            return batch
        rows = self.seats.of[batch.agent]
        if np.count_nonzero(rows < 0):
            self.seats.seat(np.unique(batch.agent[rows < 0]).tolist())
            self._reseat()
            rows = self.seats.of[batch.agent]
        return replace(batch, agent=rows)

    def _reseat(self) -> None:
        """Make room for who has a row now, and take in of what type and service each is."""
        rows, kinds = len(self.seats.who), len(self._roster.types)
        who = np.maximum(self.seats.who, 0)
        self.types = self._roster.type_codes()[who]
        unnamed = np.array([self._roster.types.word(code) == UNNAMED_TYPE for code in range(kinds)], dtype=np.bool_)
        self.named = ~unnamed[self.types]
        for arena, room in ((self.arena, rows), (self.turnover.types, kinds)):
            arena.grow(room)
        self.peers.grow(kinds)
        self.peers.forget_gathered()
        self.cells.grow(rows, kinds)
        self.contexts.grow(kinds)
        self.episodes.grow(rows, kinds)
        self.shared.enroll(self.types, self._roster.service_codes()[who])

    # -- what is forgotten ---------------------------------------------------------------------------------------------

    def rebase(self, rows: Index) -> None:
        """Baselines and evidence of these rows from zero; identity and facts stay."""
        standing.reset_evidence(self.arena, rows)
        standing.forget_normal(self.arena, rows)
        self.arena["kin_over"][rows] = True
        self._forget_places(rows)

    def give_back(self, now_us: int) -> None:
        """Rows of ended sessions and of the retired are free for whoever comes next."""
        gone = self.turnover.gone(self.arena, self.types, self.seats, now_us)
        if not len(gone):
            return
        self._forget_places(gone)
        self.arena.clear(gone)
        self.shared.forget(set(gone.tolist()))
        self.seats.leave(gone)

    def _forget_places(self, rows: Index) -> None:
        self.cells.forget(rows)
        self.contexts.forget(self.arena, rows)
        self.episodes.forget(rows)

    # -- the snapshot --------------------------------------------------------------------------------------------------

    @property
    def layout(self) -> str:
        """What a snapshot must have been made for: a short hash of the arrays' names, types and shapes, and of the format's number."""
        arenas = (self.arena, self.peers.arena, self.cells.curves, self.cells.agents, self.cells.types, self.episodes.ledger, self.contexts.cells)
        text = "|".join([str(FORMAT), *self.table.names, *(arena.layout for arena in arenas)])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def pack(self) -> bytes:
        """Everything, bit for bit: a JSON line with counters and lengths, then the parts one after the other."""
        parts = [
            self.arena.pack(),
            self.peers.arena.pack(),
            *self.cells.pack(),
            self.shared.pack(),
            *self.episodes.pack(),
            *self.contexts.pack(),
            self.turnover.types.pack(),
            self.fleet.pack(),
        ]
        head = {
            "layout": self.layout,
            "rounds": self.rounds,
            "cells": self.cells.counters,
            "contexts": self.contexts.counters,
            "seats": self.seats.pack(),
            "awake_us": self.awake_us,
            "flushes": self.episodes.flushes,
            "lengths": [len(part) for part in parts],
        }
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + b"".join(parts)

    def unpack(self, content: bytes) -> None:
        """Take over what `pack` wrote; `enroll` is due afterwards. Raises InputError for another version's."""
        head, parts = self._parts(content)
        self.arena.unpack(parts[0])
        self.peers.arena.unpack(parts[1])
        self.peers.forget_gathered()
        self.cells.unpack(parts[2:5])
        self.cells.counters = head["cells"]
        self.shared.unpack(parts[5])
        self.episodes.unpack(parts[6:9])
        self.contexts.unpack(parts[9:11])
        self.contexts.counters = head["contexts"]
        self.turnover.types.unpack(parts[11])
        self.fleet.unpack(parts[12])
        self.seats.unpack(head["seats"])
        self.rounds, self.episodes.flushes = head["rounds"], head["flushes"]
        self.awake_us = head["awake_us"]
        self.types = np.zeros(0, dtype=np.int32)

    def _parts(self, content: bytes) -> tuple[dict[str, Any], list[bytes]]:
        line, _, body = content.partition(b"\n")
        try:
            head = json.loads(line)
        except ValueError:
            head = {}
        found = head.get("layout", "") if isinstance(head, dict) else ""
        if found != self.layout:
            raise InputError(
                "these baselines were stored by another version or for other vitals",
                field="snapshot",
                value=found,
                way_out=f"let them be learned anew; this version reads layout {self.layout}",
            )
        parts, offset = [], 0
        for length in head["lengths"]:
            parts.append(body[offset : offset + length])
            offset += length
        return head, parts


def _agents(table: StreamTable) -> Arena:
    """All arrays over agents. Their order is part of the layout."""
    arena, streams, smooth = Arena(), len(table), table.continuous
    baseline.declare(arena, streams, smooth)
    surprise.declare(arena, streams)
    eprocess.declare(arena, streams)
    drift.declare(arena, smooth)
    silence.declare(arena)
    stuck.declare(arena, table.first_ratio)
    looping.declare(arena)
    facts.declare(arena)
    hard.declare(arena)
    episodes.declare(arena)
    tail.declare(arena, smooth)
    standing.declare(arena, streams, smooth)
    kin.declare(arena, streams)
    contexts.declare(arena)
    sessions.declare(arena)
    return arena
