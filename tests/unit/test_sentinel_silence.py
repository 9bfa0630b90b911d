"""Whose silence means something: pauses that a type is used to, pauses of everybody at once, and an agent that stops."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.policy import DetectionPolicy
from immune.core.sentinel import silence
from immune.core.sentinel.arena import Arena
from tests.unit.sentinel_fleet import Watch, at, batch, learned

US = 1_000_000
POLICY = DetectionPolicy()


class Listener:
    """Agents of which only the gaps are known, second by second."""

    def __init__(self, types: list[int]) -> None:
        self.types = np.array(types, dtype=np.int32)
        self.arena, self.fleet, self.now_s = Arena(), Arena(), 0
        for arena, size in ((self.arena, len(types)), (self.fleet, 1)):
            silence.declare(arena)
            arena.grow(size)

    def hear(self, agents: list[int]) -> None:
        self.now_s += 1
        if agents:
            rows, when = np.array(agents), np.full(len(agents), self.now_s * US, dtype=np.int64)
            silence.hear(self.arena, self.fleet, when, POLICY, 0)
            silence.arrive(self.arena, rows, when, np.zeros(len(agents), dtype=np.int8), POLICY, 0)
        if self.now_s % 16 == 0:
            silence.lend(self.arena, self.types)

    def hear_on_off(self, until_s: int, pausing: list[int], steady: list[int], *, off_s: int = 40) -> None:
        """Each of `pausing` is off for so long of every 100 s, each at another time."""
        while self.now_s < until_s:
            self.hear([agent for agent in pausing if (self.now_s + 37 * agent) % 100 >= off_s] + steady)

    def limits(self) -> list[float]:
        return [float(limit) for limit in silence.gaps(self.arena, self.now_s * US, POLICY, 0)[1]]

    def silent(self) -> list[int]:
        now_us = self.now_s * US
        paused_s = silence.pause_of_all(self.arena, self.fleet, now_us, POLICY, 0)
        return np.flatnonzero(silence.gaps(self.arena, now_us, POLICY, 0, paused_s)[0] >= 1).tolist()


def test_who_has_never_paused_may_pause_as_the_others_of_its_type_do() -> None:
    fleet = Listener([0] * 8 + [1] * 8)
    fleet.hear_on_off(1000, list(range(7)), [7, *range(8, 16)])
    limits = fleet.limits()
    assert limits[7] >= 60
    assert limits[8:] == [10.0] * 8, "nobody of that type pauses"


@pytest.mark.parametrize("others", [1, 2, 7])
def test_what_one_of_a_type_does_widens_nobodys_limit(others: int) -> None:
    fleet = Listener([0] * (1 + others) + [1] * 8)
    fleet.hear_on_off(1000, [0], list(range(1, 9 + others)))
    assert fleet.limits()[1:] == [10.0] * (8 + others)


def test_a_new_agent_may_pause_as_the_fleet_does_until_it_is_known() -> None:
    fleet = Listener([0] * 6 + [1] * 6 + [2])
    fleet.hear_on_off(400, list(range(12)), [12])
    assert fleet.limits()[12] >= 60
    fleet.hear_on_off(700, list(range(12)), [12])
    assert fleet.limits()[12] == 10.0


def test_a_stall_that_a_treatment_ended_is_no_usual_pause() -> None:
    fleet = Listener([0] * 6)
    fleet.hear_on_off(100, [], list(range(6)))
    for _ in range(40):
        fleet.hear([3, 4, 5])
    fleet.arena["gap_excused"][:3] = True
    fleet.hear_on_off(160, [], list(range(6)))
    assert fleet.limits()[3:] == [10.0] * 3
    assert not fleet.arena["gap_excused"][:6].any(), "it excuses one gap"


@pytest.mark.slow
def test_an_outage_of_a_service_is_no_usual_pause() -> None:
    watch = learned(12, 60)
    for tick in range(60, 120):
        watch.sentinel.observe(batch(tick, watch.healthy()[6:], np.arange(6, 12)), at(tick))
    watch.run(120, 152)
    limit = silence.gaps(watch.sentinel.arena, at(152), POLICY, 0)[1]
    assert limit[6:].tolist() == [10.0] * 6


def test_who_stops_in_a_steady_fleet_is_silent_after_ten_seconds() -> None:
    fleet = Listener([0] * 6)
    fleet.hear_on_off(300, [], list(range(6)))
    for _ in range(10):
        assert fleet.silent() == []
        fleet.hear([1, 2, 3, 4, 5])
    assert fleet.silent() == [0]


def sparse(pause_s: int, *, seed: int = 3) -> Listener:
    """Forty agents that send every 5 s or so at random; all of them pause for so long every 300 s, four times so far."""
    fleet, rng = Listener([0] * 40), np.random.default_rng(seed)
    while fleet.now_s < 1350:
        fleet.hear(np.flatnonzero(rng.random(40) < 0.2).tolist() if fleet.now_s % 300 >= pause_s else [])
    fleet.arena["gap_peak"][:40] = 30  # as if nobody had paused: only that all pause at once speaks for them
    fleet.arena["pause"][:40] = fleet.arena["pause_lent"][:40] = 0
    return fleet


def test_a_pause_of_everybody_at_once_is_nobodys_silence() -> None:
    fleet = sparse(100)
    for _ in range(200):
        fleet.hear([])
    assert silence.gaps(fleet.arena, fleet.now_s * US, POLICY, 0)[0].max() > 1
    assert fleet.silent() == []
    fleet.hear([0])
    assert fleet.silent() == [], "the first that is back makes nobody else silent"


def test_a_pause_of_everybody_that_is_longer_than_ever_is_everybodys_silence() -> None:
    fleet = sparse(100)
    for _ in range(400):
        fleet.hear([])
    assert fleet.silent() == list(range(40))


def test_who_was_silent_before_everybody_paused_stays_silent() -> None:
    fleet = sparse(100)
    rng = np.random.default_rng(4)
    for _ in range(250):
        fleet.hear((1 + np.flatnonzero(rng.random(39) < 0.2)).tolist())
    assert fleet.silent() == [0]
    for _ in range(60):
        fleet.hear([])
    assert fleet.silent() == [0]


@pytest.mark.slow
def test_pauses_go_into_the_snapshot_and_on_from_there_bit_for_bit() -> None:
    watch = learned(12, 60)

    def on_off(one: Watch, first: int, last: int) -> bytes:
        nats = b""
        for tick in range(first, last):
            here = np.flatnonzero((tick + 7 * np.arange(12)) % 50 >= 20)
            if tick % 100 < 6:
                here = here[:0]
            nats += one.sentinel.observe(batch(tick, one.healthy()[here], here), at(tick)).nats.tobytes()
        return nats

    on_off(watch, 60, 180)
    twin = learned(12, 60)
    twin.sentinel.restore(watch.sentinel.snapshot())
    twin.rng = np.random.default_rng(8)
    watch.rng = np.random.default_rng(8)
    assert watch.sentinel.arena["pause_lent"][:12].max() > 5
    assert on_off(watch, 180, 220) == on_off(twin, 180, 220)
    assert watch.sentinel.snapshot() == twin.sentinel.snapshot()
