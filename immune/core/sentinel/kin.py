"""An agent that is unlike its type from its first sample on: what is sick from birth learns its illness as its normal, but its type knows better.

While it is young (`UNTIL` samples) the plain mean of each vital is kept, without forgetting. It is compared with where the settled, healthy
members of the type stand: with k of them, r = `TRIM` of k (at least one) left out at either end, location m and scale s of the rest,

    t = (mean - m) / sqrt(s'^2 (1 + 1 / (k - 2 r)) + v),   s'^2 = (d s^2 + q ALIKE^2) / (d + q),   d = KEPT_DF (k - 2 r - 1)

with a prior of q = `PRIOR_DF` degrees of freedom that gives way where the
members are wider apart than that, ``q min(1, ALIKE^2 / s^2)^2``. Of `MEMBERS` or fewer, without
the agent itself, m is the median, and the spread within the fleet's other types counts as at most as many degrees of freedom more.
v is what the agent's own mean is uncertain by (its noise, its memory, its block variance over n samples). Agents of a type may differ: s' is the
spread *between* agents, never taken to be much finer than "twice as much is two spreads" by more than the members' number says. t is held against
Student's law with d + q degrees of freedom; p, times the number of vitals looked at, must fall below `SHARE` of a day's budget,
once in an agent's life. This test has no e-process: the deviation of one agent is one draw, however long one looks.

A type that nobody named, that has fewer than `FEW` other settled members, or in which two others are as far out, says nothing: two that are alike
are a kind. What is found is not learned: the agent's level is put to its type's, and from there the evidence has to live on by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.eprocess import LAMBDAS
from immune.core.sentinel.eprocess import ROWS as PROCESSES
from immune.core.sentinel.peers import Peers
from immune.core.sentinel.streams import COST_PER_TOKEN, StreamTable
from immune.core.sentinel.surprise import FORGET_FROM
from immune.core.special import ndtri, stdtr

UNTIL = 600
"""Samples in which an agent is young enough to be held against its type."""
SETTLED = 200
"""Samples from which a healthy agent is one of those that it is held against."""
SETTLED_SESSION = 40
"""The same where agents live for one session only."""
COUNTS_FROM = 60
"""Rare counts say something from this many samples on."""
MEMBERS = 5
"""More than so many members are trimmed, fewer have their median."""
FEW = 3
"""Fewer members say nothing."""
MEDIAN_COST = 1.6
"""The variance of a median over that of a mean."""
TRIM = 0.1
ALIKE = 0.35
"""Prior spread between agents of a type, in logs: ln 2 is two of them."""
PRIOR_DF = 12.0
KEPT_DF = 0.7
"""Degrees of freedom that a variance without its ends keeps of each that it seems to have."""
SHARE = 0.1
"""Joining is charged as a tenth of a day's budget for false alarms."""
AS_FAR = 0.5
"""Another member is as far out from this share of the deviation on."""
SYMPTOM = 3.0
"""Vitals beyond this many spreads are part of what is found."""
REACH = np.float32(3.0)
"""One sample moves the mean by at most this over n, in logs."""
COUNT_OFFSET = 0.1
YOUNG_AGAIN = 60.0
HARM_UP = ("latency_ms", "input_tokens", "output_tokens", "cost_usd", "tool_calls", "retries", "errors", "context_tokens", COST_PER_TOKEN)
HARM_DOWN = ("confidence",)

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlike:
    """One agent unlike its type. rows: streams that show it · sign 0 up, 1 down, t, apart (on the stream's own scale), usual: each (rows,)."""

    agent: int
    rows: Index
    sign: Index
    t: NDArray[np.float64]
    apart: NDArray[np.float64]
    usual: NDArray[np.float64]


def declare(arena: Arena, streams: int) -> None:
    """The arrays of this file, over agents."""
    arena.declare("kin_mean", np.float32, lead=(streams,))
    arena.declare("kin_count", np.float32, lead=(streams,))
    arena.declare("kin_over", np.bool_)


