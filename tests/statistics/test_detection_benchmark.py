"""What benchmarks/detection.py rests on: fleets that know no signature, honest intervals, a page that needs nothing from outside."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # behind the root: there is a dashboard.py in it, too

from trials import markdown, page, plan
from trials.bound import DEPARTURES, departed, ideal
from trials.page import verdict
from trials.table import Row, table
from trials.tally import auc, calibration_error, poisson, reliability, wilson
from trials.watching import Crossings
from workloads import CONFIDENCE, SHAPES, STRONG, TASK, Fault, Fleet, strong_fault, struck

from immune.core.vitals import Status

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_fleets_and_faults_know_no_signature_and_no_detector() -> None:
    tree = ast.parse((BENCHMARKS / "workloads.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name for name in imported if name and name.startswith("immune")} == {"immune.core.vitals"}


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_seeds_give_equal_fleets_and_other_seeds_others(shape) -> None:
    def first(seed: int) -> np.ndarray:
        return np.concatenate([batch.values for _, batch in struck(Fleet(shape, 5, seed, every_s=3.0), [], 8)])

    assert np.array_equal(first(3), first(3), equal_nan=True)
    assert not np.array_equal(first(3), first(4), equal_nan=True)


def test_a_task_ends_with_a_mark_and_the_next_sample_begins_another() -> None:
    fleet, before = Fleet("tasks", 8, 5), None
    for _, batch in struck(fleet, [], 60):
        if before is not None:
            done = before.status == Status.DONE
            assert np.array_equal(batch.task_id != before.task_id, done)
            assert np.array_equal(batch.step == 0, done)
        assert (batch.codes[:, TASK] >= 0).all()
        before = batch


def test_agents_pause_between_tasks_and_only_there() -> None:
    fleet, last = Fleet("tasks_paused", 20, 6), {}
    for t, batch in struck(fleet, [], 120):
        for agent, status in zip(batch.agent.tolist(), batch.status.tolist(), strict=True):
            if agent in last and t - last[agent][0] > 1:
                assert last[agent][1] == Status.DONE
            last[agent] = (t, status)
    assert len(last) == 20


@pytest.mark.parametrize("kind", [*STRONG, "confidence_collapse", "prompt_injection", "frozen"])
def test_a_fault_changes_its_agent_and_nobody_else(kind) -> None:
    def rows(faults: list[Fault]) -> list[dict[int, np.ndarray]]:
        return [dict(zip(batch.agent.tolist(), batch.values, strict=True)) for _, batch in struck(Fleet("gamma", 4, 9), faults, 30)]

    fault = strong_fault(kind, 2, 10, np.random.default_rng(1))
    sound, sick = rows([]), rows([fault])
    changed = {agent for t in range(30) for agent in range(4) if agent not in sick[t] or not np.array_equal(sound[t][agent], sick[t][agent])}
    assert changed == {2}
    assert all(np.array_equal(sound[t][2], sick[t][2]) for t in range(10))


def test_a_collapse_lowers_confidence_by_its_size() -> None:
    fault = Fault(kind="confidence_collapse", agent=0, start=0, size=2.0)
    (_, sound), (_, sick) = next(struck(Fleet("gamma", 1, 2), [], 1)), next(struck(Fleet("gamma", 1, 2), [fault], 1))
    assert sick.values[0, CONFIDENCE] == pytest.approx(sound.values[0, CONFIDENCE] / 2)


def test_nothing_seen_is_bounded_by_three_over_the_exposure() -> None:
    assert poisson(0, 600.0) == (0.0, 0.005)
    low, high = poisson(10, 1.0)
    assert low == pytest.approx(4.795, abs=0.001)
    assert high == pytest.approx(18.390, abs=0.001)


def test_the_interval_of_a_share_never_leaves_0_to_1_and_holds_the_share() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for hits, n in ((0, 10), (10, 10), (3, 7)):
        low, high = wilson(hits, n)
        assert 0 <= low <= hits / n <= high <= 1


def test_a_confidence_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    honest = [(0.75, hit < 3) for hit in range(4)]
    assert calibration_error(honest) == pytest.approx(0)
    assert calibration_error([(0.95, False)] * 4) == pytest.approx(0.95)
    assert [row["n"] for row in reliability([*honest, (1.0, True)])] == [4, 1]


def test_auc_is_the_chance_that_the_bad_one_scores_higher_and_ties_count_half() -> None:
    assert auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])) == 1.0
    assert auc(np.array([1.0, 1.0]), np.array([False, True])) == 0.5


def test_an_agent_that_keeps_alarming_is_one_crossing_until_a_quiet_minute_has_passed() -> None:
    seen = Crossings(2)
    for t in (5, 6, 40, 101, 102):
        seen.see(t, np.array([1]))
    assert (seen.total, seen.samples, seen.agents) == (2, 5, {1})


def test_a_rate_of_0_over_few_days_is_not_called_proved() -> None:
    few = {"days": 2.0, "false": 0, "by": 0, "on": {}, "rivals": {}}
    (row,) = table({"quiet gamma": [few]})
    assert row.must_met is True
    assert verdict(row)[0] == "met by the figure, not by its interval"
    (row,) = table({"quiet gamma": [{**few, "days": 4000.0}]})
    assert verdict(row)[0] == "goal met"


def test_the_expected_run_length_by_exact_ranks_is_at_least_the_set_one() -> None:
    part = ideal(seed=3, delta=0.0, c=25.0, streams=2, runs=120)
    assert part["sum"] / (part["runs"] - part["censored"]) >= 25


def test_every_departure_is_undone_afterwards() -> None:
    from immune.core.sentinel import baseline, eprocess, judging, learning, peers, surprise, tail

    def state() -> list[object]:
        learned = [judging.HOLD_SHARE, learning.GROUND, learning.GROUND_LOOSE, baseline.SUSPECT_PACE]
        return [surprise.FORGET_AT, surprise.widening, baseline._PHI_HIGH, peers.Peers.lent, *learned, eprocess._FALL.tobytes(), tail.advance]

    before = state()
    for name in DEPARTURES:
        with departed(name):
            assert (state() != before) == (name != "as it is")
    assert state() == before


def test_full_asks_for_600_agent_days_of_every_healthy_scenario_with_a_limit() -> None:
    full = plan.FULL
    assert full.turns * full.agents * full.ticks / 86_400 >= 600
    names = {job.name for job in plan.jobs(full, 1, "somewhere")}
    assert {f"quiet {shape}" for shape in plan.QUIET} | {"quiet recorded"} <= names


def _waiting(*names: str) -> plan.Shares:
    return plan.Shares([plan.Job(name=name, work=dict, arguments=(), options={}, turn=0) for name in names], shared=True)


def test_when_minutes_are_shared_every_row_gets_a_part_before_any_gets_two() -> None:
    shares = _waiting("strong 60", "strong 60", "quiet ar", "quiet ar", "outage small")
    assert {shares.next(100.0).name for _ in range(3)} == {"strong 60", "quiet ar", "outage small"}


def test_the_row_that_had_least_for_its_weight_is_next() -> None:
    shares = _waiting("strong 60", "strong 60", "quiet ar", "quiet ar")
    for _ in range(2):
        name = shares.next(100.0).name
        shares.took(name, 12.0)
    assert shares.next(100.0).name == "quiet ar"


def test_nothing_is_begun_that_would_not_end_in_time() -> None:
    shares = _waiting("quiet ar", "quiet ar", "strong 60", "strong 60")
    for seconds in (50.0, 5.0):
        shares.took(shares.next(100.0).name, seconds)
    assert shares.next(30.0).name == "strong 60"
    assert shares.next(30.0) is None
    assert shares.left() == {"quiet ar": 1}


def test_tables_go_between_their_marks_and_nowhere_else(tmp_path) -> None:
    page_md = tmp_path / "page.md"
    page_md.write_text("before\n<!-- detection: run -->\nold\n<!-- /detection -->\nkept\n<!-- detection: measured -->\n<!-- /detection -->\nafter\n")
    put = markdown.into(page_md, [Row(measure="m", measured="1")], {}, "seeds from 1 on")
    assert put == ["run", "measured"]
    text = page_md.read_text()
    assert text.startswith("before\n<!-- detection: run -->\nseeds from 1 on\n<!-- /detection -->\nkept\n<!-- detection: measured -->\n| measure |")
    assert text.endswith("<!-- /detection -->\nafter\n")


def test_a_document_without_marks_is_refused(tmp_path) -> None:
    page_md = tmp_path / "page.md"
    page_md.write_text("nothing here\n")
    with pytest.raises(ValueError, match="has no mark"):
        markdown.into(page_md, [], {}, "")
    assert page_md.read_text() == "nothing here\n"


def test_the_documents_marks_are_those_that_the_benchmark_looks_for() -> None:
    text = (BENCHMARKS.parent / "docs" / "sentinel.md").read_text(encoding="utf-8")
    for name in ("run", "measured", "rivals", "confidence", "sizes", "departures"):
        assert text.count(f"<!-- detection: {name} -->\n") == 1
    assert text.count("<!-- /detection -->") == 6


def test_the_page_needs_nothing_from_outside_and_has_a_night_side(tmp_path) -> None:
    part = {"days": 2.0, "false": 1, "by": 1, "on": {"latency_ms": 1}, "rivals": {}}
    target = tmp_path / "detection.html"
    page.write(target, [Row(measure="<b>", measured="1")], {"quiet gamma": [part]}, seed=1, full=False)
    text = target.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "&lt;b&gt;" in text
    assert not any(word in text for word in ("http:", "https:", " src=", "@import", "url(", "<script"))
