"""Did many agents move together? Then it is one incident with one cause, and nobody is to blame for it.

Two ways to see it. Agents whose evidence on one stream and direction is strong and began in the same two minutes are counted, over the
fleet and over each cohort: K of n with evidence ``nats_i`` are a shared cause when K is large enough (`needed`) and
``sum nats_i - ln C(n, K) - K ln WINDOW`` reaches the threshold, a product of e-values of independent agents, paid for every choice of
agents and of onsets. And `cohorts` sees a cohort move of which no member stands out yet; that becomes an incident when it explains an alarm.
What becomes of a cause then is in `causes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import one_hand
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.cause import NEVER_US, TOGETHER_US, US, Cause, Index, stream_nats
from immune.core.sentinel.causes import Causes
from immune.core.sentinel.cohorts import FIELDS, FLEET, MEMBERS_AT_LEAST, VOTES_FROM, Cohorts
from immune.core.sentinel.one_hand import Symptom

ALIVE_US = 120 * US
WINDOW = 60.0
ONSETS_PER_AGENT_DAY = 1.0
COINCIDENCE = 0.01
"""Agents that fall sick by themselves, `ONSETS_PER_AGENT_DAY` each, seem together by chance with at most this probability."""
TINY = 3
NAMES_FROM = 0.6
"""A cohort gives a cause its name when at least this share of all that moved belongs to it."""
LATELY = 0.5
"""A member's short memory of surprise beyond this has moved with its cohort."""
BY_CHANCE = 0.03
"""So many healthy ones are beyond it."""