def advance(block: Block, x: Floats, told: Mask, smooth: int) -> None:
    """Take in one sample of each stream, less what the place in the task adds; x, told (streams, n), continuous streams first."""
    young = ~block["kin_over"]
    if not np.count_nonzero(young):
        return
    mean, count = block["kin_mean"], block["kin_count"]
    apart = x - mean
    reach = np.full((len(x), 1), REACH, dtype=np.float32)
    wide = 4 * mean[smooth:] + 4
    bounded = np.minimum(np.maximum(apart, -reach), reach)
    bounded[smooth:] = np.minimum(apart[smooth:], wide)
    taken = told & young
    count += taken
    mean += np.where(count <= 1, apart, bounded) * taken / np.maximum(count, np.float32(1))
    block["kin_over"] |= block["samples"] >= UNTIL


NOTHING_ELSEWHERE = (np.zeros(1), np.zeros(1))
"""What other types say of the spread between agents: a type with members enough speaks for itself."""


class Kin:
    """Holds the young against the settled of their type."""

    def __init__(self, table: StreamTable) -> None:
        looked = [(row, sign) for sign, names in enumerate((HARM_UP, HARM_DOWN)) for row, name in enumerate(table.names) if name in names]
        looked.sort()
        self._rows = np.array([row for row, _ in looked], dtype=np.intp)
        self._sign = np.array([sign for _, sign in looked], dtype=np.intp)
        self._counts = self._rows >= table.continuous
        self._smooth = table.continuous

    def unlike(
        self,
        arena: Arena,
        types: NDArray[np.int32],
        named: Mask,
        peers: Peers,
        settled: NDArray[np.int64],
        *,
        least: int,
        hold_nats: float,
        budget: float,
        shared: Mask,
    ) -> list[Unlike]:
        """Young agents that are unlike their type now.

        named (agents,): the type was given by somebody · settled (agents,): samples from which one speaks for its type · least: samples before
        anything is said · budget: false alarms per agent-day · shared (2, streams): what a shared cause accounts for at the moment.
        """
        size = arena.size
        samples, free = arena["samples"][:size], ~arena["held"][:size] & ~arena["retired"][:size]
        young = np.flatnonzero(~arena["kin_over"][:size] & (samples >= least) & free & named)
        if not len(young):
            return []
        sound = free & (samples >= settled) & (arena["nats"][:size] < hold_nats) & (arena["alone_at"][:size] < 0)
        charged = SHARE * budget / len(self._rows)
        pools = {kind: self._stand(arena, np.flatnonzero((types == kind) & sound)) for kind in np.unique(types[sound]).tolist()}
        found: list[Unlike] = []
        for kind in np.unique(types[young]).tolist():
            members, mine = np.flatnonzero((types == kind) & sound), young[types[young] == kind]
            if len(members) < FEW:
                continue
            if len(members) > MEMBERS:
                found += self._of_type(arena, kind, mine, members, peers, NOTHING_ELSEWHERE, charged, shared)
                continue
            elsewhere = _pooled([stand for other, stand in pools.items() if other != kind])
            for agent in mine:
                others = members[members != agent]
                if len(others) >= FEW:
                    found += self._of_type(arena, kind, np.array([agent]), others, peers, elsewhere, charged, shared)
        return found

    def _stand(self, arena: Arena, members: Index) -> NDArray[np.float64]:
        """Where these agents stand on the streams looked at, NaN where that is not settled: (streams looked at, members)."""
        place = np.ix_(self._rows, members)
        known = arena["count"][place] >= np.minimum(arena["samples"][members] / 2, SETTLED / 2)
        return np.where(known, self._scaled(arena["level"][place].astype(np.float64)), np.nan)

    def _of_type(
        self, arena: Arena, kind: int, young: Index, members: Index, peers: Peers, elsewhere: tuple[Row, Row], level: float, shared: Mask
    ) -> list[Unlike]:
        rows, stand = self._rows, self._stand(arena, members)
        middle, spread2, core, known = _trimmed(stand) if len(members) > MEMBERS else _few(stand)
        between, df = _between(spread2, KEPT_DF * np.maximum(core - 1, 0), *elsewhere)
        n = arena["kin_count"][np.ix_(rows, young)].astype(np.float64)
        apart = self._scaled(arena["kin_mean"][np.ix_(rows, young)].astype(np.float64)) - middle[:, None]
        noise = self._noise(arena, kind, young, middle, peers) / np.maximum(n, 1)
        t = np.where(self._sign == 1, -1, 1)[:, None] * apart / np.sqrt((between * (1 + 1 / np.maximum(known, 1)))[:, None] + noise)
        moves = np.count_nonzero(arena["hot"][self._sign, rows][:, members], axis=1) > max(1.0, TRIM * len(members))
        silent = moves | shared[self._sign, rows] | (core < FEW)
        t = np.where((n >= np.where(self._counts, COUNTS_FROM, 1)[:, None]) & ~silent[:, None], t, -np.inf)
        far = stdtr(df[:, None], -t) <= level
        verdicts = []
        for column in np.flatnonzero(far.any(axis=0)).tolist():
            others = np.where(members == young[column], np.nan, stand) - middle[:, None]
            alike = (np.abs(others) >= AS_FAR * np.abs(apart[:, column, None])) & (np.sign(others) == np.sign(apart[:, column, None]))
            alone = alike.sum(axis=1) < 2
            if (far[:, column] & alone).any():
                verdicts.append(self._verdict(arena, int(young[column]), np.flatnonzero((t[:, column] > SYMPTOM) & alone), t[:, column], middle))
        return verdicts

    def _verdict(self, arena: Arena, agent: int, shows: Index, t: Row, middle: Row) -> Unlike:
        usual, rows = self._back(middle[shows], shows), self._rows[shows]
        apart = arena["kin_mean"][rows, agent] - usual
        return Unlike(agent=agent, rows=rows, sign=self._sign[shows], t=t[shows], apart=apart, usual=usual)

    def _scaled(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels of the streams looked at, counts in logs as well."""
        level[self._counts] = np.log(np.maximum(level[self._counts], 0) + COUNT_OFFSET)
        return level

    def _back(self, scaled: NDArray[np.float64], which: Index) -> NDArray[np.float64]:
        """What `_scaled` did to the streams `which`, undone."""
        return np.where(self._counts[which], np.maximum(np.exp(scaled) - COUNT_OFFSET, 0), scaled)

    def _noise(self, arena: Arena, kind: int, young: Index, middle: NDArray[np.float64], peers: Peers) -> NDArray[np.float64]:
        """Variance of one sample of each young agent, as far as it counts for a mean: (streams looked at, n)."""
        rows, noise = self._rows, np.zeros((len(self._rows), len(young)))
        smooth = ~self._counts
        phi = np.clip(peers.arena["phi"][kind][rows[smooth]].astype(np.float64), 0, 0.99)[:, None]
        noise[smooth] = (
            np.maximum(arena["own2"][np.ix_(rows[smooth], young)], peers.arena["spread2"][kind][rows[smooth], None]) * (1 + phi) / (1 - phi)
        )
        rate = np.maximum(np.exp(middle[self._counts]) - COUNT_OFFSET, 0.02)[:, None]
        noise[self._counts] = rate / (rate + COUNT_OFFSET) ** 2
        wide: NDArray[np.float64] = np.maximum(peers.arena["calibration"][kind][rows, None].astype(np.float64), 1)
        return noise * wide


def convict(arena: Arena, unlike: Unlike, peers: Peers, kind: int, threshold_nats: float, counted: Mask) -> None:
    """Put this agent's levels to its type's and its statistic to the threshold, since its first sample; what comes now has to bear it out.

    counted (2, streams): what counts towards an alarm.
    """
    agent, active = unlike.agent, int((arena["count"][:, unlike.agent] >= 1).sum())
    start = math.exp(min(threshold_nats + 1.0, 80.0)) * (2 * active + 1) * PROCESSES / len(LAMBDAS)
    smooth = arena["own2"].shape[0]
    for place, row in enumerate(unlike.rows.tolist()):
        sign, apart, usual = int(unlike.sign[place]), float(unlike.apart[place]), float(unlike.usual[place])
        n = max(float(arena["kin_count"][row, agent]), 1.0)
        arena["level"][row, agent] = usual
        arena["count"][row, agent] = YOUNG_AGAIN
        arena["ranks"][row, :, agent], arena["ranks_limit"][row, agent] = 0, FORGET_FROM
        if row < smooth:
            arena["own2"][row, agent] = arena["spread2"][row, agent] = peers.arena["spread2"][kind, row]
            arena["before"][row, agent] = arena["lagged"][row, agent] = arena["lagged2"][row, agent] = 0
            arena["reference"][row, agent] = np.nan
            arena["anchored"][row, agent] = False
        toward = -1 if sign else 1
        arena["sums"][:, row, agent] = (n, n * apart, n * usual, n * toward * 2)
        arena["g_recent"][row, agent], arena["r_recent"][row, agent] = toward * 2, apart
        arena["onset"][row, agent], arena["falling"][row, agent] = arena["born_at"][agent], sign == 1
        arena["hot"][sign, row, agent] = True
        if counted[sign, row]:
            arena["sr"][sign, : len(LAMBDAS), row, agent] = start
    arena["hot_any"][agent] = arena["present"][agent] = arena["kin_over"][agent] = True
    arena["nats"][agent] = threshold_nats + 1


def _between(spread2: Row, df: Row, elsewhere_df: Row, elsewhere2: Row) -> tuple[Row, Row]:
    """(variance between agents of this type, its degrees of freedom): its own, and as far as that is not wider what is usual."""
    usual_df = PRIOR_DF + np.minimum(elsewhere_df, PRIOR_DF)
    usual2 = (PRIOR_DF * ALIKE**2 + np.minimum(elsewhere_df, PRIOR_DF) * elsewhere2) / usual_df
    usual_df = usual_df * np.minimum(1, usual2 / np.maximum(spread2, 1e-9)) ** 2
    return (df * spread2 + usual_df * usual2) / (df + usual_df), df + usual_df


def _pooled(stands: list[NDArray[np.float64]]) -> tuple[Row, Row]:
    """(degrees of freedom, variance between agents) of other types, as if all were equally wide."""
    df, squares = np.zeros(1), np.zeros(1)
    for stand in stands:
        _, spread2, core, _ = _trimmed(stand) if stand.shape[1] > MEMBERS else _few(stand)
        known = np.maximum(core - 1, 0)
        df, squares = df + known, squares + known * spread2
    return df, squares / np.maximum(df, 1)


def _few(stand: NDArray[np.float64]) -> tuple[Row, Row, Row, Row]:
    """As `_trimmed`, for a few members: their median, and their plain variance."""
    known = np.count_nonzero(~np.isnan(stand), axis=1).astype(np.float64)
    ordered = np.sort(stand, axis=1)
    last = np.maximum(known - 1, 0)
    here = np.arange(len(stand))
    middle = np.nan_to_num((ordered[here, np.floor(last / 2).astype(np.intp)] + ordered[here, np.ceil(last / 2).astype(np.intp)]) / 2)
    mean = np.nansum(stand, axis=1) / np.maximum(known, 1)
    variance = np.nansum((stand - mean[:, None]) ** 2, axis=1) / np.maximum(known - 1, 1)
    return middle, variance, known, known / MEDIAN_COST


def _trimmed(stand: NDArray[np.float64]) -> tuple[Row, Row, Row, Row]:
    """(location, variance, number, how many the location is worth) of each row without its ends; NaN is nobody.

    The variance is corrected as for a normal law.
    """
    ordered = np.sort(stand, axis=1)
    k = np.count_nonzero(~np.isnan(ordered), axis=1)
    cut = np.maximum(np.floor(TRIM * k), 1)
    place = np.arange(ordered.shape[1])
    inside = (place >= cut[:, None]) & (place < (k - cut)[:, None])
    core = np.count_nonzero(inside, axis=1).astype(np.float64)
    kept = np.where(inside, ordered, 0)
    middle = kept.sum(axis=1) / np.maximum(core, 1)
    variance = np.where(inside, (kept - middle[:, None]) ** 2, 0).sum(axis=1) / np.maximum(core - 1, 1)
    share = np.minimum(cut / np.maximum(k, 1), 0.3)
    edge = ndtri(1 - share)
    shrunk = 1 - 2 * edge * np.exp(-edge * edge / 2) / math.sqrt(2 * math.pi) / (1 - 2 * share)
    return middle, variance / np.maximum(shrunk, 0.1), core, core
