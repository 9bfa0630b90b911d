"""Healthy agents: deterministic, task by task, and within sane bounds."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from immune.core.vitals import CONTEXT_FIELDS, VITALS, SampleBatch, Status
from immune.errors import InputError, RefusedError, UnknownIdError
from simulation.agents import KINDS, counts_of_kinds
from simulation.fleet import SimulatedFleet

ARRAYS = ("agent", "at_us", "values", "step", "status", "task_id", "codes")


def digest(batch: SampleBatch) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(getattr(batch, name)).tobytes() for name in ARRAYS)).hexdigest()


def digest_of_a_storm() -> str:
    from tests.simulation.conftest import Bench

    return digest(Bench(scenario="storm", seed=11, duration_s=100.0).run(100))


def test_another_seed_gives_another_life(bench):
    assert digest(bench(seed=1).run(50)) != digest(bench(seed=2).run(50))


def test_ticks_collected_late_and_together_are_the_same_ticks(bench):
    one_by_one, at_once = bench(seed=5), bench(seed=5)
    each = one_by_one.run(40)
    assert digest(at_once.fleet.advance(one_by_one.fleet.now_us)) == digest(each)


def test_a_machine_that_slept_for_a_day_does_not_make_up_for_it(bench):
    slept = bench(seed=5)
    slept.run(1)
    assert len(slept.fleet.advance(slept.fleet.now_us + 86_400 * 1_000_000)) <= 15 * 300


def test_what_befalls_some_agents_does_not_touch_the_others(bench, infection):
    healthy, struck = bench(seed=9), bench(seed=9, infections="".join(infection(k, agent=a, at_s=20) for k, a in SOME_INFECTIONS))
    before, after = healthy.run(120), struck.run(120)
    for agent_id in healthy.fleet.cast.ids:
        same = digest(healthy.of(before, agent_id)) == digest(struck.of(after, agent_id))
        assert same is (agent_id not in {agent for _, agent in SOME_INFECTIONS})


SOME_INFECTIONS = (
    ("token_explosion", "coder-02"),
    ("silent_stall", "support-01"),
    ("tool_loop", "planner-01"),
    ("prompt_injection", "researcher-03"),
)


def test_containing_one_agent_does_not_touch_the_others(bench):
    free, contained = bench(seed=9), bench(seed=9)
    contained.fleet.set_level("coder-03", "isolated")
    before, after = free.run(100), contained.run(100)
    assert all((digest(free.of(before, a)) == digest(contained.of(after, a))) is (a != "coder-03") for a in free.fleet.cast.ids)


def test_each_agent_says_one_thing_a_tick_and_never_before_its_last(calm_run):
    bench, batch = calm_run
    assert len(batch) == 15 * 1800
    for agent_id in bench.fleet.cast.ids:
        assert (np.diff(bench.of(batch, agent_id).at_us) > 0).all()


def test_a_heartbeat_has_a_status_and_nothing_else(calm_run):
    _, batch = calm_run
    idle = batch.take(batch.status == Status.IDLE)
    assert 0.05 < len(idle) / len(batch) < 0.35
    assert np.isnan(idle.values).all()
    assert (idle.codes == -1).all()
    assert (idle.task_id == 0).all()
    assert (idle.step == -1).all()


def test_a_worked_step_says_every_vital(calm_run):
    _, batch = calm_run
    worked = batch.take(batch.status == Status.WORKING)
    assert not np.isnan(worked.values).any()
    assert (worked.task_id > 0).all()
    assert (worked.step >= 0).all()
    integers = [place for place, spec in enumerate(VITALS) if spec.integer]
    assert (worked.values[:, integers] % 1 == 0).all()


def test_steps_count_up_within_a_task_and_start_again_at_the_next(calm_run):
    bench, batch = calm_run
    own = bench.of(batch, "researcher-02")
    own = own.take(own.status == Status.WORKING)
    same_task = np.diff(own.task_id) == 0
    assert (np.diff(own.step)[same_task] == 1).all()
    assert (own.step[1:][~same_task] == 0).all()
    assert (~same_task).sum() > 20


@pytest.mark.parametrize("agent_id", ["coder-01", "researcher-01", "support-01", "planner-01"])
def test_context_grows_within_a_task_and_falls_back_at_the_next(calm_run, agent_id):
    bench, batch = calm_run
    own = bench.of(batch, agent_id)
    own = own.take(own.status == Status.WORKING)
    change = np.diff(bench.vital(batch, agent_id, "context_tokens"))
    same_task = np.diff(own.task_id) == 0
    assert (change[same_task] > 0).all()
    assert np.median(change[~same_task]) < -3 * np.median(change[same_task])


BOUNDS = {
    "coder": {"latency_ms": (2_000, 20_000), "output_tokens": (250, 1_000), "cost_usd": (0.005, 0.15), "context_tokens": (8_000, 40_000)},
    "researcher": {"latency_ms": (2_000, 20_000), "output_tokens": (250, 1_300), "cost_usd": (0.005, 0.15), "context_tokens": (6_000, 40_000)},
    "support": {"latency_ms": (500, 5_000), "output_tokens": (80, 350), "cost_usd": (0.0005, 0.03), "context_tokens": (1_500, 8_000)},
    "planner": {"latency_ms": (1_500, 20_000), "output_tokens": (350, 1_600), "cost_usd": (0.001, 0.08), "context_tokens": (3_000, 16_000)},
}


def test_medians_of_each_kind_are_within_sane_bounds(calm_run):
    bench, batch = calm_run
    for agent_id in bench.fleet.cast.ids:
        for vital, (low, high) in BOUNDS[agent_id.rpartition("-")[0]].items():
            assert low < np.median(bench.vital(batch, agent_id, vital)) < high, (agent_id, vital)


def test_rare_counts_are_rare_and_sizes_are_heavy_tailed(calm_run):
    bench, batch = calm_run
    means = {vital: np.array([bench.vital(batch, a, vital).mean() for a in bench.fleet.cast.ids]) for vital in ("retries", "errors", "confidence")}
    assert (means["retries"] < 0.2).all()
    assert (means["errors"] < 0.06).all()
    assert means["retries"].mean() > 0.03
    assert (abs(means["confidence"] - 0.85) < 0.07).all()
    for agent_id in bench.fleet.cast.ids:
        assert 0.25 < np.log(bench.vital(batch, agent_id, "output_tokens")).std() < 0.75


def test_input_follows_context_and_cost_is_two_unit_prices(calm_run):
    bench, batch = calm_run
    for agent_id in ("coder-01", "support-02"):
        tokens = np.column_stack([bench.vital(batch, agent_id, name) for name in ("input_tokens", "output_tokens")])
        cost = bench.vital(batch, agent_id, "cost_usd")
        prices, *_ = np.linalg.lstsq(tokens, cost, rcond=None)
        assert np.abs(tokens @ prices - cost).max() < 1e-6
        assert 4 < prices[1] / prices[0] < 6
        assert np.corrcoef(tokens[:, 0], bench.vital(batch, agent_id, "context_tokens"))[0, 1] > 0.95


def test_no_two_agents_of_a_kind_are_alike(calm_run):
    bench, batch = calm_run
    medians = [np.median(bench.vital(batch, a, "latency_ms")) for a in bench.fleet.cast.ids if a.startswith("coder")]
    assert max(medians) > 1.15 * min(medians)


def test_agents_say_what_they_run_on(calm_run):
    bench, batch = calm_run
    kind = next(kind for kind in KINDS if kind.name == "coder")
    said = {field: set(bench.words(batch, "coder-01", place)) for place, field in enumerate(CONTEXT_FIELDS)}
    assert said["tool"] == {*kind.tools, ""}
    assert said["task"] == {task.name for task in kind.tasks}
    assert all(len(said[field]) == 1 for field in ("provider", "model", "version", "prompt_hash"))
    identity = bench.desk.roster.identities[0]
    assert identity.type == "coder"
    assert identity.service in bench.fleet.scenario.services


def test_the_mix_of_kinds_adds_up():
    for agents in (1, 2, 7, 15, 1000):
        assert sum(counts_of_kinds(agents).values()) == agents
    assert counts_of_kinds(4, {"support": 1.0}) == {"coder": 0, "researcher": 0, "support": 4, "planner": 0}
    assert set(counts_of_kinds(15).values()) == {2, 4, 5}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"agents": 0}, "agents"),
        ({"agents": 2_000_000}, "agents"),
        ({"seed": -1}, "seed"),
        ({"period_us": 0}, "period_us"),
        ({"duration_s": 0.0}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"warmup_s": -1.0}, "warmup_s"),
        ({"scenario": "nowhere"}, "scenario"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments, field):
    with pytest.raises(InputError) as caught:
        SimulatedFleet(**{"start_us": 0, **arguments})
    assert caught.value.field == field


def test_an_agent_nobody_knows_is_refused(bench):
    fleet = bench().fleet
    for call in (fleet.observed_level, fleet.escaped, fleet.canary_left):
        with pytest.raises(UnknownIdError):
            call("coder-99")


def test_a_world_runs_only_after_it_was_opened():
    with pytest.raises(RefusedError):
        SimulatedFleet(start_us=0, scenario="calm").advance(0)
