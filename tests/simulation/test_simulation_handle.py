"""The handle: levels are obeyed, escapes counted, actions run without saying whether they cured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core.events import LEVELS
from immune.core.vitals import CONTEXT_FIELDS, Lexicon, Roster, Status, VitalSchema
from immune.errors import InputError
from immune.ports import Desk
from simulation.cures import ACTIONS, CURED_BY, FINAL, CureOdds, draw_attempt
from simulation.draws import stream
from simulation.fleet import SimulatedFleet
from simulation.infections import SYMPTOMS
from simulation.scenario import Scenario, read_scenario

START = 1_767_225_600_000_000
PROMPT, TOOL = CONTEXT_FIELDS.index("prompt_hash"), CONTEXT_FIELDS.index("tool")
SURE = "[cures]\nwrong = 0\nhalf = 0\nrelapse = 0\nfail = 0\n"


def ill_bench(bench, infection, kind, cures=SURE, **listed):
    return bench(seed=2, infections="ends_by_itself = false\n" + cures + infection(kind, at_s=5, **listed))


def labels_of(made):
    made.fleet.truth.unseal()
    return made.fleet.truth.labels()


# Levels


def test_an_isolated_agent_does_nothing_but_heartbeats(bench):
    made = bench(seed=2)
    made.run(20)
    made.fleet.set_level("coder-01", "isolated")
    assert made.fleet.observed_level("coder-01") == "isolated"
    own = made.of(made.run(100), "coder-01")
    assert len(own) == 100
    assert set(own.status.tolist()) == {Status.IDLE}
    assert np.isnan(own.values).all()
    assert made.fleet.escaped() == 0
    assert made.fleet.refused("coder-01") > 50
    made.fleet.set_level("coder-01", "none")
    assert made.worked(made.run(50), "coder-01") > 30


def test_a_throttled_agent_works_every_third_step(bench):
    made = bench(seed=2)
    made.fleet.set_level("coder-01", "throttled")
    own = made.of(made.run(300), "coder-01")
    worked = np.flatnonzero(own.status == Status.WORKING)
    assert len(own) == 300
    assert 60 < len(worked) <= 100
    assert (np.diff(worked) % 3 == 0).all()


def test_a_restricted_agent_works_without_tools(bench):
    made = bench(seed=2)
    made.fleet.set_level("coder-01", "restricted")
    batch = made.run(100)
    assert made.worked(batch, "coder-01") > 60
    assert made.vital(batch, "coder-01", "tool_calls").max() == 0
    assert set(made.words(batch, "coder-01", TOOL)) == {""}


def test_an_evicted_agent_is_gone(bench):
    made = bench(seed=2)
    made.fleet.set_level("coder-01", "evicted")
    assert len(made.of(made.run(50), "coder-01")) == 0
    assert made.fleet.observed_level("coder-01") == "evicted"


def test_a_draining_agent_finishes_its_step_and_holds_its_level_then(bench):
    made = bench(seed=2)
    made.run(30)
    assert made.fleet._work.busy(0)
    made.fleet.set_level("coder-01", "isolated", drain=True)
    assert made.fleet.observed_level("coder-01") == "none"
    assert made.worked(made.run(1), "coder-01") == 1
    assert made.fleet.observed_level("coder-01") == "isolated"
    assert made.worked(made.run(20), "coder-01") == 0
    assert made.fleet.escaped() == 0


def test_an_agent_with_nothing_to_finish_holds_its_level_at_once_even_when_draining(bench):
    made = bench(seed=2)
    made.fleet.set_level("coder-01", "isolated", drain=True)
    assert made.fleet.observed_level("coder-01") == "isolated"


def test_canary_work_is_bounded_and_real(bench):
    made = bench(seed=2)
    made.run(20)
    made.fleet.set_level("coder-01", "isolated")
    made.fleet.canary("coder-01", 5)
    batch = made.run(30)
    assert made.worked(batch, "coder-01") == 5
    assert len(made.vital(batch, "coder-01", "latency_ms")) == 5
    assert made.fleet.canary_left("coder-01") == 0
    assert made.fleet.escaped() == 0


def test_canary_work_of_the_sick_shows_their_symptoms(bench, infection):
    well, ill = bench(seed=2), ill_bench(bench, infection, "latency_spike", strength=4)
    ratios = []
    for made in (well, ill):
        made.run(20)
        made.fleet.set_level("coder-01", "isolated")
        made.fleet.canary("coder-01", 5)
        ratios.append(made.vital(made.run(10), "coder-01", "latency_ms"))
    assert ratios[1] / ratios[0] == pytest.approx(4.0, rel=0.01)


def test_canary_work_is_refused_to_an_agent_that_is_free(bench):
    made = bench(seed=2)
    with pytest.raises(InputError):
        made.fleet.canary("coder-01", 5)
    made.fleet.set_level("coder-01", "isolated")
    with pytest.raises(InputError):
        made.fleet.canary("coder-01", -1)


def test_what_a_disobedient_agent_does_while_isolated_is_counted_as_escaped(bench):
    made = bench(seed=2, disobedient=["coder-02"])
    made.run(20)
    for agent_id in ("coder-01", "coder-02"):
        made.fleet.set_level(agent_id, "isolated")
    worked = made.worked(made.run(50), "coder-02")
    assert made.fleet.escaped("coder-02") == made.fleet.escaped() == worked > 20
    assert made.fleet.observed_level("coder-02") == "none"
    made.fleet.set_obeys("coder-02", obeys=True)
    assert made.worked(made.run(50), "coder-02") == 0


def test_an_unknown_level_is_refused(bench):
    with pytest.raises(InputError) as caught:
        bench(seed=2).fleet.set_level("coder-01", "grounded")
    assert caught.value.field == "level"


@given(st.lists(st.tuples(st.sampled_from(["coder-01", "support-02"]), st.sampled_from(LEVELS), st.booleans(), st.integers(0, 3)), max_size=12))
def test_whatever_is_asked_of_obedient_agents_nothing_escapes_and_levels_converge_within_a_tick(bench, orders):
    made = bench(seed=2)
    made.run(12)
    for agent_id, level, drain, ticks in orders:
        made.fleet.set_level(agent_id, level, drain=drain)
        if level == "isolated":
            made.fleet.canary(agent_id, ticks)
        made.run(1 + ticks)
        assert made.fleet.observed_level(agent_id) == level
    assert made.fleet.escaped() == 0


# Healing


@pytest.mark.parametrize("kind", SYMPTOMS)
def test_every_infection_has_a_cure_and_its_label_ends_when_it_is_cured(bench, infection, kind):
    made = ill_bench(bench, infection, kind)
    made.run(30)
    answer = made.fleet.perform("coder-01", CURED_BY[kind][0])
    assert (answer.outcome, answer.after_s) == ("succeeded", 0.0)
    made.run(30)
    (label,) = labels_of(made)
    assert label.ended_us == made.fleet.start_us + 29_000_000
    assert label.cured_by == CURED_BY[kind][0]
    effects = made.fleet._effects
    assert not effects.frozen
    assert not effects.held.any()
    assert not effects.silent.any()
    assert (effects.output * effects.latency * effects.price == 1).all()


def test_an_action_that_is_no_cure_runs_and_says_so_and_the_agent_stays_ill(bench, infection):
    made = ill_bench(bench, infection, "silent_stall")
    made.run(30)
    assert made.fleet.perform("coder-01", "rollback_prompt").outcome == "succeeded"
    assert len(made.of(made.run(30), "coder-01")) == 0
    assert labels_of(made)[0].ended_us is None


def test_half_a_cure_halves_the_strength(bench, infection):
    made = ill_bench(bench, infection, "latency_spike", cures="[cures]\nwrong = 0\nhalf = 1\nrelapse = 0\nfail = 0\n", strength=5)
    made.run(30)
    made.fleet.perform("coder-01", "clear_cache")
    made.run(1)
    assert made.fleet._effects.latency[0] == pytest.approx(3.0)
    assert labels_of(made)[0].ended_us is None


def test_a_relapse_comes_after_thirty_to_ninety_seconds_and_is_a_label_of_its_own(bench, infection):
    made = ill_bench(bench, infection, "latency_spike", cures="[cures]\nwrong = 0\nhalf = 0\nrelapse = 1\nfail = 0\n", strength=5)
    made.run(30)
    made.fleet.perform("coder-01", "clear_cache")
    made.run(29)
    assert made.fleet._effects.latency[0] == 1.0
    made.run(70)
    assert made.fleet._effects.latency[0] == 5.0
    first, back = labels_of(made)
    assert (first.relapse, first.cured_by, back.relapse, back.ended_us) == (False, "clear_cache", True, None)
    assert 30 <= (back.onset_us - first.ended_us) / 1e6 <= 91


def test_in_a_world_without_cures_every_action_runs_and_nobody_gets_well(bench, infection):
    made = bench(
        seed=2, infections="ends_by_itself = false\n[cures]\npossible = false\nfail = 0\n" + infection("silent_stall", at_s=5, duration_s=10)
    )
    made.run(30)
    assert {made.fleet.perform("coder-01", action).outcome for action in ACTIONS} == {"succeeded"}
    assert len(made.of(made.run(300), "coder-01")) == 0
    assert labels_of(made)[0].ended_us is None


def test_an_action_that_fails_changes_nothing(bench, infection):
    made = ill_bench(bench, infection, "silent_stall", cures="[cures]\nfail = 1\n")
    made.run(30)
    assert made.fleet.perform("coder-01", "restart_agent").outcome == "failed"
    assert len(made.of(made.run(10), "coder-01")) == 0


def test_an_action_that_hangs_never_answers_and_may_have_worked(bench, infection):
    worked = []
    for agent in ("coder-01", "coder-02", "coder-03", "coder-04", "support-01", "support-02", "planner-01"):
        made = ill_bench(bench, infection, "silent_stall", cures="[cures]\nwrong = 0\nhalf = 0\nrelapse = 0\nfail = 0\nhang = 1\n", agent=agent)
        made.run(10)
        answer = made.fleet.perform(agent, "restart_agent")
        assert (answer.outcome, answer.after_s) == ("unknown", math.inf)
        worked.append(len(made.of(made.run(10), agent)) > 0)
    assert set(worked) == {True, False}


def test_actions_go_wrong_as_often_as_the_scenario_says():
    odds = CureOdds(wrong=0.2, half=0.2, relapse=0.2, fail=0.1, hang=0.1, late=0.1)
    attempts = [draw_attempt(odds, stream(1, "test", n)) for n in range(3000)]
    cures = [attempt.cure for attempt in attempts]
    assert all(abs(cures.count(cure) / 3000 - share) < 0.03 for cure, share in (("none", 0.2), ("half", 0.2), ("relapse", 0.2), ("full", 0.4)))
    assert abs(np.mean([attempt.answer.outcome == "failed" for attempt in attempts]) - 0.1) < 0.02
    late = [attempt.answer.after_s for attempt in attempts if 0 < attempt.answer.after_s < math.inf]
    assert abs(len(late) / 3000 - 0.1) < 0.02
    assert min(late) >= 20
    assert max(late) <= 90


def test_attempts_depend_on_the_agent_and_its_count_not_on_what_others_did(bench):
    alone, crowded = bench(seed=2, scenario="bad_medicine"), bench(seed=2, scenario="bad_medicine")
    for _ in range(20):
        crowded.fleet.perform("coder-02", "restart_agent")
        assert alone.fleet.perform("coder-01", "clear_cache") == crowded.fleet.perform("coder-01", "clear_cache")


def test_what_can_be_undone_is_undone_and_what_cannot_says_so(bench):
    made = bench(seed=2, scenario=Scenario(name="t", chaos=read_scenario("[chaos]\nrate=0\noutage='none'").chaos, cures=CureOdds(fail=0.0)))
    (usual,) = set(made.words(made.run(20), "coder-01", PROMPT))
    made.fleet.perform("coder-01", "rollback_prompt")
    (rolled_back,) = set(made.words(made.run(20), "coder-01", PROMPT))
    assert rolled_back != usual
    assert made.fleet.compensate("coder-01", "rollback_prompt").outcome == "succeeded"
    assert set(made.words(made.run(20), "coder-01", PROMPT)) == {usual}
    made.fleet.perform("coder-01", "revoke_tools")
    assert "edit_file" not in made.words(made.run(100), "coder-01", TOOL)
    made.fleet.compensate("coder-01", "revoke_tools")
    assert "edit_file" in made.words(made.run(100), "coder-01", TOOL)
    assert {made.fleet.compensate("coder-01", action).outcome for action in FINAL} == {"failed"}


def test_a_reset_memory_begins_another_task_with_an_empty_context(bench):
    made = bench(seed=2, scenario="calm")
    before = made.of(made.run(60), "coder-01")
    while made.fleet.perform("coder-01", "reset_memory").outcome != "succeeded":
        continue
    after = made.of(made.run(1), "coder-01")
    assert after.step[0] == 0
    assert after.task_id[0] != before.task_id[-1]


@pytest.mark.parametrize("call", ["perform", "compensate"])
def test_an_unknown_action_is_refused(bench, call):
    with pytest.raises(InputError) as caught:
        getattr(bench(seed=2).fleet, call)("coder-01", "pray")
    assert caught.value.field == "action"


def test_a_tool_that_is_taken_away_is_not_called_by_anyone_until_it_is_given_back() -> None:
    desk = Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema())
    fleet = SimulatedFleet(agents=12, seed=3, start_us=START, duration_s=600, scenario="calm")
    fleet.open(desk)
    tool_column, calls_column = CONTEXT_FIELDS.index("tool"), desk.schema.column("tool_calls")

    def used(seconds: range) -> set[str]:
        batches = [fleet.advance(START + second * 1_000_000) for second in seconds]
        assert all(np.nansum(b.values[b.codes[:, tool_column] < 0, calls_column]) == 0 for b in batches), "calls without a tool"
        return {desk.lexicon.word(int(code)) for b in batches for code in b.codes[:, tool_column] if code >= 0}

    tool = min(used(range(30)))
    fleet.block_tool(tool, blocked=True)
    assert tool not in used(range(30, 90))
    fleet.block_tool(tool, blocked=False)
    assert tool in used(range(90, 150))
