"""One shared cause: what is known of it, and what its agents show, as far as the arena alone can say.

What becomes of it among the others, and what it explains, is in `causes`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import standing
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.cohorts import CLIP, MEMORY_SD
from immune.core.sentinel.eprocess import ROWS
from immune.core.sentinel.one_hand import Symptom
from immune.core.sentinel.shown import medians

US = 1_000_000
NEVER_US = 1 << 62
TOGETHER_US = 120 * US
SOON_US, SPREADS_US = 20 * US, 180 * US
"""How long after the last of its agents another may begin: at least and at most."""
LISTED_PER = 5.0
"""A member is listed from `HOT_NATS` and ln(members x symptoms / `LISTED_PER`) nats on: the more there are, the more show a little by chance."""

Index = NDArray[np.intp]


@dataclass(slots=True, kw_only=True)
class Cause:
    """A shared cause. told: it is an incident of its own · norms: median and spread of the log ratio of its agents, by symptom.

    first_us, last_us  when its agents began, the first and the last of them
    until_us  of a change that people announced: they expect it until then; 0 for the rest
    settled_us  when baselines were last looked at that may take it over
    agents · shown  whoever moves with it, and those of them whose own evidence says so
    """

    key: str
    field: str
    code: int
    onset_us: int
    seen_us: int
    nats: float
    members: int
    present: bool = True
    told: bool = True
    until_us: int = 0
    settled_us: int = 0
    first_us: int = 0
    last_us: int = 0
    agents: set[int] = dataclasses.field(default_factory=set)
    shown: set[int] = dataclasses.field(default_factory=set)
    symptoms: list[Symptom] = dataclasses.field(default_factory=list)
    norms: dict[Symptom, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def latest_us(self) -> int:
        """Until when another agent may begin with the others: what spreads may take twice as long as it took so far."""
        return self.last_us + min(max(2 * (self.last_us - self.first_us), SOON_US), SPREADS_US)

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        norms = [[*symptom, *norm] for symptom, norm in self.norms.items()]
        return {**asdict(self), "agents": sorted(self.agents), "shown": sorted(self.shown), "norms": norms}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Cause:
        """What `row` gave, read again."""
        row["agents"], row["shown"] = set(row["agents"]), set(row["shown"])
        row["symptoms"] = [(sign, stream) for sign, stream in row["symptoms"]]
        row["norms"] = {(sign, stream): (middle, spread) for sign, stream, middle, spread in row["norms"]}
        return cls(**row)


def measure(arena: Arena, cause: Cause, moving: set[int]) -> None:
    """How far out its agents usually are, and how strong it is."""
    nats = stream_nats(arena, *cause.symptoms[0], np.array(sorted(moving)[:50], dtype=np.intp))
    cause.nats = max(cause.nats, min(float(nats.sum()), 1e4))
    agents = np.array(sorted(cause.agents), dtype=np.intp)
    signs, streams = places(cause.symptoms)
    hot = arena["hot"][signs, streams, agents]
    known = np.flatnonzero(np.count_nonzero(hot, axis=1) >= 3)
    count, deviation = arena["sums"][:2, streams[known], agents]
    mean, hot = deviation / np.maximum(count, 1), hot[known]
    middle = medians(mean, hot)
    spread = medians(np.abs(mean - middle[:, None]), hot)
    for place, at, wide in zip(known.tolist(), middle.tolist(), spread.tolist(), strict=True):
        cause.norms[cause.symptoms[place]] = (at, 1.4826 * wide)


def widen(arena: Arena, cause: Cause) -> None:
    """Streams on which a third of its agents show evidence, two at least (one sick member is no symptom), or all of them together do."""
    if not cause.agents:
        return
    agents = np.array(sorted(cause.agents), dtype=np.intp)
    shows = arena["hot"][:, :, agents].sum(axis=2)
    lately = np.clip(arena["g_recent"][:, agents], -CLIP, CLIP).mean(axis=1) * (math.sqrt(len(agents)) / MEMORY_SD)
    together = np.stack([lately, -lately]) >= 8.0
    for sign, stream in zip(*np.nonzero((shows >= max(2, 0.3 * len(agents))) | together), strict=True):
        if (int(sign), int(stream)) not in cause.symptoms:
            cause.symptoms.append((int(sign), int(stream)))


def showing(arena: Arena, cause: Cause, moving: set[int]) -> set[int]:
    """Those of these agents whose own evidence is more than what some of so many show by chance."""
    agents = np.array(sorted(moving - cause.shown), dtype=np.intp)
    bar = standing.HOT_NATS + math.log(max(1.0, cause.members * len(cause.symptoms) / LISTED_PER))
    strong = np.zeros(len(agents), dtype=np.bool_)
    for sign, stream in cause.symptoms:
        strong |= stream_nats(arena, sign, stream, agents) >= bar
    return set(agents[strong].tolist())


def late(arena: Arena, cause: Cause, shows: NDArray[np.bool_]) -> Index:
    """Those of these agents that began too long after the others to have been hit by the same thing; moves `last_us` on for the rest.

    What hit all it hits at once hits nobody a minute later. Who begins to show most of what the others show at once, and two symptoms at
    least, may come late.
    """
    agents = np.array([agent for agent in np.flatnonzero(shows).tolist() if agent not in cause.agents], dtype=np.intp)
    if not len(agents) or not cause.last_us:
        return agents[:0]
    signs, streams = places(cause.symptoms)
    hot = arena["hot"][signs, streams, agents] & (arena["onset"][streams, agents] >= cause.onset_us - TOGETHER_US)
    began = np.where(hot, arena["onset"][streams, agents], NEVER_US).min(axis=0)
    usual = arena["hot"][signs, streams, np.array(sorted(cause.agents), dtype=np.intp)].mean(axis=1) >= 0.5
    with_it = hot & (arena["onset"][streams, agents] <= began + SOON_US)
    alike = np.count_nonzero(with_it[usual], axis=0) >= max(2, 0.6 * np.count_nonzero(usual))
    for begin_us in np.sort(began).tolist():
        if begin_us <= cause.latest_us:
            cause.last_us = max(cause.last_us, begin_us)
    too_late: Index = agents[(began > cause.latest_us) & ~alike]
    return too_late


def stirred(arena: Arena, cause: Cause, fresh: NDArray[np.bool_]) -> set[int]:
    """Members of an announced change that began to show anything at all since."""
    some = np.flatnonzero(fresh & arena["hot_any"][: arena.size])
    began = arena["hot"][:, :, some] & (arena["onset"][:, some] >= cause.onset_us - TOGETHER_US)
    return set(some[began.any(axis=(0, 1))].tolist())


def means(arena: Arena, streams: Index, agents: Index) -> NDArray[np.float64]:
    """Mean deviation of streams (m, 1) of agents (n,) since their onsets, in logs, (m, n)."""
    count, deviation = arena["sums"][:2, streams, agents].astype(np.float64)
    mean: NDArray[np.float64] = deviation / np.maximum(count, 1.0)
    return mean


def doubts(arena: Arena, streams: Index, agents: Index) -> NDArray[np.float64]:
    """Two standard errors of the means of `means`; of counts by Poisson's law."""
    smooth = len(arena["own2"])
    count, deviation, expected = arena["sums"][:3, streams, agents].astype(np.float64)
    count = np.maximum(count, 1.0)
    variance = np.where(streams < smooth, arena["own2"][np.minimum(streams, smooth - 1), agents], np.maximum(deviation + expected, 1.0) / count)
    doubt: NDArray[np.float64] = 2 * np.sqrt(variance / count)
    return doubt


def places(symptoms: list[Symptom]) -> tuple[Index, Index]:
    """(signs, streams), each (m, 1)."""
    signs, streams = np.array(symptoms, dtype=np.intp).reshape(-1, 2).T[:, :, None]
    return signs, streams


def stream_nats(arena: Arena, sign: int, stream: int, agents: Index) -> NDArray[np.float64]:
    """Ln of the mean e-detector of one stream and direction of these agents."""
    mean = arena["sr"][sign, :, stream, agents].sum(axis=1, dtype=np.float64) / ROWS
    nats: NDArray[np.float64] = np.log(np.maximum(mean, 1e-3))
    return nats
