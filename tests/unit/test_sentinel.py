"""What the sentinel promises of single agents: what is learned, what is scored, and what a fault looks like."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.vitals import SampleBatch, Status
from tests.unit.sentinel_fleet import CONTEXT, COST, ERRORS, INPUT, LATENCY, OUTPUT, RETRIES, TOOLS, Watch, alarms, at, batch, learned


def spike(agent: int, column: int, factor: float, start: int = 0):
    def change(tick: int, values: np.ndarray) -> None:
        if tick >= start:
            values[agent, column] *= factor

    return change


def test_a_young_agent_is_not_judged_before_the_policys_number_of_samples() -> None:
    early = Watch(3).run(0, 16)
    assert not early[13].ready.any()
    assert early[14].ready.all()
    assert (early[13].nats < 1).all()


@pytest.mark.parametrize(
    ("column", "factor", "vital"), [(LATENCY, 4.0, "latency_ms"), (OUTPUT, 5.0, "output_tokens"), (CONTEXT, 4.0, "context_tokens")]
)
def test_a_strong_fault_is_found_within_twenty_samples_and_named_by_its_vital(column: int, factor: float, vital: str) -> None:
    watch = learned()
    after = watch.run(200, 220, spike(5, column, factor))
    assert alarms(after) == {5}
    finding = after[-1].findings[0]
    assert (finding.agent, finding.alarm, finding.present) == (5, True, True)
    item = next(item for item in finding.evidence if item.vital == vital)
    assert item.direction == "up"
    assert item.ratio == pytest.approx(factor, rel=0.4)
    assert at(192) <= item.onset_us <= at(204)


def test_rare_counts_are_found_though_most_samples_are_zero() -> None:
    watch = learned()

    def storm(tick: int, values: np.ndarray) -> None:
        values[2, RETRIES] = [3, 1, 2, 4][tick % 4]
        values[6, ERRORS] = [1, 2, 0, 1][tick % 4]

    after = watch.run(200, 225, storm)
    assert alarms(after) == {2, 6}
    first = {finding.agent: finding.evidence[0].vital for finding in after[-1].findings}
    assert (first[2], first[6]) == ("retries", "errors")


def test_a_step_of_any_size_is_scored_against_the_past_and_not_learned_first() -> None:
    watch = learned()
    before = watch.sentinel.bands().expected[1, LATENCY]
    first = watch.run(200, 201, spike(1, LATENCY, 1e4))[0]
    assert first.nats[1] > watch.run(201, 202)[0].nats[0]
    watch.run(202, 210, spike(1, LATENCY, 1e4))
    assert watch.sentinel.bands().expected[1, LATENCY] == pytest.approx(before, rel=0.1)


def test_evidence_goes_away_within_a_minute_after_the_symptoms_end() -> None:
    watch = learned()
    assert alarms(watch.run(200, 260, spike(3, LATENCY, 5.0))) == {3}
    after = watch.run(260, 320)
    assert alarms(after[-20:]) == set()
    assert not any(finding.present for finding in after[-1].findings)


@pytest.mark.fault("F28")
def test_missing_vitals_are_no_samples_and_never_zero() -> None:
    whole, holes = learned(3, 60), Watch(3, seed=3)

    def without_cost(tick: int, values: np.ndarray) -> None:
        values[:, COST] = np.nan
        values[1, INPUT] = np.nan

    last = holes.run(0, 60, without_cost)[-1]
    assert alarms([last]) == set()
    assert np.isnan(holes.sentinel.bands().expected[:, COST]).all()
    assert np.isnan(holes.sentinel.bands().expected[1, INPUT])
    assert holes.sentinel.bands().expected[0, LATENCY] == whole.sentinel.bands().expected[0, LATENCY]


def test_one_missing_sample_changes_no_baseline_beyond_its_own_stream() -> None:
    whole, hole = learned(3, 60), Watch(3, seed=3)

    def once(tick: int, values: np.ndarray) -> None:
        if tick == 40:
            values[0, OUTPUT] = np.nan

    hole.run(0, 60, once)
    a, b = whole.sentinel.bands().expected, hole.sentinel.bands().expected
    assert np.array_equal(a[1], b[1])
    assert a[0, LATENCY] == b[0, LATENCY]
    assert a[0, OUTPUT] != b[0, OUTPUT]


def test_held_agents_learn_nothing_and_resumed_ones_do() -> None:
    watch = learned(3, 60)
    watch.sentinel.hold([1])
    before = watch.sentinel.bands().expected.copy()
    watch.run(60, 70)
    during = watch.sentinel.bands().expected.copy()
    watch.sentinel.resume([1])
    watch.run(70, 80)
    assert np.array_equal(before[1], during[1])
    assert not np.array_equal(before[0], during[0])
    assert not np.array_equal(during[1], watch.sentinel.bands().expected[1])


def test_restart_judges_on_fresh_samples_and_rebase_takes_the_present_for_normal() -> None:
    watch = learned()
    change = spike(0, LATENCY, 4.0)
    assert alarms(watch.run(200, 225, change)) == {0}
    watch.sentinel.restart([0])
    assert alarms(watch.run(225, 226, change)) == set()
    assert alarms(watch.run(226, 260, change)) == {0}
    watch.sentinel.rebase([0])
    new = watch.run(260, 320, change)
    assert alarms(new) == set()
    assert not new[5].ready[0]
    assert new[-1].ready[0]


def test_repeated_vitals_are_stuck() -> None:
    watch = learned()
    held = watch.healthy()

    def freeze(tick: int, values: np.ndarray) -> None:
        values[2] = held[2]

    after = watch.run(200, 215, freeze)
    assert alarms(after) == {2}
    assert "stuck" in {item.direction for item in after[-1].findings[0].evidence}


@pytest.mark.fault("F29")
def test_an_agent_that_stops_is_silent_and_one_that_said_idle_is_not() -> None:
    watch = learned(3, 60)
    last = batch(60, watch.healthy())
    last.status[1] = Status.IDLE
    watch.sentinel.observe(last, at(60))
    quiet = None
    for tick in range(61, 85):
        quiet = watch.sentinel.observe(batch(tick, watch.healthy()[2:], np.array([2])), at(tick))
    assert quiet is not None
    assert quiet.silent.tolist() == [True, False, False]
    assert quiet.idle.tolist() == [False, True, False]
    finding = quiet.findings[0]
    assert (finding.agent, finding.alarm, finding.present, finding.evidence[0].direction) == (0, True, True, "silent")


@pytest.mark.fault("F24")
def test_while_nobody_listened_nobody_was_silent_and_the_pause_teaches_nothing() -> None:
    watch, empty = learned(3, 60), SampleBatch.empty()
    usual = watch.sentinel.arena["gap_mean"][:3].copy()
    watch.sentinel.wake(at(4000))
    assert not watch.sentinel.observe(empty, at(4005)).silent.any()
    assert watch.sentinel.observe(empty, at(4030)).silent.all(), "from when it was listened again, silence is silence"
    watch.run(4031, 4032)
    assert np.array_equal(watch.sentinel.arena["gap_mean"][:3], usual)
    twin = learned(3, 60).sentinel
    twin.restore(watch.sentinel.snapshot())
    assert np.array_equal(twin.observe(empty, at(4035)).nats, watch.sentinel.observe(empty, at(4035)).nats)


def test_a_retired_agent_is_never_silent_until_it_sends_again() -> None:
    watch = learned(3, 60)
    watch.sentinel.retire([0])
    empty = SampleBatch.empty()
    assert watch.sentinel.observe(empty, at(200)).silent.tolist() == [False, True, True]
    watch.run(200, 201)
    assert watch.sentinel.observe(empty, at(300)).silent.tolist() == [True, True, True]


def test_a_heartbeat_is_a_sign_of_life_and_nothing_else() -> None:
    watch = learned(3, 60)
    before = watch.sentinel.observe(SampleBatch.empty(), at(60)).samples.copy()
    for tick in range(60, 120):
        beat = batch(tick, np.full((3, len(watch.healthy()[0])), np.nan))
        watch.sentinel.observe(beat, at(tick))
    after = watch.sentinel.observe(SampleBatch.empty(), at(120))
    assert np.array_equal(before, after.samples)
    assert not after.silent.any()


def test_a_changed_fact_shortly_before_the_onset_is_part_of_the_finding() -> None:
    watch = learned()
    old, new = watch.lexicon.code("prompt-a"), watch.lexicon.code("prompt-b")
    found = None
    for tick in range(200, 235):
        values = watch.healthy()
        values[1, OUTPUT] *= 4 if tick >= 210 else 1
        sample = batch(tick, values)
        sample.codes[:, 3] = old
        sample.codes[1, 3] = new if tick >= 205 else old
        found = watch.sentinel.observe(sample, at(tick))
    assert found is not None
    assert found.findings[0].changed == (("prompt_hash", "prompt-a", "prompt-b", at(205)),)


def test_tool_calls_of_three_times_the_usual_are_a_symptom() -> None:
    watch = learned()

    def loop(tick: int, values: np.ndarray) -> None:
        values[4, TOOLS] = values[4, TOOLS] * 4 + 2

    after = watch.run(200, 240, loop)
    assert alarms(after) == {4}
    assert after[-1].findings[0].evidence[0].vital == "tool_calls"
