"""The gate at the edge: what may reach a baseline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immune.core.intake import NEVER_US, Intake, falls_behind, repeats
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from tests.effort import examples

SCHEMA = VitalSchema()
SKEW_US = 1_000_000
NOW_US = 100_000_000


def fleet(agents: int) -> Roster:
    roster = Roster()
    for number in range(agents):
        roster.enroll(AgentIdentity(agent_id=f"agent-{number}"))
    return roster


def samples(*rows: tuple[int, int, float], vital: str = "latency_ms") -> SampleBatch:
    batch = SampleBatch.blank(len(rows))
    batch.agent[:] = [row[0] for row in rows]
    batch.at_us[:] = [row[1] for row in rows]
    batch.values[:, SCHEMA.column(vital)] = [row[2] for row in rows]
    return batch


def test_an_ordered_batch_without_faults_passes_untouched() -> None:
    batch = samples((0, 10, 1.0), (1, 10, 2.0), (0, 20, 3.0))
    screened = Intake(fleet(2), SCHEMA, SKEW_US).screen(batch, NOW_US)
    assert screened.batch is batch
    assert screened.rejected == {}


def test_a_missing_value_is_not_a_fault() -> None:
    screened = Intake(fleet(1), SCHEMA, SKEW_US).screen(samples((0, 10, np.nan)), NOW_US)
    assert len(screened.batch) == 1


@pytest.mark.parametrize(
    ("value", "vital", "reason"),
    [
        (np.inf, "latency_ms", "infinite"),
        (-np.inf, "latency_ms", "infinite"),
        (-0.5, "latency_ms", "negative"),
        (1e30, "latency_ms", "absurd"),
        (1.01, "confidence", "absurd"),
        (1e9 + 1, "input_tokens", "absurd"),
    ],
)
@pytest.mark.fault("F27")
def test_an_impossible_value_costs_its_whole_sample_and_no_other(value: float, vital: str, reason: str) -> None:
    screened = Intake(fleet(2), SCHEMA, SKEW_US).screen(samples((0, 10, 0.5), (1, 10, value), (0, 20, 0.5), vital=vital), NOW_US)
    assert screened.rejected == {reason: 1}
    assert screened.batch.agent.tolist() == [0, 0]


def test_a_sample_from_beyond_the_allowed_skew_is_from_the_future() -> None:
    screened = Intake(fleet(1), SCHEMA, SKEW_US).screen(samples((0, NOW_US + SKEW_US, 1.0), (0, NOW_US + SKEW_US + 1, 1.0)), NOW_US)
    assert screened.rejected == {"future": 1}
    assert screened.batch.at_us.tolist() == [NOW_US + SKEW_US]


@pytest.mark.fault("F25", "F26")
def test_an_older_sample_is_late_and_one_of_the_same_time_a_duplicate() -> None:
    intake = Intake(fleet(2), SCHEMA, SKEW_US)
    intake.screen(samples((0, 50, 1.0)), NOW_US)
    screened = intake.screen(samples((0, 40, 1.0), (0, 50, 1.0), (1, 40, 1.0)), NOW_US)
    assert screened.rejected == {"late": 1, "duplicate": 1}
    assert screened.batch.agent.tolist() == [1]


@pytest.mark.fault("F25")
def test_of_equal_times_within_a_batch_the_first_is_kept() -> None:
    screened = Intake(fleet(1), SCHEMA, SKEW_US).screen(samples((0, 10, 1.0), (0, 10, 2.0)), NOW_US)
    assert screened.rejected == {"duplicate": 1}
    assert screened.batch.values[0, 0] == 1.0


def test_a_rejected_sample_does_not_move_its_agents_clock() -> None:
    intake = Intake(fleet(1), SCHEMA, SKEW_US)
    assert intake.screen(samples((0, 60, np.inf), (0, 60, 2.0)), NOW_US).batch.values[0, 0] == 2.0
    intake.screen(samples((0, 90, -1.0), (0, NOW_US * 2, 1.0)), NOW_US)
    assert intake.last_us.tolist() == [60]
    assert len(intake.screen(samples((0, 70, 1.0)), NOW_US).batch) == 1


def test_an_index_that_nobody_enrolled_is_rejected_and_touches_nobody() -> None:
    intake = Intake(fleet(1), SCHEMA, SKEW_US)
    assert intake.screen(samples((-1, 10, 1.0), (1, 10, 1.0)), NOW_US).rejected == {"unknown_agent": 2}
    assert intake.last_us.tolist() == [NEVER_US]


def test_the_gate_grows_with_the_roster() -> None:
    roster = fleet(1)
    intake = Intake(roster, SCHEMA, SKEW_US)
    intake.screen(samples((0, 10, 1.0)), NOW_US)
    for number in range(1, 300):
        roster.enroll(AgentIdentity(agent_id=f"agent-{number}"))
    assert len(intake.screen(samples((299, 10, 1.0), (0, 10, 1.0)), NOW_US).batch) == 1


VALUES = st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, -1.0, 1e30])
ROWS = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 12).map(lambda tenth: tenth * 10_000_000), VALUES), max_size=12)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(ROWS, max_size=4))
def test_the_gate_does_what_a_loop_over_samples_would(batches: list[list[tuple[int, int, float]]]) -> None:
    intake = Intake(fleet(4), SCHEMA, SKEW_US)
    last = dict.fromkeys(range(4), -1)
    for rows in batches:
        screened = intake.screen(samples(*rows), NOW_US)
        good = [row for row in rows if 0 <= row[0] < 4 and not (np.isinf(row[2]) or row[2] < 0 or row[2] > 1e29) and row[1] <= NOW_US + SKEW_US]
        kept = []
        for agent, at_us, _ in sorted(good, key=lambda row: row[1]):
            if at_us > last[agent]:
                last[agent] = at_us
                kept.append((agent, at_us))
        assert sorted(zip(screened.batch.agent.tolist(), screened.batch.at_us.tolist(), strict=True)) == sorted(kept)
        assert len(screened.batch) + sum(screened.rejected.values()) == len(rows)
        assert not falls_behind(screened.batch.agent, screened.batch.at_us).any()
        assert not repeats(screened.batch.agent, screened.batch.at_us).any()
        assert np.isfinite(screened.batch.values[~np.isnan(screened.batch.values)]).all()
