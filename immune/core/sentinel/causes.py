"""The life of shared causes: who belongs to them, what they explain, how long they last, and when they become normal.

A cause from outside (latency, retries, errors and nothing else) is over when its symptoms are; whoever still shows them is sick by itself.
A change of behaviour (a deploy) lasts: its members stay explained for `MEMORY_US`, and their baselines take the change over once
it was announced, or has lasted `LASTING_US`; each time that is told (`taken_over`), to be put on record.
"""

from __future__ import annotations

import json
import math

import numpy as np
from numpy.typing import NDArray

from immune.core.sentinel import drift, episodes, hard, one_hand, standing
from immune.core.sentinel.arena import Arena
from immune.core.sentinel.cause import NEVER_US, TOGETHER_US, US, Cause, Index, doubts, late, means, measure, places, showing, stirred, widen
from immune.core.sentinel.facts import FACTS
from immune.core.sentinel.one_hand import Symptom
from immune.core.sentinel.quiet import Quiet

AFTERMATH_US = 180 * US
"""A cause from outside is remembered this long after its symptoms."""
MEMORY_US = 3600 * US
"""A change of behaviour is: a small one takes that long to show in all its members."""
LATE_US = 600 * US
"""Evidence that began up to this long after a change of behaviour may be due to it."""
LASTING_US = 900 * US
"""A change of behaviour that lasts this long without anybody's word is taken over by its members' baselines."""
ANNOUNCED_US = 90 * US
"""The same with a person's word."""
LEFT_OVER_US = 300 * US
"""When a change of behaviour has not been seen for this long, those who still show it take it over: most of its members have."""
SETTLED_SAMPLES = 60
LARGE_AT_LEAST, LARGE_SHARE = 5, 0.08
"""So many agents and this share of a cohort changed together when their change may become normal without anybody's word."""
SETTLE_EVERY_US = 30 * US
FROM_OUTSIDE = ("latency_ms", "latency_per_output_token", "retries", "errors")
"""Streams that something outside the agents moves: few agents together are enough to look there."""
FOLLOWS = {
    "cost_usd": {"input_tokens", "output_tokens"},
    "cost_per_token": {"input_tokens", "output_tokens"},
    "latency_per_output_token": {"latency_ms", "output_tokens"},
    "latency_ms": {"output_tokens"},
    "input_tokens": {"context_tokens"},
}
CHANGEABLE = ("model", "version", "prompt_hash")
"""What somebody changes on purpose: agents that behave otherwise and have this in common were changed."""
GONE = 0.3
"""Mean surprise of the last samples below which a symptom is over."""
STRONGER = 0.7
"""Inside a shared cause, an agent this much further (in logs) than its peers and three of their spreads is sick by itself."""
EXPECTED = math.log(6.0)
"""What begins during an announced change is explained by it up to this, in logs; beyond, an agent is sick whatever was announced."""

Mask = NDArray[np.bool_]
TakenOver = tuple[tuple[int, ...], str, str]
"""(agents, key of the cause, ``announced`` or ``lasting``)."""