class SharedCause(Causes):
    """Counts who moves together and sums up cohorts; what it finds lives on as a cause."""

    def __init__(self, streams: tuple[str, ...], threshold_nats: float) -> None:
        super().__init__(streams)
        self.threshold_nats = threshold_nats
        self.cohorts = Cohorts(len(streams), threshold_nats)

    def advance(self, arena: Arena, at_us: int) -> None:
        """Look for new shared causes and follow those in force. Samples that come late never turn the time back."""
        now_us = self._now_us = max(self._now_us, at_us)
        hot_agents = np.flatnonzero(arena["hot_any"][: arena.size])
        if len(hot_agents) >= 2:
            self._search(arena, hot_agents[arena["samples"][hot_agents] >= VOTES_FROM], now_us)
        moved = self.cohorts.advance(arena, lambda name: self.codes(arena, name))
        if moved:
            self._consider(arena, moved, now_us)
        if self.causes:
            self.follow(arena, now_us)

    def pack(self) -> bytes:
        """Causes in force and the cohorts' processes as bytes."""
        return self.pack_causes() + b"\n" + self.cohorts.pack()

    def unpack(self, content: bytes) -> None:
        """Take over what `pack` wrote."""
        line, _, rest = content.partition(b"\n")
        self.unpack_causes(line)
        self.cohorts.unpack(rest)

    # -- by counting ---------------------------------------------------------------------------------------------------

    def _search(self, arena: Arena, hot_agents: Index, now_us: int) -> None:
        hot = arena["hot"][:, :, hot_agents]
        recent = arena["onset"][:, hot_agents] >= now_us - TOGETHER_US
        together = hot & recent
        counts = together.sum(axis=2)
        if counts.max(initial=0) < 2:
            return
        alive = self.voters(arena, now_us)
        for sign, stream in sorted(zip(*np.nonzero(counts >= 2), strict=True), key=lambda pair: -int(counts[pair])):
            moved = hot_agents[together[sign, stream]]
            moved = moved[alive[moved]]
            moved = moved[~self.sick_alone(arena, moved, now_us)]
            if len(moved) < MEMBERS_AT_LEAST and not self._neighbours(moved, int(sign), int(stream)):
                continue
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
            if cause.present and cause.told and (sign, stream) in cause.symptoms:
                explained |= cause.agents
        return len(set(moved.tolist()) - explained) < (MEMBERS_AT_LEAST if explained else 2)

    def _neighbours(self, moved: Index, sign: int, stream: int) -> bool:
        """Whether these two are of one service, hit by something from outside."""
        services = self._fixed["service"][moved]
        return len(moved) == 2 and self.from_outside(sign, stream) and services[0] == services[1] >= 0

    def _judge(self, arena: Arena, alive: NDArray[np.bool_], sign: int, stream: int, moved: Index, nats: NDArray[np.float64], now_us: int) -> None:
        best: tuple[float, str, int, Index, int] | None = None
        fleet_counts = False
        for field_name, code, members, inside in self._cohorts_of(arena, alive, moved):
            chosen = moved[inside]
            if len(chosen) < self.needed(members, field_name, self.from_outside(sign, stream)):
                continue
            score = float(nats[inside].sum()) - _ln_choose(members, len(chosen)) - len(chosen) * math.log(WINDOW)
            if score < self.threshold_nats or not self.one_event(arena, field_name, members, (sign, stream), chosen):
                continue
            if not field_name:
                fleet_counts = True
                best = (score, "", -1, chosen, members)
                continue
            half = len(chosen) >= 0.5 * members
            most = len(chosen) >= 0.8 * len(moved) and (half or one_hand.names(members, int(alive.sum()), len(chosen), len(moved)))
            if most if fleet_counts else (most or half) and (best is None or score > best[0]):
                fleet_counts = False
                best = (score, field_name, code, chosen, members)
        if best is not None:
            self._open(arena, best, sign, stream, now_us, told=True)

    def needed(self, members: int, field_name: str, outside: bool) -> int:
        """How many of a cohort's members must move together.

        From outside, as many as sick agents do not come together by chance; in a service of three, two. From inside a fifth (8 % of a
        large fleet): agents that were infected one after the other must not pass for a shared cause.
        """
        if outside and field_name == "service" and members <= TINY:
            return 2
        if outside:
            return max(MEMBERS_AT_LEAST, 1 + _beyond_chance(members * ONSETS_PER_AGENT_DAY * TOGETHER_US / (86_400 * US)))
        if field_name or members < 20:
            return max(MEMBERS_AT_LEAST, math.ceil(0.2 * members))
        return max(5, math.ceil(0.08 * members))

    def _cohorts_of(self, arena: Arena, alive: NDArray[np.bool_], moved: Index) -> Iterator[tuple[str, int, int, NDArray[np.bool_]]]:
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

    # -- by sums over cohorts ------------------------------------------------------------------------------------------

    def _consider(self, arena: Arena, moved: list[tuple[tuple[str, int], int, int, float]], now_us: int) -> None:
        """Of the cohorts that moved as a whole, the one that is furthest out on each symptom, if enough of its members moved."""
        alive, seen = self.voters(arena, now_us) & (arena["alone_at"][: arena.size] < 0), set[Symptom]()
        for cohort, sign, stream, nats in moved:
            if (sign, stream) in seen:
                continue
            lately = arena["g_recent"][stream, : arena.size] * (-1 if sign else 1)
            everywhere = np.flatnonzero(alive & (lately > LATELY))
            inside = alive & (self.codes(arena, cohort[0]) == cohort[1]) if cohort[0] else alive
            named = int(inside[everywhere].sum()) >= NAMES_FROM * (len(everywhere) - BY_CHANCE * int(alive.sum()))
            (field_name, code), inside = (cohort, inside) if named else (FLEET, alive)
            chosen, members = everywhere[inside[everywhere]], int(inside.sum())
            enough = len(chosen) >= self.needed(members, field_name, self.from_outside(sign, stream)) + int(BY_CHANCE * members)
            if enough and self.one_event(arena, field_name, members, (sign, stream), chosen):
                seen.add((sign, stream))
                self._open(arena, (nats, field_name, code, chosen, members), sign, stream, now_us, told=False)

    def _open(self, arena: Arena, best: tuple[float, str, int, Index, int], sign: int, stream: int, now_us: int, *, told: bool) -> None:
        score, field_name, code, chosen, members = best
        agents = set(chosen.tolist())
        symptoms = [(sign, stream)]
        for cause in list(self.causes.values()):
            shared = len(agents & cause.agents) >= 0.5 * min(len(agents), len(cause.agents))
            if cause.until_us:
                shared = int(np.count_nonzero(self.belong(arena, cause, chosen))) >= 0.8 * len(chosen)
            if shared and told and not cause.told and not cause.until_us:
                symptoms += [known for known in cause.symptoms if known not in symptoms]
                del self.causes[cause.key]  # what the sums suspected has its name from now on
                continue
            if shared and (cause.present or cause.until_us == NEVER_US or (sign, stream) in cause.symptoms):
                if (sign, stream) not in cause.symptoms:
                    cause.symptoms.append((sign, stream))
                if told:
                    cause.agents |= agents
                cause.told |= told
                cause.seen_us, cause.present = now_us, True
                return
        began = np.clip(arena["onset"][stream, chosen], now_us - TOGETHER_US, now_us)
        first, middle, last = (int(one) for one in np.quantile(began, (0.1, 0.5, 0.9), method="nearest"))
        onset = middle if told else now_us - 30 * US
        key = f"{field_name or 'fleet'}:{code}:{now_us}"
        self.causes[key] = Cause(
            key=key,
            field=field_name,
            code=code,
            onset_us=onset,
            first_us=min(first, onset),
            last_us=last,
            seen_us=now_us,
            nats=score,
            members=members,
            told=told,
            agents=agents,
            symptoms=symptoms,
        )


def _beyond_chance(expected: float) -> int:
    """The smallest k that a Poisson number of this mean reaches with probability at most `COINCIDENCE`."""
    if expected > 100:
        return math.ceil(expected + 2.33 * math.sqrt(expected)) + 1
    k, term, below = 0, math.exp(-expected), 0.0
    while 1 - below > COINCIDENCE:
        below += term
        k += 1
        term *= expected / k
    return k


def _ln_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
