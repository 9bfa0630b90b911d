"""Evidence as people read it, of many agents at once: after a deploy hundreds stand out for an hour, and each tick says what they show.

Numbers are worked out in arrays over (agent, direction, stream); only what is shown becomes an object.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from immune.core.evidence import Basis, VitalEvidence
from immune.core.forms import maker
from immune.core.sentinel import drift
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.eprocess import ROWS
from immune.core.sentinel.one_hand import Symptom
from immune.core.sentinel.standing import RECENT
from immune.core.sentinel.streams import SHOWN_AS, Stream, StreamTable

US = 1_000_000
SHOW_NATS = 3.0
"""Evidence of a stream from here on is shown; from here on sums reach back to its onset (`standing.ONSET_NATS`), below they are of one sample."""
SHOW_AT_MOST = 10
OF_COHORT_AT_MOST = 50
"""So many members speak for a shared cause."""
OWN_BASIS_FROM = 200
TYPE_BASIS_UNTIL = 40
MIDDLED = ("ratio", "effect", "growth", "calibration")
"""Of these the evidence of a shared cause has the median of its members."""
OF_MIDDLE_ONE = ("observed", "expected")
"""These it has from the member with the middle ratio, so that they belong together."""

Index = NDArray[np.intp]
Row = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """k pieces of evidence, each (k,); the figures of `VitalEvidence`, with the sign and the row of the stream, count the agent's samples of it."""

    signs: Index
    rows: Index
    nats: Row
    ratio: Row
    observed: Row
    expected: Row
    effect: Row
    growth: Row
    onset_us: NDArray[np.int64]
    calibration: NDArray[np.float32]
    count: NDArray[np.float32]


