"""Does a cohort move as a whole, though none of its members stands out? One process per cohort, stream and direction.

Every `STEP` rounds the short memories of surprise (`g_recent`) of a cohort's members are summed, ``T = sum g / (sd sqrt n)``, each clipped
so that no single agent carries the sum. T has a baseline of its own, a slow level (the day's tide, which moves everybody) and an AR(1)
memory; its standardised innovation z drives ``SR <- (SR + 1) exp(lambda (±z - delta) - lambda^2 / 2)``. Over all K processes the rule
of e-BH says which cohorts moved: with the detectors in falling order, the first k whose k-th is at least ``c K / k``, c the bar of
one process alone (Wang, Ramdas, 2022; there for e-values, here for e-detectors, whose ARL takes the place of the level).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena

STEP = 8
MEMBERS_AT_LEAST = 3
VOTES_FROM = 30
"""An agent votes from this many samples on."""
COHORTS_AT_MOST = 256
CLIP = 1.5
"""Of a member's short memory, whose sd is `MEMORY_SD` when healthy: a single sick agent must not look like its cohort."""
MEMORY_SD = math.sqrt(0.1 / 1.9)
LAMBDAS = np.array((0.5, 1.0, 2.0), dtype=np.float32)[:, None, None]
DELTA = 0.5
Z_MAX = 6.0
KNOWN_FROM = 8
"""Steps before a process is judged."""
LEVEL_SPAN = 40.0
SPREAD_SPAN = 150.0
SUSPECT_PACE = 0.2
CALM = math.exp(3.0)
CAP = math.exp(40.0)
FIELDS = ("type", "service", "provider", "model", "version", "prompt_hash")

Key = tuple[str, int]
Moved = tuple[Key, int, int, float]
"""(cohort, sign, stream, nats)."""
Floats = NDArray[np.float32]
FLEET: Key = ("", -1)