class Causes:
    """The shared causes in force or remembered. taken_over: baselines that took a change over, in this tick."""

    def __init__(self, streams: tuple[str, ...]) -> None:
        self.causes: dict[str, Cause] = {}
        self.taken_over: list[TakenOver] = []
        self._from_outside = [name in FROM_OUTSIDE for name in streams]
        self._sized = np.array([row for row, name in enumerate(streams) if name in one_hand.SIZED], dtype=np.intp)
        self._names = streams
        self._announced: dict[tuple[str, int], str] = {}
        self.quiet = Quiet()
        self._fixed: dict[str, NDArray[np.int32]] = {}
        self._now_us = 0

    def enroll(self, types: NDArray[np.int32], services: NDArray[np.int32]) -> None:
        """Type and service of every agent."""
        self._fixed = {"type": types, "service": services}

    def codes(self, arena: Arena, field_name: str) -> NDArray[np.int32]:
        """Which value of this field each agent has, (agents,)."""
        fixed = self._fixed.get(field_name)
        return arena["fact"][FACTS.index(field_name), : arena.size] if fixed is None else fixed

    def inside(self, arena: Arena, cause: Cause) -> NDArray[np.bool_]:
        """Who belongs to the cohort of a cause, (agents,)."""
        if not cause.field:
            return np.ones(arena.size, dtype=np.bool_)
        belongs: NDArray[np.bool_] = self.codes(arena, cause.field) == cause.code
        return belongs

    @property
    def expecting(self) -> bool:
        """Whether a change is announced."""
        return bool(self._announced)

    def announce(self, cohorts: list[tuple[str, int]], now_us: int) -> None:
        """Which cohorts people expect to change now: whatever begins in them is theirs, as long as it stays within `EXPECTED`."""
        now_us = max(now_us, self._now_us)
        for cohort in cohorts:
            if cohort not in self._announced:
                self._announced[cohort] = key = f"{cohort[0] or 'fleet'}:{cohort[1]}:announced:{now_us}"
                self.causes[key] = Cause(
                    key=key,
                    field=cohort[0],
                    code=cohort[1],
                    onset_us=now_us,
                    seen_us=now_us,
                    nats=0.0,
                    members=0,
                    present=False,
                    told=False,
                    until_us=NEVER_US,
                )
        for cohort in [known for known in self._announced if known not in cohorts]:
            key = self._announced.pop(cohort)
            if key in self.causes:
                self.causes[key].until_us = now_us

    def expected(self, arena: Arena, agent: int) -> str:
        """Key of an announced change that this agent belongs to, or "": its silence needs no other cause."""
        for key in self._announced.values():
            cause = self.causes.get(key)
            if cause is not None and self.belong(arena, cause, np.array([agent]))[0]:
                return key
        return ""

    def belong(self, arena: Arena, cause: Cause, agents: Index) -> Mask:
        """Which of these agents are of the cohort of a cause, (n,)."""
        if not cause.field:
            return np.ones(len(agents), dtype=np.bool_)
        members: Mask = self.codes(arena, cause.field)[agents] == cause.code
        return members

    def from_outside(self, sign: int, stream: int) -> bool:
        """Whether something outside moves a stream this way; less time per token is only longer output."""
        return sign == 0 and self._from_outside[stream]

    def of_behaviour(self, cause: Cause) -> bool:
        """Whether the agents work otherwise, rather than something outside them."""
        return cause.until_us > 0 or not all(self.from_outside(sign, stream) for sign, stream in cause.symptoms)

    def one_event(self, arena: Arena, field_name: str, members: int, symptom: Symptom, chosen: Index) -> bool:
        """Whether one hand may have moved these agents of a cohort of so many `members`, rather than each its own illness (`one_hand`)."""
        if field_name in CHANGEABLE:
            return True
        if self.from_outside(*symptom):
            return one_hand.outage(arena, field_name, members, symptom, chosen)
        return one_hand.change(arena, symptom, chosen, self._sized)

    def follow(self, arena: Arena, now_us: int) -> None:
        """Who shows what each cause explains now; which are over, and which have become normal."""
        for key, cause in list(self.causes.items()):
            inside = self.inside(arena, cause)
            moving, elsewhere = self._moving(arena, cause, inside)
            if cause.until_us == NEVER_US:
                moving |= stirred(arena, cause, inside & arena["present"][: arena.size])
                cause.members = max(cause.members, int(inside.sum()))
            elif cause.present and len(elsewhere) >= max(3, 0.5 * len(moving)):
                # it was named after those who showed it first
                cause.field, cause.code, cause.members = "", -1, arena.size
                moving |= elsewhere
            if cause.present or cause.until_us == NEVER_US:
                cause.agents |= moving
                cause.shown |= showing(arena, cause, moving)
                widen(arena, cause)
            if cause.symptoms and len(moving) >= max(2, (0.15 if cause.present else 0.3) * len(cause.agents)):
                cause.seen_us, cause.present = now_us, True
                measure(arena, cause, moving)
            else:
                cause.present = False
                self._absolve(arena, cause)
            self._settle(arena, cause, now_us)
            if cause.until_us != NEVER_US and now_us - max(cause.seen_us, cause.until_us) > self._memory_us(cause):
                agents = np.array(sorted(cause.agents), dtype=np.intp)
                drift.start_anew(arena, agents[(arena["alone_at"][agents] < 0) & ~arena["held"][agents]])
                del self.causes[key]

    def forget(self, agents: set[int]) -> None:
        """These are gone for good: whoever gets their numbers next is somebody else."""
        for cause in self.causes.values():
            cause.agents -= agents
            cause.shown -= agents
        for group in self.quiet.groups:
            group.agents -= agents

    def sick_alone(self, arena: Arena, agents: Index, onset_us: int) -> NDArray[np.bool_]:
        """Which of these agents were an alarm by themselves long before, or long after, a cause of this onset began, (agents,)."""
        alone = arena["alone_at"][agents]
        aside: NDArray[np.bool_] = (alone >= 0) & ((alone < onset_us - TOGETHER_US) | (alone > onset_us + LATE_US))
        return aside

    def _fits(self, arena: Arena, cause: Cause, agent: int, sign: int, stream: int) -> bool:
        """Whether an agent that was blamed by itself shows no more than the others of a cause found later: their size must be known for that."""
        if self.sick_alone(arena, np.array([agent]), cause.onset_us)[0]:
            return False
        others = np.array(sorted(cause.agents - {agent}), dtype=np.intp)
        others = others[~self.sick_alone(arena, others, cause.onset_us)]
        if not len(others):
            return False
        hot = others[arena["hot"][sign, stream, others]]
        if len(hot) >= max(1, 0.3 * len(others)):
            sizes = arena["sums"][1, stream, hot] / np.maximum(arena["sums"][0, stream, hot], 1)
        else:
            sizes = arena["r_recent"][stream, others]
        middle = float(np.median(sizes))
        spread = 1.4826 * float(np.median(np.abs(sizes - middle)))
        one, here = np.array([[stream]]), np.array([agent])
        beyond = (float(means(arena, one, here)[0, 0]) - middle) * (-1 if sign else 1)
        return beyond <= max(3 * spread, STRONGER) + float(doubts(arena, one, here)[0, 0])

    def _moving(self, arena: Arena, cause: Cause, inside: NDArray[np.bool_]) -> tuple[set[int], set[int]]:
        """Agents that began to show a symptom of a cause with it and show it now: those of its cohort, and those elsewhere."""
        shows = np.zeros(arena.size, dtype=np.bool_)
        for sign, stream in cause.symptoms:
            shows |= arena["hot"][sign, stream, : arena.size] & (arena["onset"][stream, : arena.size] >= cause.onset_us - TOGETHER_US)
        shows &= arena["present"][: arena.size]
        if not self.of_behaviour(cause):
            shows[late(arena, cause, shows & ~inside if cause.field else shows)] = False
        blamed = np.flatnonzero(shows & (arena["alone_at"][: arena.size] >= 0))
        for agent in blamed.tolist():
            shows[agent] = any(self._fits(arena, cause, agent, sign, stream) for sign, stream in cause.symptoms if arena["hot"][sign, stream, agent])
        return set(np.flatnonzero(shows & inside).tolist()), set(np.flatnonzero(shows & ~inside).tolist())

    def _absolve(self, arena: Arena, cause: Cause) -> None:
        """What was gathered while something from outside lasted, and is not seen any more, speaks against nobody afterwards."""
        if self.of_behaviour(cause) or not cause.agents:
            return
        agents = np.array(sorted(cause.agents), dtype=np.intp)
        agents = agents[(arena["alone_at"][agents] < 0) & ~arena["held"][agents]]
        for sign, stream in cause.symptoms:
            lately = arena["g_recent"][stream, agents] * (-1 if sign else 1)
            began = arena["onset"][stream, agents]
            over = (lately < GONE) & (began >= cause.onset_us - TOGETHER_US) & (began <= cause.seen_us)
            arena["sr"][sign, :, stream, agents[over]] = 0

    def _memory_us(self, cause: Cause) -> int:
        return MEMORY_US if self.of_behaviour(cause) and (cause.told or cause.until_us) else AFTERMATH_US

    def _settle(self, arena: Arena, cause: Cause, now_us: int) -> None:
        """Let a lasting change of behaviour become normal: by a person's word soon, without it late, and at its end for who is left."""
        if not self._may_become_normal(arena, cause) or now_us - cause.settled_us < SETTLE_EVERY_US:
            return
        announced = cause.until_us > 0 or (cause.field, cause.code) in self._announced
        since, after = (cause.onset_us, ANNOUNCED_US if announced else LASTING_US) if cause.present else (cause.seen_us, LEFT_OVER_US)
        if now_us - since < after:
            return
        cause.settled_us = now_us
        hot_agents = np.flatnonzero(arena["hot_any"][: arena.size] & ~arena["held"][: arena.size] & self.inside(arena, cause))
        limited = arena["breach_at"][: arena.size]
        settled = []
        for agent in hot_agents.tolist():
            streams = [
                stream
                for sign, stream in self.covered(arena, cause, agent)
                if arena["hot"][sign, stream, agent] and arena["sums"][0, stream, agent] >= SETTLED_SAMPLES
            ]
            within_limits = limited[agent] < now_us - hard.SHOWN_US
            if streams and within_limits and (announced or not one_hand.far(arena, np.array([agent]), self._sized)):
                standing.take_over(arena, agent, streams)
                settled.append(agent)
        if settled:
            self.taken_over.append((tuple(settled), cause.key, "announced" if announced else "lasting"))

    def _may_become_normal(self, arena: Arena, cause: Cause) -> bool:
        """A change of behaviour that people announced, that a fact explains, or that many share; the rest stays a question to a person."""
        if not self.of_behaviour(cause):
            return False
        if cause.until_us or (cause.field, cause.code) in self._announced or cause.field in CHANGEABLE:
            return True
        agents = np.array(sorted(cause.agents), dtype=np.intp)
        together = int(np.count_nonzero(~self.sick_alone(arena, agents, cause.onset_us)))
        return together >= max(LARGE_AT_LEAST, LARGE_SHARE * int(self.inside(arena, cause).sum()))

    def covered(self, arena: Arena, cause: Cause, agent: int) -> list[Symptom]:
        """The symptoms of a cause that it explains in this agent."""
        symptoms, covers = self.covers(arena, cause, np.array([agent], dtype=np.intp))
        return [symptoms[place] for place in np.flatnonzero(covers[:, 0]).tolist()]

    def covers(self, arena: Arena, cause: Cause, agents: Index) -> tuple[list[Symptom], Mask]:
        """(symptoms, which of them the cause explains in each of these agents): begun with it, and not much further out than its peers."""
        if cause.until_us:
            return self._announced_symptoms(arena, cause, agents)
        lasts = self.of_behaviour(cause)
        known = np.array([agent in cause.agents for agent in agents.tolist()], dtype=np.bool_)
        belongs = known | self.belong(arena, cause, agents) if lasts else known
        if not cause.symptoms or not np.count_nonzero(belongs):
            return [], np.zeros((0, len(agents)), dtype=np.bool_)
        earliest = np.where(known, 0, cause.onset_us - TOGETHER_US)
        latest = np.where(known, cause.seen_us, cause.onset_us) + LATE_US if lasts else np.full(len(agents), self._now_us)
        signs, streams = places(cause.symptoms)
        middle, spread = np.array([cause.norms.get(symptom, (0.0, math.inf)) for symptom in cause.symptoms]).T[:, :, None]
        onset = arena["onset"][streams, agents]
        beyond = (middle - means(arena, streams, agents)) * np.where(signs, 1, -1)
        found = belongs & (earliest <= onset) & (onset <= latest)
        found &= beyond <= np.maximum(3 * spread, STRONGER) + doubts(arena, streams, agents)
        for place, column in np.argwhere(found & (arena["alone_at"][agents] >= 0)).tolist():
            found[place, column] = self._fits(arena, cause, int(agents[column]), *cause.symptoms[place])
        if not lasts or not np.count_nonzero(found):
            return cause.symptoms, found
        followers, follow = self._follows(arena, cause, agents, latest)
        return cause.symptoms + followers, np.concatenate([found, follow & found.any(axis=0)])

    def tasks_covered(self, arena: Arena, cause: Cause, agents: Index) -> Mask:
        """Whether what each agent's tasks show began with a change of behaviour, or is time that something outside took."""
        figure = arena["ep_sr"][..., agents].sum(axis=(0, 1)).argmax(axis=0)
        onset, latest = arena["ep_onset"][figure, agents], (min(cause.until_us, self._now_us) if cause.until_us else cause.seen_us) + LATE_US
        began: Mask = (cause.onset_us - TOGETHER_US <= onset) & (onset <= latest)
        return began if self.of_behaviour(cause) else began & (figure == episodes.DURATION)

    def _announced_symptoms(self, arena: Arena, cause: Cause, agents: Index) -> tuple[list[Symptom], Mask]:
        """Whatever began in a member during an announced change, unless it is further out than anyone would announce."""
        onset, latest = arena["onset"][:, agents], min(cause.until_us, self._now_us) + LATE_US
        began = (onset >= cause.onset_us - TOGETHER_US) & (onset <= latest) & self.belong(arena, cause, agents)
        usual = np.abs(means(arena, np.arange(len(onset))[:, None], agents)) <= EXPECTED
        outside = np.array([[self.from_outside(sign, stream) for stream in range(len(onset))] for sign in (0, 1)])[:, :, None]
        covers = arena["hot"][:, :, agents] & began & (outside | usual)
        return [(sign, stream) for sign in (0, 1) for stream in range(len(onset))], covers.reshape(-1, len(agents))

    def _follows(self, arena: Arena, cause: Cause, agents: Index, latest: NDArray[np.int64]) -> tuple[list[Symptom], Mask]:
        """What follows from a change of behaviour, in one agent up and in another down: cost from tokens, ratios from both."""
        moved = {self._names[stream] for _, stream in cause.symptoms}
        streams = [self._names.index(name) for name, sources in FOLLOWS.items() if moved & sources]
        symptoms = [(sign, stream) for stream in streams for sign in (0, 1) if (sign, stream) not in cause.symptoms]
        if not symptoms:
            return [], np.zeros((0, len(agents)), dtype=np.bool_)
        rows = places(symptoms)[1]
        return symptoms, (arena["onset"][rows, agents] <= latest) & (np.abs(means(arena, rows, agents)) <= STRONGER)

    def pack_causes(self) -> bytes:
        """Causes and announcements as one line of JSON."""
        rows = [cause.row() for cause in self.causes.values()]
        announced = [[*cohort, key] for cohort, key in self._announced.items()]
        return json.dumps(
            {"now_us": self._now_us, "causes": rows, "announced": announced, "quiet": self.quiet.rows()}, separators=(",", ":")
        ).encode()

    def unpack_causes(self, content: bytes) -> None:
        """Take over what `pack_causes` wrote."""
        head = json.loads(content)
        self._now_us = head["now_us"]
        self.quiet.take(head["quiet"])
        self._announced = {(name, code): key for name, code, key in head["announced"]}
        self.causes = {row["key"]: Cause.of_row(row) for row in head["causes"]}
