"""What befalls a fleet: drawn by rule and seed, visible in behaviour, written down under seal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core.vitals import CONTEXT_FIELDS, Status
from immune.errors import InputError, RefusedError
from simulation.agents import counts_of_kinds, draw_cast
from simulation.chaos import ChaosPlan, draw_schedule
from simulation.infections import FOREIGN_TOOLS, INFECTION_KINDS, RAMP_S, STRENGTHS, STRONG, SYMPTOMS
from simulation.scenario import load_scenario, read_scenario, scenario_names

CAST = draw_cast(7, counts_of_kinds(15))
SEEDS = range(40)
TOOL, PROMPT = CONTEXT_FIELDS.index("tool"), CONTEXT_FIELDS.index("prompt_hash")


# The schedule


@pytest.mark.parametrize("seed", SEEDS)
def test_half_an_hour_has_six_to_eight_infections_most_of_them_strong_each_on_its_own_agent(seed):
    drawn = draw_schedule(seed, 1800.0, CAST).infections
    assert 6 <= len(drawn) <= 8
    assert len({planned.agent for planned in drawn}) == len(drawn)
    assert sum(planned.kind in STRONG for planned in drawn) > len(drawn) / 2
    assert all(0 < planned.at_s <= 1800 - 120 for planned in drawn)
    assert all(120 <= planned.duration_s <= 600 for planned in drawn)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_infections_never_begin_within_ninety_seconds_in_half_an_hour(seed):
    onsets = sorted(planned.at_s for planned in draw_schedule(seed, 1800.0, CAST).infections)
    assert min(np.diff(onsets)) >= 89.9


@pytest.mark.parametrize("seed", SEEDS)
def test_no_infection_begins_while_an_outage_would_hide_it(seed):
    drawn = draw_schedule(seed, 1800.0, CAST)
    for outage in drawn.outages:
        assert not any(outage.at_s - 119 < planned.at_s < outage.at_s + outage.duration_s + 89 for planned in drawn.infections)


def test_over_many_seeds_every_kind_befalls_someone_and_half_the_runs_have_an_outage():
    drawn = [draw_schedule(seed, 1800.0, CAST) for seed in range(200)]
    assert {planned.kind for schedule in drawn for planned in schedule.infections} == set(SYMPTOMS)
    assert 0.4 < np.mean([len(schedule.outages) for schedule in drawn]) < 0.6
    assert {outage.field for schedule in drawn for outage in schedule.outages} == {"provider", "service", "share"}
    assert any(outage.stagger_s for schedule in drawn for outage in schedule.outages)


@given(st.integers(0, 2**32), st.sampled_from([20.0, 60.0, 240.0, 299.0]))
def test_a_short_run_has_two_or_three_strong_infections_in_its_first_part_that_stay(seed, duration_s):
    drawn = draw_schedule(seed, duration_s, CAST)
    assert 2 <= len(drawn.infections) <= 3
    assert len({planned.agent for planned in drawn.infections}) == len({planned.kind for planned in drawn.infections}) == len(drawn.infections)
    assert all(planned.kind in STRONG and 0 < planned.at_s < 0.41 * duration_s and planned.end_s > duration_s for planned in drawn.infections)
    assert drawn.outages == ()


@given(st.integers(0, 2**32), st.floats(300.0, 20_000.0), st.integers(1, 40), st.floats(0.0, 4.0))
def test_nobody_falls_ill_while_ill_or_within_ten_minutes_of_it(seed, duration_s, agents, rate):
    cast = draw_cast(1, counts_of_kinds(agents))
    drawn = draw_schedule(seed, duration_s, cast, ChaosPlan(rate=rate, outage="always"))
    free_from = dict.fromkeys(cast.ids, -math.inf)
    for planned in sorted(drawn.infections, key=lambda planned: planned.at_s):
        assert planned.at_s >= free_from[planned.agent]
        free_from[planned.agent] = planned.end_s + 600
        low, high = STRENGTHS[planned.kind]
        assert low <= planned.strength <= high
        assert 0 <= planned.at_s <= duration_s - 119


def test_a_schedule_depends_on_its_seed_alone():
    assert draw_schedule(5, 1800.0, CAST) == draw_schedule(5, 1800.0, CAST)
    assert draw_schedule(5, 1800.0, CAST) != draw_schedule(6, 1800.0, CAST)


def test_the_first_half_hour_of_an_endless_world_is_not_its_last_trouble(bench):
    endless = bench(scenario="default", duration_s=None, agents=3, seed=4)
    endless.fleet._ward.advance(endless.fleet.start_us)
    endless.fleet._tick = 5 * 1800
    endless.fleet._plan_ahead()
    assert endless.fleet._windows == 6


# What it looks like

SIZES = {
    "token_explosion": ("coder-01", "output_tokens", 5.0, (4.0, 6.3)),
    "latency_spike": ("coder-02", "latency_ms", 4.0, (3.3, 4.8)),
    "prompt_drift": ("coder-03", "output_tokens", 1.6, (1.3, 2.0)),
}
BURSTS = {"retry_storm": ("coder-04", "retries", 2.5), "error_burst": ("coder-05", "errors", 1.2)}


@pytest.fixture(scope="module")
def ward(bench, infection):
    """One world in which five agents are ill in five ways, each from the 200th second on, and what was said before and after it."""
    strengths = {kind: (agent, strength) for kind, (agent, _, strength, *_) in (SIZES | BURSTS).items()}
    made = bench(seed=2, infections="".join(infection(kind, agent=agent, strength=strength) for kind, (agent, strength) in strengths.items()))
    return made, made.run(200), made.run(300)


@pytest.mark.parametrize("kind", SIZES)
def test_a_size_is_multiplied_by_the_strength(ward, kind):
    agent, vital, _, (low, high) = SIZES[kind]
    made, before, during = ward
    ratio = np.exp(np.log(made.vital(during, agent, vital)).mean() - np.log(made.vital(before, agent, vital)).mean())
    assert low < ratio < high


@pytest.mark.parametrize("kind", BURSTS)
def test_a_burst_of_rare_counts_is_poisson_with_the_strength_as_its_rate(ward, kind):
    agent, vital, strength = BURSTS[kind]
    made, _, during = ward
    counts = made.vital(during, agent, vital)
    assert len(counts) > 100
    assert abs(counts.mean() - strength) < 4 * math.sqrt(strength / len(counts))
    assert 0.7 < counts.var() / counts.mean() < 1.35


def test_a_tool_loop_repeats_its_step_with_one_tool_and_many_calls(bench, infection):
    made = bench(seed=2, infections=infection("tool_loop", strength=4))
    before, during = made.run(200), made.run(200)
    during = made.of(during, "coder-01")
    during = during.take(during.status == Status.WORKING)
    assert len(set(during.step[10:].tolist())) == 1
    assert len(set(during.task_id[10:].tolist())) == 1
    assert set(made.words(during, "coder-01", TOOL)[10:]) <= {"", made.words(during, "coder-01", TOOL)[-1]}
    assert made.vital(during, "coder-01", "tool_calls").mean() > 3 * made.vital(before, "coder-01", "tool_calls").mean()


def test_a_stalled_agent_says_nothing_not_even_that_it_is_idle(bench, infection):
    made = bench(seed=2, infections=infection("silent_stall", at_s=50, duration_s=100))
    assert len(made.of(made.run(50), "coder-01")) == 50
    assert len(made.of(made.run(100), "coder-01")) == 0
    assert len(made.of(made.run(50), "coder-01")) == 50


def test_a_frozen_agent_says_the_same_again_and_again(bench, infection):
    made = bench(seed=2, infections=infection("frozen", at_s=50))
    made.run(60)
    rows = made.of(made.run(100), "coder-01").values
    assert len(rows) == 100
    assert (rows == rows[0]).all()


def test_a_leak_grows_to_its_strength_in_ten_minutes_and_is_not_reset_between_tasks(bench, infection):
    well = bench(seed=2, period_s=5)
    ill = bench(seed=2, period_s=5, infections=infection("context_leak", at_s=0, duration_s=2000, strength=2.0))
    extra = ill.vital(ill.run(140), "coder-01", "context_tokens") - well.vital(well.run(140), "coder-01", "context_tokens")
    assert (np.diff(extra) >= -1).all()
    normal = well.fleet._effects.normal_context(0)
    assert extra[len(extra) * 6 // 7] == pytest.approx(normal, rel=0.1)


def test_creeping_cost_changes_the_price_and_nothing_else(bench, infection):
    well, ill = bench(seed=2, period_s=5), bench(seed=2, period_s=5, infections=infection("cost_creep", at_s=0, duration_s=2000, strength=2.0))
    before, after = well.run(int(RAMP_S) // 5 + 1), ill.run(int(RAMP_S) // 5 + 1)
    for vital in ("output_tokens", "latency_ms", "input_tokens"):
        assert (well.vital(before, "coder-01", vital) == ill.vital(after, "coder-01", vital)).all()
    ratio = ill.vital(after, "coder-01", "cost_usd") / well.vital(before, "coder-01", "cost_usd")
    assert ratio[0] == pytest.approx(1.0, abs=0.03)
    assert ratio[-1] == pytest.approx(2.0, rel=0.02)


def test_collapsed_confidence_is_what_the_strength_says(bench, infection):
    made = bench(seed=2, infections=infection("confidence_collapse", at_s=0, strength=0.4))
    assert made.vital(made.run(200), "coder-01", "confidence").mean() == pytest.approx(0.4, abs=0.02)


def test_an_injected_prompt_reaches_for_a_foreign_tool_says_more_and_is_less_sure(bench, infection):
    made = bench(seed=2, infections=infection("prompt_injection", strength=2.0))
    before, during = made.run(200), made.run(200)
    assert not set(made.words(before, "coder-01", TOOL)) & set(FOREIGN_TOOLS)
    assert set(made.words(during, "coder-01", TOOL)) - {""} <= set(FOREIGN_TOOLS)
    for vital, ratio in (("output_tokens", 1.5), ("tool_calls", 1.5)):
        assert made.vital(during, "coder-01", vital).mean() > ratio * made.vital(before, "coder-01", vital).mean()
    assert made.vital(during, "coder-01", "confidence").mean() < made.vital(before, "coder-01", "confidence").mean() - 0.15


def test_an_injected_prompt_changes_its_hash_for_some_and_not_for_others(bench, infection):
    changed = []
    for seed in range(8):
        made = bench(seed=seed, agents=4, infections=infection("prompt_injection", at_s=10))
        changed.append(len(set(made.words(made.run(30), "coder-01", PROMPT))) > 1)
    assert True in changed
    assert False in changed


def test_an_infection_that_ended_leaves_no_trace_in_the_numbers(bench, infection):
    well, ill = bench(seed=2), bench(seed=2, infections=infection("latency_spike", at_s=50, duration_s=50))
    for ticks, same in ((50, True), (50, False), (50, True)):
        before, after = well.run(ticks), ill.run(ticks)
        assert np.array_equal(before.values, after.values, equal_nan=True) is same


# Shared causes


def outage(**parts):
    given_parts = {"at_s": 100, "duration_s": 100, "field": "'provider'", "value": "'north'", "ratio": 4.0, **parts}
    return "[chaos]\nrate = 0\noutage = 'none'\n[[outage]]\n" + "\n".join(f"{key} = {value}" for key, value in given_parts.items())


def latency_ratios(made, well, ticks):
    during, normal = made.run(ticks), well.run(ticks)
    return {a: np.median(made.vital(during, a, "latency_ms") / well.vital(normal, a, "latency_ms")) for a in made.fleet.cast.ids}


def test_an_outage_slows_its_members_and_nobody_else_and_then_lets_go(bench):
    made, well = bench(seed=2, scenario=read_scenario(outage())), bench(seed=2)
    members = {made.fleet.cast.ids[index] for index in made.fleet.cast.members("provider", "north")}
    assert 0 < len(members) < 15
    assert set(latency_ratios(made, well, 100).values()) == {1.0}
    assert all(ratio == pytest.approx(4.0 if agent in members else 1.0, rel=0.01) for agent, ratio in latency_ratios(made, well, 100).items())
    assert set(latency_ratios(made, well, 100).values()) == {1.0}


def test_a_staggered_outage_reaches_its_members_one_after_the_other(bench):
    made = bench(seed=2, agents=60, scenario=read_scenario(outage(field="'share'", value=0.3, stagger_s=80)))
    made.run(250)
    made.fleet.truth.unseal()
    (label,) = made.fleet.truth.labels()
    assert len(label.agents) == len(set(label.agents)) == 18
    assert label.onset_us == min(label.reached_us)
    assert 50 < (max(label.reached_us) - min(label.reached_us)) / 1e6 <= 80
    assert label.cause == "share 0.3"


def test_an_outage_can_bring_errors_and_an_agent_that_was_ill_stays_ill_after_it(bench, infection):
    ill = infection("latency_spike", agent="coder-05", at_s=50, duration_s=1000, strength=3)
    made, well = bench(seed=2, scenario=read_scenario(outage(error_rate=1.0) + "\n" + ill)), bench(seed=2)
    assert made.fleet.cast.provider(4) == well.fleet.cast.provider(4)
    made.run(100), well.run(100)
    during = made.run(100)
    errors = [made.vital(during, made.fleet.cast.ids[index], "errors").mean() for index in made.fleet.cast.members("provider", "north")]
    assert min(errors) > 0.5
    well.run(100)
    assert latency_ratios(made, well, 100)["coder-05"] == pytest.approx(3.0, rel=0.01)


# The seal


def test_labels_are_sealed_until_somebody_breaks_the_seal_and_then_the_world_stands_still(bench, infection):
    made = bench(seed=2, infections=infection("tool_loop", at_s=10, duration_s=20))
    made.run(5)
    with pytest.raises(RefusedError):
        made.fleet.truth.labels()
    made.run(50)
    made.fleet.truth.unseal()
    (label,) = made.fleet.truth.labels()
    assert (label.kind, label.agents, label.cured_by, label.relapse) == ("tool_loop", ("coder-01",), "", False)
    assert (label.onset_us, label.ended_us) == (made.fleet.start_us + 10_000_000, made.fleet.start_us + 30_000_000)
    with pytest.raises(RefusedError):
        made.run(1)


def test_what_had_not_begun_by_the_end_is_not_in_the_record(bench, infection):
    made = bench(seed=2, infections=infection("tool_loop", at_s=10) + infection("frozen", agent="coder-02", at_s=100))
    made.run(50)
    made.fleet.truth.unseal()
    assert [(label.kind, label.ended_us) for label in made.fleet.truth.labels()] == [("tool_loop", None)]


def test_infections_count_from_the_end_of_the_warm_up(bench, infection):
    made = bench(seed=2, warmup_s=100.0, infections=infection("silent_stall", at_s=10, duration_s=50))
    assert len(made.of(made.run(200), "coder-01")) == 150


def test_flipped_labels_leave_the_behaviour_as_it_was(bench):
    honest, flipped = bench(seed=8, scenario="calm"), bench(seed=8, scenario="storm", duration_s=100.0, mislabel=True)
    before, after = honest.run(100), flipped.run(100)
    assert np.array_equal(before.values, after.values, equal_nan=True)
    flipped.fleet.truth.unseal()
    assert len(flipped.fleet.truth.labels()) >= 3


def test_unlabelled_trouble_is_trouble_without_a_record(bench):
    calm, known, unknown = (
        bench(seed=8, scenario=scenario, duration_s=100.0, unlabelled=unlabelled)
        for scenario, unlabelled in (("calm", False), ("storm", False), ("storm", True))
    )
    quiet, before, after = calm.run(100), known.run(100), unknown.run(100)
    assert np.array_equal(before.values, after.values, equal_nan=True)
    assert not np.array_equal(quiet.values, after.values, equal_nan=True)
    unknown.fleet.truth.unseal()
    assert unknown.fleet.truth.labels() == ()


# Scenario files


def test_every_scenario_that_ships_can_be_read_and_run(bench):
    assert set(scenario_names()) >= {"default", "calm", "outage", "storm", "no_cure"}
    for name in scenario_names():
        scenario = load_scenario(name)
        assert scenario.name == name
        assert scenario.summary
        assert len(bench(scenario=scenario).run(2)) == 30


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nonsense", "scenario"),
        ("colour = 1", "colour"),
        ("[fleet]\nplumber = 1", "fleet.plumber"),
        ("[fleet]\ncoder = -1", "fleet.coder"),
        ("fleet = 3", "fleet"),
        ("[services]\nnames = []", "services.names"),
        ("[chaos]\nrate = 'much'", "chaos.rate"),
        ("[chaos]\nrate = nan", "chaos.rate"),
        ("[chaos]\noutage = 'maybe'", "chaos.outage"),
        ("[chaos]\nends_by_itself = 1", "chaos.ends_by_itself"),
        ("[cures]\nwrong = 1.5", "cures.wrong"),
        ("[cures]\nwrong = 0.6\nhalf = 0.6", "cures.wrong + half + relapse"),
        ("infection = 3", "infection"),
        ("[[infection]]\nagent = 'coder-01'\nkind = 'flu'\nat_s = 1", "infection[0].kind"),
        ("[[infection]]\nagent = 'coder-01'\nkind = 'shared_outage'\nat_s = 1", "infection[0].kind"),
        ("[[infection]]\nkind = 'frozen'\nat_s = 1", "infection[0].agent"),
        ("[[infection]]\nagent = 'a'\nkind = 'frozen'\nat_s = -1", "infection[0].at_s"),
        ("[[infection]]\nagent = 'a'\nkind = 'latency_spike'\nat_s = 1\nstrength = 99", "infection[0].strength"),
        (outage(field="'mood'"), "outage[0].field"),
        (outage(stagger_s=1000), "outage[0].stagger_s"),
        (outage(ratio=0.5), "outage[0].ratio"),
        (outage(field="'share'", value=2), "outage[0].value"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_field(text, field):
    with pytest.raises(InputError) as caught:
        read_scenario(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "field"),
    [("[[infection]]\nagent = 'coder-77'\nkind = 'frozen'\nat_s = 1", "infection[0].agent"), (outage(value="'moon'"), "outage[0].value")],
)
def test_a_scenario_that_does_not_fit_its_fleet_is_refused_with_its_field(bench, text, field):
    with pytest.raises(InputError) as caught:
        bench(scenario=read_scenario(text))
    assert caught.value.field == field


def test_there_are_as_many_symptoms_as_kinds_but_for_the_shared_one():
    assert set(SYMPTOMS) == set(INFECTION_KINDS) - {"shared_outage"}