class EvidenceWriter:
    """Writes what the streams of agents and of shared causes show."""

    def __init__(self, table: StreamTable) -> None:
        self._table = table
        self._names = [SHOWN_AS.get(name, name) for name in table.names]
        self._alphabet = np.argsort(np.argsort(np.array(self._names), kind="stable"), kind="stable")
        self._grain = np.array([_grain(stream) for stream in table.streams])
        self._twins = [(self._names.index(SHOWN_AS[name]), row) for row, name in enumerate(table.names) if name in SHOWN_AS]

    def strongest(self, arena: Arena, agents: Index, nats: Row) -> list[list[VitalEvidence]]:
        """For each agent what its streams show, at most `SHOW_AT_MOST`, strongest first; nats (2, streams, n) as of `direction_nats`."""
        shows = (nats >= SHOW_NATS) & points(arena, np.arange(nats.shape[1])[:, None], agents)
        for first, second in self._twins:  # two streams that speak of one vital: the stronger does
            both, later = shows[:, first] & shows[:, second], nats[:, second] > nats[:, first]
            shows[:, first] &= ~(both & later)
            shows[:, second] &= ~both | later
        place, signs, rows = np.nonzero(shows.transpose(2, 0, 1))
        strength = nats[signs, rows, place]
        order = np.lexsort((self._alphabet[rows], -strength, place))
        begins = np.searchsorted(place, np.arange(len(agents)))
        kept = order[np.arange(len(place)) - begins[place] < SHOW_AT_MOST]  # `place` ascends, before and after sorting
        place = place[kept]
        written = self._written(self.of(arena, agents[place], signs[kept], rows[kept], strength[kept]))
        said = [says_its_way(item) for item in written]  # not, when it moved by less than a grain
        place, written = place[np.array(said, dtype=np.bool_)], list(compress(written, said))
        ends = np.searchsorted(place, np.arange(len(agents) + 1)).tolist()
        return [written[begin:end] for begin, end in pairwise(ends)]

    def of(self, arena: Arena, agents: Index, signs: Index, rows: Index, nats: Row) -> Shown:
        """What these streams of these agents show in these directions, all (k,)."""
        table = self._table
        samples, deviation, expected, surprise = arena["sums"][:, rows, agents].astype(np.float64)
        samples = np.maximum(samples, 1.0)
        usual = table.values(rows, expected / samples)
        observed = table.values(rows, (expected + deviation) / samples)
        counted = rows >= table.continuous
        ratio = np.where(counted, (observed + 0.5) / (usual + 0.5), np.maximum(observed, self._grain[rows]) / np.maximum(usual, self._grain[rows]))
        onset_us = arena["onset"][rows, agents]
        minutes = (arena["last_at"][agents] - onset_us) / (60 * US)
        slow = self._slow(arena, agents, signs, rows)
        of_block = arena["drift_mean"][np.where(counted, 0, rows), agents]
        rest = np.where(slow, of_block, arena["r_recent"][rows, agents]).astype(np.float64) - deviation / samples
        steady = counted | (samples < 2 / RECENT) | (minutes <= 0) | ~np.isfinite(rest)
        return Shown(
            signs=signs,
            rows=rows,
            nats=nats,
            ratio=np.minimum(np.maximum(ratio, 1e-6), 1e6),
            observed=observed,
            expected=usual,
            effect=np.abs(surprise) / samples,
            growth=np.where(steady, 0.0, rest / np.where(steady, 1.0, minutes / 2)),
            onset_us=onset_us,
            calibration=arena["calibration"][rows, agents],
            count=arena["count"][rows, agents],
        )

    def _slow(self, arena: Arena, agents: Index, signs: Index, rows: Index) -> Mask:
        """Whether the slow reference carries this evidence: then the mean of a block says how far it is by now, the last samples too little."""
        sr = np.ascontiguousarray(arena["sr"][signs, :, rows, agents])
        slow: Mask = (rows < self._table.continuous) & (sr[:, drift.ROWS].sum(axis=1) > np.float32(0.5) * sr.sum(axis=1))
        return slow

    def _written(self, shown: Shown) -> list[VitalEvidence]:
        make = maker(VitalEvidence)
        return [
            make(
                vital=self._names[row],
                direction="down" if sign else "up",
                nats=nats,
                ratio=ratio,
                observed=observed,
                expected=expected,
                effect=effect,
                growth=growth,
                onset_us=onset_us,
                calibration=calibration,
                basis=basis_of(count),
            )
            for row, sign, nats, ratio, observed, expected, effect, growth, onset_us, calibration, count in zip(
                shown.rows.tolist(),
                shown.signs.tolist(),
                shown.nats.tolist(),
                shown.ratio.tolist(),
                shown.observed.tolist(),
                shown.expected.tolist(),
                shown.effect.tolist(),
                shown.growth.tolist(),
                shown.onset_us.tolist(),
                shown.calibration.tolist(),
                shown.count.tolist(),
                strict=True,
            )
        ]

    def of_cause(self, arena: Arena, agents: Index, symptoms: list[Symptom], onset_us: int) -> list[VitalEvidence]:
        """What the members of a shared cause show of each symptom: those that show it clearly, or else a little; the middle one speaks.

        A symptom of which nobody has anything to say is left out: who took a change over as normal has begun to count anew.
        """
        if not len(agents) or not symptoms:
            return []
        signs, rows, nats_of, speak = speakers(arena, agents, symptoms)
        if not len(rows):
            return []
        nth = np.cumsum(speak, axis=1) - 1
        which, who = np.nonzero(speak & (nth < OF_COHORT_AT_MOST))
        seat, nats = nth[which, who], nats_of[which, who]
        spoke = np.zeros((len(rows), int(seat.max()) + 1), dtype=np.bool_)
        spoke[which, seat] = True
        shown = self.of(arena, agents[who], signs[which], rows[which], nats)
        figures = np.zeros((len(MIDDLED) + 3, *spoke.shape))
        figures[:, which, seat] = [*(getattr(shown, name) for name in (*MIDDLED, *OF_MIDDLE_ONE)), nats]
        middle = _middle(figures[:-1], spoke)
        total = np.minimum(np.cumsum(figures[-1], axis=1)[:, -1], 1e4).tolist()
        make = maker(VitalEvidence)
        written = [
            make(
                vital=self._names[row],
                direction="down" if sign else "up",
                nats=total[place],
                onset_us=onset_us,
                basis="own",
                **{name: of_each[place] for name, of_each in middle.items()},
            )
            for place, (sign, row) in enumerate(zip(signs.tolist(), rows.tolist(), strict=True))
        ]
        return [item for item in written if says_its_way(item)]


