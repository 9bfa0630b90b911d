"""Whole tasks against past tasks, samples beyond the ranks, and slow drifts: what each adds, and what it leaves alone."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

from immune.core.evidence import Assessment
from immune.core.sentinel import episodes, tail
from immune.core.sentinel.arena import Arena, Block
from immune.core.sentinel.eprocess import TAIL_ROW, declare
from immune.core.sentinel.peers import Peers
from immune.core.vitals import SampleBatch, Status
from tests.unit.sentinel_fleet import TOOLS, Watch, alarms, at, batch

LENGTH = 5


class Tasks:
    """A fleet whose agents each do tasks of `LENGTH` steps, one step a tick; `length(agent, task)` makes one of them longer."""

    def __init__(self, agents: int, seed: int, *, longer: int = -1, longer_from: int = 10**9) -> None:
        self.watch = Watch(agents, seed=seed)
        self.step, self.task = np.arange(agents) % LENGTH, np.ones(agents, dtype=np.int64)
        self.longer, self.longer_from = longer, longer_from

    def run(self, first: int, last: int, change=None) -> list[Assessment]:  # type: ignore[no-untyped-def]
        told = []
        for tick in range(first, last):
            values = self.watch.healthy()
            if change is not None:
                change(tick, values)
            sample = batch(tick, values)
            sample.step[:], sample.task_id[:] = self.step, self.task * 1000 + np.arange(len(values))
            told.append(self.watch.sentinel.observe(sample, at(tick)))
            self._go_on(tick)
        return told

    def _go_on(self, tick: int) -> None:
        lengths = np.full(len(self.step), LENGTH)
        if self.longer >= 0 and tick >= self.longer_from:
            lengths[self.longer] = 4 * LENGTH
        over = self.step + 1 >= lengths
        self.step, self.task = np.where(over, 0, self.step + 1), self.task + over


@functools.cache
def _warmed() -> Tasks:
    fleet = Tasks(4, seed=51)
    assert alarms(fleet.run(0, 150)) == set()
    return fleet


def learned_tasks() -> Tasks:
    """A copy of its own of a fleet that has worked on its tasks for 150 ticks without an alarm."""
    return copy.deepcopy(_warmed())


@pytest.mark.slow
def test_healthy_tasks_are_counted_and_give_no_alarm() -> None:
    fleet = learned_tasks()
    arena = fleet.watch.sentinel.arena
    assert (arena["ep_tasks"][:4] > 15).all()
    assert np.allclose(arena["ep_length"][:4], LENGTH, atol=0.5)


def test_a_task_ends_with_a_mark_of_idleness_too() -> None:
    watch = Watch(2, seed=53)
    for tick in range(60):
        if tick % 6 == 5:
            rest = SampleBatch.blank(2)
            rest.agent[:], rest.at_us[:], rest.status[:] = np.arange(2), at(tick), Status.IDLE
            watch.sentinel.observe(rest, at(tick))
        else:
            watch.sentinel.observe(batch(tick, watch.healthy()), at(tick))
    tasks, length = watch.sentinel.arena["ep_tasks"][:2], watch.sentinel.arena["ep_length"][:2]
    assert (tasks >= 6).all()
    assert np.allclose(length, LENGTH)


def test_shorter_and_cheaper_tasks_are_shown_and_harm_nobody() -> None:
    falling = episodes.WEIGHTS[1, 0, :, 0]
    assert falling[: episodes.OUTPUT].sum() == 0
    assert falling[episodes.OUTPUT] > 0
    assert episodes.WEIGHTS.sum() * len(episodes.PACES) <= 1.0001


@pytest.mark.slow
def test_tasks_that_run_and_wait_survive_a_snapshot_bit_for_bit() -> None:
    fleet, twin = Tasks(3, seed=54), Watch(3, seed=54)
    fleet.run(0, 78)
    stored = fleet.watch.sentinel.snapshot()
    twin.sentinel.restore(stored)
    assert twin.sentinel.snapshot() == stored
    watched = fleet.watch.sentinel
    for tick in range(78, 110):
        sample = batch(tick, fleet.watch.healthy())
        sample.step[:], sample.task_id[:] = fleet.step, fleet.task * 1000 + np.arange(3)
        a, b = watched.observe(sample, at(tick)), twin.sentinel.observe(sample, at(tick))
        fleet._go_on(tick)
        assert np.array_equal(a.nats, b.nats)
    assert watched.snapshot() == twin.sentinel.snapshot()


def lone(streams: int = 1) -> tuple[Block, Peers]:
    arena = Arena()
    arena.declare("count", np.float32, lead=(streams,))
    declare(arena, streams)
    tail.declare(arena, streams)
    arena.grow(1)
    peers = Peers(streams, streams)
    peers.grow(1)
    return Block(arena, slice(0, 1)), peers


def tail_after(values: list[float]) -> float:
    """Ln of the upward tail process after these standardised innovations."""
    block, peers = lone()
    yes, one = np.ones((1, 1), dtype=np.bool_), np.ones((1, 1), dtype=np.float32)
    lent = peers.lent(np.zeros(1, dtype=np.int32))
    for value in values:
        tail.advance(block, np.full((1, 1), value, dtype=np.float32), yes, yes[0], lent, one, np.float32(1e30))
    return float(np.log(block["sr"][0, TAIL_ROW, 0, 0]))


def test_a_sample_of_twenty_sigma_after_sixty_counts_for_far_more_than_one_of_four() -> None:
    usual = [0.5, -0.5] * 30
    assert tail_after([*usual, 20.0]) > tail_after([*usual, 4.0]) + 2.0
    assert tail_after([*usual, 4.0]) > tail_after([*usual, 2.9]) + 1.0


def test_an_agent_that_is_often_far_out_learns_to_make_nothing_of_it() -> None:
    rare, often = [0.0] * 200, [0.0, 0.0, 0.0, 5.0] * 50
    assert tail_after([*rare, 5.0]) > tail_after([*often, 5.0]) + 1.0


def test_the_tail_process_is_an_e_detector_under_the_heaviest_tail_it_is_stated_for() -> None:
    rng, agents, c = np.random.default_rng(55), 1500, 30.0
    arena = Arena()
    arena.declare("count", np.float32, lead=(1,))
    declare(arena, 1)
    tail.declare(arena, 1)
    arena.grow(agents)
    block, peers = Block(arena, slice(0, agents)), Peers(1, 1)
    peers.grow(1)
    yes, one, lent = np.ones((1, agents), dtype=np.bool_), np.ones((1, agents), dtype=np.float32), peers.lent(np.zeros(agents, dtype=np.int32))
    length = np.full(agents, 120)
    for t in range(1, 121):
        hit = rng.random((1, agents)) < 0.01
        z = np.where(hit, tail.EDGE * rng.random((1, agents)) ** (-1 / tail.INDEX), rng.random((1, agents))).astype(np.float32)
        tail.advance(block, z, yes, yes[0], lent, one, np.float32(1e30))
        length[(length == 120) & (block["sr"][0, TAIL_ROW, 0] >= c)] = t
    assert length.mean() >= c


def test_tools_used_again_and_again_within_one_task_that_never_ends_are_found() -> None:
    fleet = learned_tasks()

    def loop(tick: int, values: np.ndarray) -> None:
        values[3, TOOLS] = 2 + values[3, TOOLS] * 4
        fleet.step[3] = 2

    assert alarms(fleet.run(150, 190, loop)) == {3}
