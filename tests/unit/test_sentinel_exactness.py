"""Equal inputs give equal outputs, however they are cut, ordered, grown, stored and loaded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immune.core.intake import Intake
from immune.core.sentinel.watch import Sentinel
from immune.core.vitals import SampleBatch, VitalSchema
from immune.errors import InputError
from tests.unit.sentinel_fleet import LATENCY, SCHEMA, US, Watch, at, batch, learned


def test_the_same_samples_give_the_same_judgement_twice() -> None:
    a, b = Watch(5, seed=21), Watch(5, seed=21)
    for first, second in zip(a.run(0, 40), b.run(0, 40), strict=True):
        assert np.array_equal(first.nats, second.nats)
        assert first.findings == second.findings
    assert a.sentinel.snapshot() == b.sentinel.snapshot()


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_agents_in_a_batch_changes_nothing(seed: int, shuffle) -> None:  # type: ignore[no-untyped-def]
    straight, mixed = Watch(6, seed=seed), Watch(6, seed=seed)
    for tick in range(30):
        values = straight.healthy()
        order = list(range(6))
        shuffle.shuffle(order)
        straight.sentinel.observe(batch(tick, values), at(tick))
        mixed.sentinel.observe(batch(tick, values).take(np.array(order)), at(tick))
    assert straight.sentinel.snapshot() == mixed.sentinel.snapshot()


def test_several_samples_of_an_agent_in_one_batch_equal_batches_one_after_the_other() -> None:
    one, many = Watch(4, seed=22), Watch(4, seed=22)
    for start in range(0, 36, 3):
        parts = [batch(tick, one.healthy()) for tick in range(start, start + 3)]
        for part in parts:
            one.sentinel.observe(part, at(start + 2))
        together = many.sentinel.observe(SampleBatch.concatenate(parts), at(start + 2))
        assert together.samples.tolist() == [start + 3] * 4
    assert one.sentinel.snapshot() == many.sentinel.snapshot()


def test_a_snapshot_restored_goes_on_bit_for_bit() -> None:
    watch, twin = Watch(5, seed=23), Watch(5, seed=23)

    def fault(tick: int, values: np.ndarray) -> None:
        values[2, LATENCY] *= 5 if tick >= 60 else 1

    watch.run(0, 66, fault)
    stored = watch.sentinel.snapshot()
    twin.rng = np.random.default_rng(0)
    twin.sentinel.restore(stored)
    assert twin.sentinel.snapshot() == stored
    for tick in range(66, 100):
        values = watch.healthy()
        fault(tick, values)
        a, b = watch.sentinel.observe(batch(tick, values), at(tick)), twin.sentinel.observe(batch(tick, values), at(tick))
        assert np.array_equal(a.nats, b.nats)
        assert a.findings == b.findings
    assert watch.sentinel.snapshot() == twin.sentinel.snapshot()


def test_a_roster_that_grows_during_the_run_equals_one_that_was_full_from_the_start() -> None:
    full, growing = Watch(40, seed=24), Watch(40, seed=24, enrolled=3)
    last = None
    for tick in range(40):
        values = full.healthy()
        present = np.arange(3 if tick < 20 else 40)
        if tick == 20:
            for index in range(3, 40):
                growing.enroll(index)
        sample = batch(tick, values[present], present)
        last = full.sentinel.observe(sample, at(tick)), growing.sentinel.observe(sample, at(tick))
    assert last is not None
    assert np.array_equal(last[0].nats, last[1].nats)
    assert np.array_equal(full.sentinel.bands().expected, growing.sentinel.bands().expected, equal_nan=True)


def test_absent_agents_do_not_disturb_present_ones() -> None:
    alone, beside = Watch(6, seed=25, types=6), Watch(6, seed=25, types=6)
    for tick in range(36):
        values = alone.healthy()
        some = np.array([0, 2, 5])
        alone.sentinel.observe(batch(tick, values[some], some), at(tick))
        beside.sentinel.observe(batch(tick, values), at(tick))
    a, b = alone.sentinel.bands().expected, beside.sentinel.bands().expected
    assert np.array_equal(a[[0, 2, 5]], b[[0, 2, 5]])


def test_a_snapshot_for_other_vitals_or_of_another_version_is_refused_and_says_what_to_do() -> None:
    watch = learned(3, 60)
    stored = watch.sentinel.snapshot()
    other = Sentinel(
        roster=watch.roster,
        lexicon=watch.lexicon,
        schema=VitalSchema.with_extra(["tokens_cached"]),
        policy=watch.sentinel.policy,
        period_us=1_000_000,
    )
    assert other.layout != watch.sentinel.layout
    for content in (stored, stored.replace(watch.sentinel.layout.encode(), b"0123456789ab", 1), b"", b"[]\n", b"nonsense"):
        with pytest.raises(InputError) as refused:
            other.restore(content)
        assert refused.value.field == "snapshot"
        assert refused.value.way_out
    watch.sentinel.restore(stored)
    assert watch.sentinel.snapshot() == stored


def test_facts_that_change_are_told_once_with_their_time() -> None:
    watch = learned(3, 60)
    old, new = watch.lexicon.code("v1"), watch.lexicon.code("v2")
    told = []
    for tick in range(60, 64):
        sample = batch(tick, watch.healthy())
        sample.codes[:, 2] = old
        sample.codes[1, 2] = new if tick >= 62 else old
        told.append(watch.sentinel.observe(sample, at(tick)).facts)
    assert told == [(), (), ((1, "version", "v1", "v2", at(62)),), ()]


def test_a_fault_after_sixty_samples_does_not_pass_for_what_is_usual() -> None:
    watch = Watch(12, seed=4)
    watch.run(0, 64)
    usual = watch.sentinel.arena["spread2"][0, 4].copy(), watch.sentinel.arena["level"][0, 4].copy()

    def slower(tick: int, values: np.ndarray) -> None:
        values[4, LATENCY] *= 2.6

    found = watch.run(64, 110, slower)
    spread2, level = watch.sentinel.arena["spread2"][0, 4], watch.sentinel.arena["level"][0, 4]
    assert spread2 < 1.5 * usual[0], "what the jump taught before it was doubted is taken back"
    assert level < usual[1] + 0.25 * np.log(2.6)
    assert 4 in {finding.agent for finding in found[-1].findings if finding.alarm}


def test_a_refused_sample_leaves_what_a_missing_one_leaves() -> None:
    begun = Watch(6, seed=8)
    screen = Intake(begun.roster, SCHEMA, max_skew_us=US)
    for tick in range(48):
        begun.sentinel.observe(screen.screen(batch(tick, begun.healthy()), at(tick)).batch, at(tick))

    def snapshots(value: float | None) -> bytes:
        watch, intake = copy.deepcopy((begun, screen))
        for tick in range(48, 70):
            told = batch(tick, watch.healthy())
            if tick == 50:
                if value is None:
                    told = told.take(told.agent != 2)
                else:
                    told.values[2, LATENCY] = value
            watch.sentinel.observe(intake.screen(told, at(tick)).batch, at(tick))
        return watch.sentinel.snapshot()

    missing = snapshots(None)
    assert all(snapshots(value) == missing for value in (np.inf, -np.inf, 1e30, -1.0))