class Cohorts:
    """The cohorts of a fleet, who belongs to them, and how each moves as a whole. Rows of `arena` are cohorts."""

    def __init__(self, streams: int, threshold_nats: float) -> None:
        self.arena = Arena()
        for name in ("level", "before", "lagged", "steps"):
            self.arena.declare(name, np.float32, trail=(streams,))
        for name in ("spread2", "lagged2"):
            self.arena.declare(name, np.float32, fill=1.0, trail=(streams,))
        self.arena.declare("recent", np.float32, trail=(streams,))
        self.arena.declare("sr", np.float32, lead=(2, len(LAMBDAS)), trail=(streams,))
        self.keys: list[Key] = []
        self._streams = streams
        self._threshold = threshold_nats - math.log(STEP)
        self._rounds = 0
        self._seen: tuple[bytes, bytes] = (b"", b"")
        self._votes: Floats = np.zeros((0, 0), dtype=np.float32)
        self._rows: NDArray[np.intp] = np.zeros(0, dtype=np.intp)

    def advance(self, arena: Arena, codes: Callable[[str], NDArray[np.int32]]) -> list[Moved]:
        """Count one round; every `STEP` of them, the cohorts that moved as a whole, strongest first."""
        self._rounds += 1
        if self._rounds % STEP:
            return []
        size = arena.size
        voters = arena["samples"][:size] >= VOTES_FROM
        seen = (voters.tobytes(), arena["fact"][:, :size].tobytes())
        if seen != self._seen:
            self._rebuild(voters, codes)
            self._seen = seen
        if not len(self._rows):
            return []
        lately = np.clip(arena["g_recent"][:, :size], np.float32(-CLIP), np.float32(CLIP))
        total = (lately @ self._votes).T
        return self._reject(self._step(total))

    def _rebuild(self, voters: NDArray[np.bool_], codes: Callable[[str], NDArray[np.int32]]) -> None:
        """Membership as a matrix (agents, cohorts), each column divided by its members' sd: one product gives all sums."""
        fleet = int(voters.sum())
        found: list[tuple[Key, NDArray[np.bool_]]] = []
        if fleet >= MEMBERS_AT_LEAST:
            found.append((FLEET, voters))
        for name in FIELDS if found else ():
            of_field = codes(name)
            values, members = np.unique(of_field[voters], return_counts=True)
            some = (members >= MEMBERS_AT_LEAST) & (members < fleet) & (values >= 0)
            found += [((name, code), voters & (of_field == code)) for code in values[some].tolist()]
        found = found[:COHORTS_AT_MOST]
        rows = [self._row(key) for key, _ in found]
        votes = np.zeros((len(voters), len(found)), dtype=np.float32)
        for column, (_, members_of) in enumerate(found):
            votes[members_of, column] = 1 / (MEMORY_SD * math.sqrt(int(members_of.sum())))
        self._votes, self._rows = votes, np.array(rows, dtype=np.intp)

    def _row(self, key: Key) -> int:
        if key in self.keys:
            return self.keys.index(key)
        if len(self.keys) >= 2 * COHORTS_AT_MOST:
            self.keys.clear()  # values that came and went (versions of months): all is learned anew within minutes
            self.arena.clear(slice(0, self.arena.size))
        self.keys.append(key)
        self.arena.grow(len(self.keys))
        return len(self.keys) - 1

    def _step(self, total: Floats) -> NDArray[np.float64]:
        """Take in one sum of each (cohort, stream); ln of the mean detector, (2, cohorts, streams)."""
        rows, arena = self._rows, self.arena
        level, before, spread2 = arena["level"][rows], arena["before"][rows], arena["spread2"][rows]
        steps, sr = arena["steps"][rows], arena["sr"][:, :, rows]
        phi = np.clip(arena["lagged"][rows] / np.maximum(arena["lagged2"][rows], np.float32(1e-6)), 0, np.float32(0.97))
        residual = total - level
        innovation = residual - phi * before
        width = np.sqrt(np.maximum(spread2, 1 - phi * phi))
        z = np.clip(innovation / width, np.float32(-Z_MAX), np.float32(Z_MAX))
        known = steps >= KNOWN_FROM
        growth = np.exp(LAMBDAS * (np.stack([z, -z])[:, None] - np.float32(DELTA)) - LAMBDAS * LAMBDAS / 2)
        sr = np.where(known, np.minimum((sr + 1) * growth, np.float32(CAP)), 0)
        calm = sr.mean(axis=1).max(axis=0) < CALM
        pace = np.where(calm, np.float32(1), np.float32(SUSPECT_PACE))
        bounded = np.clip(residual, -4 * width, 4 * width)
        level = level + bounded * pace / np.minimum(steps + 1, np.float32(LEVEL_SPAN))
        weight = calm / np.minimum(steps / 2 + 2, np.float32(SPREAD_SPAN))
        arena["sr"][:, :, rows] = sr
        arena["level"][rows] = level
        arena["spread2"][rows] = spread2 + weight * (np.clip(innovation, -4 * width, 4 * width) ** 2 - spread2)
        arena["lagged"][rows] += weight * (bounded * before - arena["lagged"][rows])
        arena["lagged2"][rows] += weight * (before * before - arena["lagged2"][rows])
        arena["before"][rows] = bounded
        arena["recent"][rows] += np.float32(0.3) * (residual - arena["recent"][rows])
        arena["steps"][rows] = steps + 1
        nats: NDArray[np.float64] = np.log(np.maximum(sr.mean(axis=1, dtype=np.float64), 1e-3))
        return nats

    def _reject(self, nats: NDArray[np.float64]) -> list[Moved]:
        """e-BH over all processes; strongest first, of equals the one that is furthest out now."""
        flat = np.sort(nats, axis=None)[::-1]
        rank = np.arange(1, len(flat) + 1)
        enough = np.flatnonzero(flat >= self._threshold + math.log(len(flat)) - np.log(rank))
        if not len(enough):
            return []
        bar = flat[enough[-1]]
        moved = []
        for sign, column, stream in zip(*np.nonzero(nats >= bar), strict=True):
            out = float(self.arena["recent"][self._rows[column], stream]) * (-1 if sign else 1)
            moved.append((out, (self.keys[self._rows[column]], int(sign), int(stream), float(nats[sign, column, stream]))))
        moved.sort(key=lambda item: (-item[0], item[1][0]))
        return [found for _, found in moved]

    def pack(self) -> bytes:
        """Every process as bytes."""
        head = json.dumps({"keys": self.keys, "rounds": self._rounds}, separators=(",", ":"))
        return head.encode() + b"\n" + self.arena.pack()

    def unpack(self, content: bytes) -> None:
        """Take over what `pack` wrote."""
        line, _, body = content.partition(b"\n")
        head = json.loads(line)
        self.keys = [(name, code) for name, code in head["keys"]]
        self._rounds = head["rounds"]
        self.arena.unpack(body)
        self._seen = (b"", b"")
