"""Ids that live for one session: judged against their type, not missed when they end, and their memory is used again."""

from __future__ import annotations

import copy
import functools

import numpy as np

from immune.core.policy import DetectionPolicy
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import AgentIdentity, Lexicon, Roster
from tests.unit.sentinel_fleet import LATENCY, SCHEMA, START_US, US, Watch, alarms, at, batch

LIFE = 120
AT_ONCE = 20


class Visitors:
    """`AT_ONCE` sessions at any time, each of about `LIFE` samples at 1 Hz, each with an id of its own."""

    def __init__(self, seed: int, *, limit: int = 100_000) -> None:
        self.watch = Watch(AT_ONCE, seed=seed, enrolled=0)
        self.watch.roster.limit = limit
        self.rng = np.random.default_rng(seed)
        self.who = [self.next_id(n) for n in range(AT_ONCE)]
        self.ends = np.linspace(20, LIFE + 20, AT_ONCE).astype(int)
        self.silent: set[int] = set()

    def next_id(self, number: int) -> int:
        return self.watch.roster.enroll(AgentIdentity(agent_id=f"session-{number}", type="visitor"))

    def run(self, first: int, last: int, sick: set[int] = frozenset(), renew: bool = True) -> set[int]:  # type: ignore[assignment]
        """Agents that were alarms of their own between these ticks; `sick`: seats whose next sessions are slow from their start."""
        blamed: set[int] = set()
        for tick in range(first, last):
            values = self.watch.healthy()
            for seat in range(AT_ONCE):
                if tick >= self.ends[seat] and renew:
                    self.who[seat], self.ends[seat] = self.next_id(len(self.watch.roster)), tick + LIFE + int(self.rng.integers(-30, 30))
            slow = [seat for seat in range(AT_ONCE) if self.who[seat] in sick]
            values[slow, LATENCY] *= 8
            here = np.array([self.who[seat] for seat in range(AT_ONCE)])
            assessment = self.watch.sentinel.observe(batch(tick, values, here), at(tick))
            blamed |= alarms([assessment])
            self.silent |= set(np.flatnonzero(assessment.silent).tolist())
        return blamed


@functools.cache
def _going() -> Visitors:
    visitors = Visitors(7)
    visitors.run(0, 300)
    visitors.silent.clear()
    assert visitors.run(300, 900) == set()
    return visitors


def going() -> Visitors:
    """A fleet of sessions after a quarter of an hour, a copy of its own."""
    return copy.deepcopy(_going())


def test_ended_sessions_are_missed_by_nobody_once_their_kind_is_known_and_their_memory_is_used_again():
    visitors = going()
    assert not visitors.silent
    sentinel, ids = visitors.watch.sentinel, len(visitors.watch.roster)
    assert ids > 120
    assert len(sentinel.seats.who) < ids, "rows were used again"
    assert sentinel.seats.left > 20
    assert len(sentinel.observe(batch(900, visitors.watch.healthy(), np.array(visitors.who)), at(900)).nats) == ids


def test_a_session_that_is_sick_from_its_first_sample_is_found_against_its_type():
    visitors = going()
    coming = len(visitors.watch.roster) + 2
    assert visitors.run(900, 1000, sick={coming}) == {coming}


def test_a_snapshot_of_used_rows_goes_on_alike():
    visitors = going()
    watch = visitors.watch
    assert watch.sentinel.seats.left
    twin = Sentinel(roster=watch.roster, lexicon=watch.lexicon, schema=SCHEMA, policy=DetectionPolicy(), period_us=US, seed=5)
    stored = watch.sentinel.snapshot()
    twin.restore(stored)
    assert twin.snapshot() == stored
    for tick in range(900, 930):
        made = batch(tick, watch.healthy(), np.array(visitors.who))
        assert np.array_equal(watch.sentinel.observe(made, at(tick)).nats, twin.observe(made, at(tick)).nats)
    assert watch.sentinel.snapshot() == twin.snapshot()


def test_a_stall_in_a_fleet_that_started_one_by_one_is_a_stall():
    watch = Watch(20, seed=8)
    found: set[int] = set()
    for tick in range(330):
        some = np.arange(20)[: 1 + tick // 10]
        some = some[(some != 3) | (tick < 250)]
        found |= alarms([watch.sentinel.observe(batch(tick, watch.healthy()[some], some), at(tick))])
    assert found == {3}


def test_who_comes_back_after_its_row_was_given_away_is_new_and_the_other_stays_what_it_is():
    visitors = going()
    sentinel = visitors.watch.sentinel
    gone = int(np.flatnonzero(sentinel.seats.of < 0)[0])
    here = np.array([*visitors.who[1:], gone])
    told = sentinel.observe(batch(900, visitors.watch.healthy(), here), at(900))
    assert told.samples[gone] == 1
    assert (told.samples[visitors.who[1:]] >= 1).all()
    sentinel.hold([gone])
    assert sentinel.arena["held"][sentinel.seats.of[gone]]


def test_the_retired_give_their_rows_back():
    watch = Watch(8, seed=10)
    watch.run(0, 60)
    watch.sentinel.retire([2, 5])
    others = np.array([0, 1, 3, 4, 6, 7])
    for tick in range(60, 60 + 680, 10):
        watch.sentinel.observe(batch(tick, watch.healthy()[others], others), at(tick))
    assert watch.sentinel.seats.left == 2
    watch.enroll(8)
    watch.sentinel.observe(batch(741, watch.healthy()[:1], np.array([8])), at(741))
    assert watch.sentinel.seats.of[8] == 2
    assert watch.sentinel.arena.size == 8


def test_rows_stay_bounded_however_many_ids_come():
    roster = Roster(limit=4000)
    sentinel = Sentinel(roster=roster, lexicon=Lexicon(), schema=SCHEMA, policy=DetectionPolicy(), period_us=10 * US, seed=1)
    watch = Watch(40, seed=11)
    for turn in range(100):
        here = np.array([roster.enroll(AgentIdentity(agent_id=f"{turn}-{n}", type="visitor")) for n in range(40)])
        for sample in range(2):
            made = batch(0, watch.healthy(), here)
            made.at_us[:] = START_US + (20 * turn + 10 * sample) * US
            sentinel.observe(made, int(made.at_us[0]))
    assert len(roster) == 4000
    assert len(sentinel.seats.who) <= 2000
