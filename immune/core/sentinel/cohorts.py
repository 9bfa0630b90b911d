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

from immune.core.sentinel.arena import Arena, Rows

STEP = 8
MEMBERS_AT_LEAST = 3
VOTES_FROM = 30
"""An agent votes from this many samples on."""
COHORTS_AT_MOST = 256
CLIP = 1.5
"""Of a member's short memory, whose sd is `MEMORY_SD` when healthy: a single sick agent must not look like its cohort."""
MEMORY_SD = math.sqrt(0.1 / 1.9)
LAMBDAS = (0.5, 1.0, 2.0)
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

_SIZES = np.array(LAMBDAS, dtype=np.float32)[:, None, None]
_SLOPES = np.stack([_SIZES, -_SIZES])
_FALL = _SIZES * np.float32(DELTA) + _SIZES * _SIZES * np.float32(0.5)

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
            self.arena.declare(name, np.float32, lead=(streams,))
        for name in ("spread2", "lagged2"):
            self.arena.declare(name, np.float32, fill=1.0, lead=(streams,))
        self.arena.declare("recent", np.float32, lead=(streams,))
        self.arena.declare("sr", np.float32, lead=(2, len(LAMBDAS), streams))
        self.keys: list[Key] = []
        self._streams = streams
        self._threshold = threshold_nats - math.log(STEP)
        self._bar = np.float32(math.exp(self._threshold))
        self._rounds = 0
        self._seen: tuple[bytes, bytes] = (b"", b"")
        self._votes: Floats = np.zeros((0, 0), dtype=np.float32)
        self._order: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self._rows: Rows = self._order

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
        if not len(self._order):
            return []
        lately = np.clip(arena["g_recent"][:, :size], np.float32(-CLIP), np.float32(CLIP))
        lately[:, arena["alone_at"][:size] >= 0] = 0  # one sick agent of three would carry the sum of its cohort
        return self._reject(self._step(lately @ self._votes))

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
        if len(self.keys) > COHORTS_AT_MOST:
            self.keys.clear()  # values that came and went (versions of months): all is learned anew within minutes
            self.arena.clear(slice(0, self.arena.size))
        rows = [self._row(key) for key, _ in found]
        votes = np.zeros((len(voters), len(found)), dtype=np.float32)
        for column, (_, members_of) in enumerate(found):
            votes[members_of, column] = 1 / (MEMORY_SD * math.sqrt(int(members_of.sum())))
        # the fleet's cohorts side by side are worked on in place
        order = np.argsort(np.array(rows, dtype=np.intp))
        self._order = np.array(rows, dtype=np.intp)[order]
        self._votes = np.ascontiguousarray(votes[:, order])
        whole = len(rows) > 0 and int(self._order[-1] - self._order[0]) + 1 == len(rows)
        self._rows = slice(int(self._order[0]), int(self._order[-1]) + 1) if whole else self._order

    def _row(self, key: Key) -> int:
        if key in self.keys:
            return self.keys.index(key)
        self.keys.append(key)
        self.arena.grow(len(self.keys))
        return len(self.keys) - 1

    def _step(self, total: Floats) -> Floats:
        """Take in one sum of each (stream, cohort); the mean detector, (2, streams, cohorts)."""
        state = self.arena.block(self._rows)
        level, before, spread2, steps = state["level"], state["before"], state["spread2"], state["steps"]
        lagged, lagged2, sr, recent = state["lagged"], state["lagged2"], state["sr"], state["recent"]
        phi = np.minimum(np.maximum(lagged / np.maximum(lagged2, np.float32(1e-6)), np.float32(0)), np.float32(0.97))
        residual = total - level
        innovation = residual - phi * before
        width = np.sqrt(np.maximum(spread2, 1 - phi * phi))
        z = np.minimum(np.maximum(innovation / width, np.float32(-Z_MAX)), np.float32(Z_MAX))
        np.add(sr, 1, out=sr)
        sr *= np.exp(_SLOPES * z[None, None] - _FALL)
        np.minimum(sr, np.float32(CAP), out=sr)
        sr *= steps >= KNOWN_FROM
        mean: Floats = np.add.reduce(sr, axis=1) * np.float32(1 / len(LAMBDAS))
        calm = np.maximum(mean[0], mean[1]) < CALM
        width *= 4
        bounded = np.minimum(np.maximum(residual, -width), width)
        level += bounded * np.where(calm, np.float32(1), np.float32(SUSPECT_PACE)) / np.minimum(steps + 1, np.float32(LEVEL_SPAN))
        weight = calm / np.minimum(steps * np.float32(0.5) + 2, np.float32(SPREAD_SPAN))
        surprising = np.minimum(np.maximum(innovation, -width), width)
        spread2 += weight * (surprising * surprising - spread2)
        lagged += weight * (bounded * before - lagged)
        lagged2 += weight * (before * before - lagged2)
        before[...] = bounded
        recent += np.float32(0.3) * (residual - recent)
        steps += 1
        state.commit()
        return mean

    def _reject(self, mean: Floats) -> list[Moved]:
        """e-BH over all processes; strongest first, of equals the one that is furthest out now."""
        if mean.max() < self._bar:
            return []
        nats = np.log(np.maximum(mean.astype(np.float64), 1e-3))
        flat = np.sort(nats, axis=None)[::-1]
        rank = np.arange(1, len(flat) + 1)
        enough = np.flatnonzero(flat >= self._threshold + math.log(len(flat)) - np.log(rank))
        if not len(enough):
            return []
        bar = flat[enough[-1]]
        moved = []
        for sign, stream, column in zip(*np.nonzero(nats >= bar), strict=True):
            row = int(self._order[column])
            out = float(self.arena["recent"][stream, row]) * (-1 if sign else 1)
            moved.append((out, (self.keys[row], int(sign), int(stream), float(nats[sign, stream, column]))))
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