def points(arena: Arena, rows: Index, agents: Index) -> Mask:
    """Whether what streams (m, 1) of agents (n,) did since their onsets goes up, and whether down, (2, m, n).

    Evidence may outlast it: that of the slow reference falls a block at a time, and the sums begin anew as soon as the other direction leads.
    """
    count, deviation = arena["sums"][:2, rows, agents]
    seen = count > 0
    return np.stack([seen & (deviation > 0), seen & (deviation < 0)])


def speakers(arena: Arena, agents: Index, symptoms: list[Symptom]) -> tuple[Index, Index, Row, Mask]:
    """(signs, rows) of the symptoms of which anybody has something to say, (m,); everybody's nats, and who speaks of which, (m, n)."""
    signs, rows = np.array(symptoms, dtype=np.intp).T
    nats = direction_nats(arena, agents)[signs, rows]
    shows = (nats >= SHOW_NATS) & points(arena, rows[:, None], agents)[signs, np.arange(len(rows))]
    clearly = shows & arena["hot"][signs[:, None], rows[:, None], agents]
    speak = np.where(clearly.any(axis=1, keepdims=True), clearly, shows)
    told = speak.any(axis=1)
    return signs[told], rows[told], nats[told], speak[told]


def _middle(figures: NDArray[np.float64], spoke: Mask) -> dict[str, list[float]]:
    """Of figures (`MIDDLED` and `OF_MIDDLE_ONE`, symptoms, seats), those of each symptom's middle speaker, by name."""
    number, symptoms = len(MIDDLED), len(spoke)
    middles = medians(figures[:number].reshape(-1, spoke.shape[1]), np.tile(spoke, (number, 1))).reshape(number, symptoms)
    order = np.argsort(np.where(spoke, figures[MIDDLED.index("ratio")], np.inf), axis=1, kind="stable")
    every = np.arange(symptoms)
    one = order[every, (np.count_nonzero(spoke, axis=1) - 1) // 2]
    return dict(zip((*MIDDLED, *OF_MIDDLE_ONE), (*middles.tolist(), *figures[number:, every, one].tolist()), strict=True))


def says_its_way(item: VitalEvidence) -> bool:
    """Whether the ratio is on the side of 1 that the direction names."""
    return item.ratio > 1.0 if item.direction == "up" else item.ratio < 1.0


def _grain(stream: Stream) -> float:
    """Half a unit of a vital in whole numbers: below that nothing was seen of it."""
    return max(stream.dither / (2 * stream.unit), 1e-12) if stream.scale == "log" and stream.column >= 0 else 1e-12


def direction_nats(arena: Arena, agents: Index) -> Row:
    """Ln of the mean e-detector of each direction and stream of these agents, (2, streams, n)."""
    mean = np.zeros((2, arena["sr"].shape[2], len(agents)))
    for row in range(ROWS):
        mean += arena["sr"][:, row].take(agents, axis=-1)
    mean /= ROWS
    nats: Row = np.log(np.maximum(mean, 1e-3))
    return nats


def medians(values: NDArray[np.floating[Any]], chosen: Mask) -> NDArray[np.floating[Any]]:
    """The median of the chosen values of each row, (rows, n); at least one each."""
    ordered = np.sort(np.where(chosen, values, values.dtype.type(np.inf)), axis=1)
    number, row = np.count_nonzero(chosen, axis=1), np.arange(len(values))
    middle: NDArray[np.floating[Any]] = (ordered[row, (number - 1) // 2] + ordered[row, number // 2]) / 2
    return middle


def basis_of(count: float) -> Basis:
    """What a judgement after so many samples rests on."""
    if count < TYPE_BASIS_UNTIL:
        return "type"
    return "own" if count >= OWN_BASIS_FROM else "mixed"
