"""Did many agents move together? Then it is one incident with one cause, and nobody is to blame for it.

Agents whose evidence on one stream and direction is strong and began in the same two minutes are counted, over the fleet and over each
cohort (type, service, provider, model, version). K of n agents with evidence ``nats_i`` are a shared cause when K is
large enough and ``sum nats_i - ln C(n, K) - K ln WINDOW`` reaches the threshold: a product of e-values of independent agents,
paid for every choice of agents and of onsets.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import drift
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.eprocess import ROWS
from immune.core.sentinel.facts import FACTS

TOGETHER_US = 120_000_000
ALIVE_US = 120_000_000
AFTERMATH_US = 180_000_000
WINDOW = 60.0
MEMBERS_AT_LEAST = 3
VOTES_FROM = 30
"""An agent votes from this many samples on."""
FROM_OUTSIDE = ("latency_ms", "latency_per_output_token", "retries", "errors")
"""Streams that something outside the agents moves: few agents together are enough to look there."""
FIELDS = ("type", "service", "provider", "model", "version")

Index = NDArray[np.intp]


@dataclass(slots=True, kw_only=True)
class Cause:
    """A shared cause in force. symptoms: (sign, stream) pairs, sign 0 up, 1 down."""

    key: str
    field: str
    code: int
    onset_us: int
    seen_us: int
    nats: float
    members: int
    present: bool = True
    agents: set[int] = dataclasses.field(default_factory=set)
    symptoms: list[tuple[int, int]] = dataclasses.field(default_factory=list)


class SharedCause:
    """Counts who moves together, and remembers the causes in force."""

    def __init__(self, streams: tuple[str, ...], threshold_nats: float) -> None:
        self.causes: dict[str, Cause] = {}
        self._threshold = threshold_nats
        self.outside = np.array([name in FROM_OUTSIDE for name in streams])
        self._fixed: dict[str, NDArray[np.int32]] = {}

    def enroll(self, types: NDArray[np.int32], services: NDArray[np.int32]) -> None:
        """Type and service of every agent."""
        self._fixed = {"type": types, "service": services}

    def codes(self, arena: Arena, field_name: str) -> NDArray[np.int32]:
        """Which value of this field each agent has, (agents,)."""
        fixed = self._fixed.get(field_name)
        return arena["fact"][FACTS.index(field_name), : arena.size] if fixed is None else fixed

    def advance(self, arena: Arena, now_us: int) -> None:
        """Look for new shared causes and follow those in force."""
        hot_agents = np.flatnonzero(arena["hot_any"][: arena.size])
        if len(hot_agents) >= 3:
            self._search(arena, hot_agents[arena["samples"][hot_agents] >= VOTES_FROM], now_us)
        if self.causes:
            self._follow(arena, now_us)

    def _search(self, arena: Arena, hot_agents: Index, now_us: int) -> None:
        hot = arena["hot"][:, :, hot_agents]
        recent = arena["onset"][:, hot_agents] >= now_us - TOGETHER_US
        together = hot & recent
        counts = together.sum(axis=2)
        if counts.max(initial=0) < 3:
            return
        alive = self.voters(arena, now_us)
        for sign, stream in sorted(zip(*np.nonzero(counts >= 3), strict=True), key=lambda pair: -int(counts[pair])):
            moved = hot_agents[together[sign, stream]]
            moved = moved[alive[moved]]
            if self._known(int(sign), int(stream), moved):
                continue
            nats = stream_nats(arena, int(sign), int(stream), moved)
            self._judge(arena, alive, int(sign), int(stream), moved, nats, now_us)

    def voters(self, arena: Arena, now_us: int) -> NDArray[np.bool_]:
        """Agents that count: known long enough and heard lately, (agents,)."""
        size = arena.size
        enough: NDArray[np.bool_] = (arena["samples"][:size] >= VOTES_FROM) & (arena["last_at"][:size] >= now_us - ALIVE_US)
        return enough

    def _known(self, sign: int, stream: int, moved: Index) -> bool:
        explained: set[int] = set()
        for cause in self.causes.values():
            if cause.present and (sign, stream) in cause.symptoms:
                explained |= cause.agents
        return len(set(moved.tolist()) - explained) < 3

    def _judge(self, arena: Arena, alive: NDArray[np.bool_], sign: int, stream: int, moved: Index, nats: NDArray[np.float64], now_us: int) -> None:
        best: tuple[float, str, int, Index, int] | None = None
        fleet_counts = False
        for field_name, code, members, inside in self.cohorts(arena, alive, moved):
            chosen = moved[inside]
            if len(chosen) < self._needed(members, field_name, bool(self.outside[stream])):
                continue
            score = float(nats[inside].sum()) - _ln_choose(members, len(chosen)) - len(chosen) * math.log(WINDOW)
            if score < self._threshold:
                continue
            if not field_name:
                fleet_counts = True
                best = (score, "", -1, chosen, members)
                continue
            covers = len(chosen) >= 0.8 * len(moved) and len(chosen) >= 0.5 * members
            if covers if fleet_counts else best is None or score > best[0]:
                fleet_counts = False
                best = (score, field_name, code, chosen, members)
        if best is not None:
            self._open(arena, best, sign, stream, now_us)

    def _needed(self, members: int, field_name: str, outside: bool) -> int:
        if outside and members < 20:
            return 3
        if field_name or members < 20:
            return max(3, math.ceil(0.25 * members))
        return max(5, math.ceil((0.04 if outside else 0.08) * members))

    def cohorts(self, arena: Arena, alive: NDArray[np.bool_], moved: Index) -> Iterator[tuple[str, int, int, NDArray[np.bool_]]]:
        """The fleet, then every cohort with moved members: (field, code, members, which of `moved` belong to it)."""
        fleet = int(alive.sum())
        if fleet >= MEMBERS_AT_LEAST:
            yield "", -1, fleet, np.ones(len(moved), dtype=np.bool_)
        for field_name in FIELDS:
            codes = self.codes(arena, field_name)
            for code in np.unique(codes[moved]):
                members = int((alive & (codes == code)).sum())
                if code >= 0 and MEMBERS_AT_LEAST <= members < fleet:
                    yield field_name, int(code), members, codes[moved] == code

    def _open(self, arena: Arena, best: tuple[float, str, int, Index, int], sign: int, stream: int, now_us: int) -> None:
        score, field_name, code, chosen, members = best
        agents = set(chosen.tolist())
        for cause in self.causes.values():
            if cause.present and len(agents & cause.agents) >= 0.5 * min(len(agents), len(cause.agents)):
                cause.symptoms.append((sign, stream))
                cause.agents |= agents
                return
        onset = int(np.median(arena["onset"][stream, chosen]))
        key = f"{field_name or 'fleet'}:{code}:{now_us}"
        self.causes[key] = Cause(
            key=key,
            field=field_name,
            code=code,
            onset_us=onset,
            seen_us=now_us,
            nats=score,
            members=members,
            agents=agents,
            symptoms=[(sign, stream)],
        )

    def _follow(self, arena: Arena, now_us: int) -> None:
        hot = arena["hot"]
        for key, cause in list(self.causes.items()):
            inside = np.ones(arena.size, dtype=np.bool_) if not cause.field else self.codes(arena, cause.field) == cause.code
            fresh = inside & arena["present"][: arena.size]
            moving: set[int] = set()
            for sign, stream in cause.symptoms:
                began = arena["onset"][stream, : arena.size] >= cause.onset_us - TOGETHER_US
                moving |= set(np.flatnonzero(hot[sign, stream, : arena.size] & began & fresh).tolist())
            if cause.present:
                cause.agents |= moving
                self._widen(arena, cause)
            if len(moving) >= max(2, 0.15 * len(cause.agents)):
                cause.seen_us, cause.present = now_us, True
                nats = sum(float(stream_nats(arena, *cause.symptoms[0], np.array([agent]))[0]) for agent in sorted(moving)[:50])
                cause.nats = max(cause.nats, min(nats, 1e4))
            else:
                cause.present = False
            if now_us - cause.seen_us > AFTERMATH_US:
                drift.start_anew(arena, np.array(sorted(cause.agents), dtype=np.intp))
                del self.causes[key]

    def _widen(self, arena: Arena, cause: Cause) -> None:
        agents = np.array(sorted(cause.agents), dtype=np.intp)
        share = arena["hot"][:, :, agents].mean(axis=2)
        for sign, stream in zip(*np.nonzero(share >= 0.3), strict=True):
            if (int(sign), int(stream)) not in cause.symptoms:
                cause.symptoms.append((int(sign), int(stream)))

    def pack(self) -> bytes:
        """Causes in force as bytes."""
        rows = [{**asdict(cause), "agents": sorted(cause.agents)} for cause in self.causes.values()]
        return json.dumps(rows, separators=(",", ":")).encode()

    def unpack(self, content: bytes) -> None:
        """Take over what `pack` wrote."""
        self.causes = {}
        for row in json.loads(content):
            row["agents"] = set(row["agents"])
            row["symptoms"] = [(sign, stream) for sign, stream in row["symptoms"]]
            self.causes[row["key"]] = Cause(**row)


def stream_nats(arena: Arena, sign: int, stream: int, agents: Index) -> NDArray[np.float64]:
    """Ln of the mean e-detector of one stream and direction of these agents."""
    mean = arena["sr"][sign, :, stream, agents].sum(axis=1, dtype=np.float64) / ROWS
    nats: NDArray[np.float64] = np.log(np.maximum(mean, 1e-3))
    return nats


def _ln_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
