"""What every telemetry store promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immune.core.evidence import Bands
from immune.core.vitals import MISSING, SampleBatch, VitalSchema
from immune.errors import InputError, UnknownIdError
from immune.ports import Telemetry

S = 1_000_000
MIN = 60 * S
T0 = 29_454_000 * MIN
SCHEMA = VitalSchema()
HOSTILE = "'; DROP TABLE agents; -- \u202e"


def batch_of(*rows, vital=0) -> SampleBatch:
    """Samples of (agent, at_us, value) in one vital."""
    batch = SampleBatch.blank(len(rows))
    for row, (agent, at_us, value) in enumerate(rows):
        batch.agent[row], batch.at_us[row], batch.values[row, vital] = agent, at_us, value
    return batch


def begun(telemetry, agents=("a", "b", "c")) -> Telemetry:
    telemetry.begin("r", SCHEMA)
    telemetry.name_agents("r", 0, agents)
    return telemetry


def series_of(telemetry, agent, vital="latency_ms", **span):
    series = telemetry.series("r", agent, vital, **span)
    assert series.at_us.dtype == np.int64
    assert series.value.dtype == np.float64
    return list(zip(series.at_us.tolist(), series.value.tolist(), strict=True))


def bands_of(*expected) -> Bands:
    """Bands of (agents,) expectations of every vital: low is half of them, high twice."""
    middle = np.repeat(np.array(expected, dtype=np.float32)[:, None], len(SCHEMA), axis=1) + np.arange(len(SCHEMA), dtype=np.float32)
    return Bands(expected=middle, low=middle / 2, high=middle * 2)


def test_it_is_a_telemetry_store(telemetry):
    assert isinstance(telemetry, Telemetry)


def test_an_unknown_run_is_empty_and_cannot_be_written(telemetry):
    assert telemetry.vitals("r") == telemetry.agents("r") == ()
    assert telemetry.counts("r") == len(telemetry.latest("r")) == 0
    for attempt in (
        lambda: telemetry.series("r", "a", "latency_ms"),
        lambda: telemetry.bands("r", "a", "latency_ms"),
        lambda: telemetry.write("r", 0, T0, batch_of((0, T0, 1.0))),
    ):
        with pytest.raises(UnknownIdError, match="run"):
            attempt()


def test_a_run_remembers_its_vitals_and_agents(telemetry):
    schema = VitalSchema.with_extra(["gpu_w"])
    telemetry.begin("r", schema)
    telemetry.begin("r", schema)
    telemetry.name_agents("r", 0, ["a", HOSTILE])
    telemetry.name_agents("r", 2, ["c"])
    assert telemetry.vitals("r") == schema.names
    assert telemetry.agents("r") == ("a", HOSTILE, "c")


def test_a_run_does_not_go_on_with_other_vitals(telemetry):
    telemetry.begin("r", SCHEMA)
    with pytest.raises(InputError, match="vitals"):
        telemetry.begin("r", VitalSchema.with_extra(["gpu_w"]))
    with pytest.raises(InputError, match="values"):
        telemetry.write("r", 0, T0, SampleBatch.blank(1, vitals=3))


def test_an_unknown_agent_or_vital_is_named(telemetry):
    begun(telemetry)
    for agent, vital, told in (("nobody", "latency_ms", "agent"), ("a", "speed", "vital"), ("", "latency_ms", "agent")):
        with pytest.raises(UnknownIdError, match=told):
            telemetry.series("r", agent, vital)
        with pytest.raises(UnknownIdError, match=told):
            telemetry.bands("r", agent, vital)
    assert series_of(telemetry, "a") == []


@pytest.mark.parametrize("value", [0.0, 0.000123, 999_999_999.0, 1e9, 16_777_217.0, 1e15, 1 / 3, 1e-300, 5e300, 7.0])
def test_a_value_comes_back_as_it_was_measured(telemetry, value):
    begun(telemetry)
    telemetry.write("r", 0, T0, batch_of((0, T0, value), (1, T0, 1.0), vital=3))
    for _ in range(2):
        assert series_of(telemetry, "a", "cost_usd") == [(T0, value)]
        telemetry.compact("r", T0 + MIN)


def test_every_column_of_a_sample_comes_back_but_its_codes(telemetry):
    begun(telemetry)
    rng = np.random.default_rng(7)
    n = 200
    batch = SampleBatch.blank(n)
    batch.agent[:] = rng.permutation(n)
    batch.at_us[:] = T0 - rng.integers(0, 10 * 3600 * S, n)
    batch.values[:] = np.where(rng.random((n, 9)) < 0.2, np.nan, rng.lognormal(3, 2, (n, 9)))
    batch.step[:] = rng.integers(-1, 100_000, n)
    batch.status[:] = rng.integers(0, 4, n)
    batch.task_id[:] = rng.integers(0, 2**63 - 1, n)
    batch.codes[:] = 3
    telemetry.write("r", 5, T0, batch)
    order = np.argsort(batch.agent)
    for _ in range(2):
        latest = telemetry.latest("r")
        for name in ("agent", "at_us", "values", "step", "status", "task_id"):
            column = getattr(latest, name)
            np.testing.assert_array_equal(column, getattr(batch, name)[order])
            assert column.dtype == getattr(batch, name).dtype, name
        assert (latest.codes == MISSING).all()
        telemetry.compact("r", T0 + MIN)


def test_a_series_is_ascending_and_leaves_missing_values_out(telemetry):
    begun(telemetry)
    telemetry.write("r", 0, T0 + S, batch_of((0, T0 + 5, 1.0), (1, T0 + 6, 2.0), (0, T0 + 7, math.nan), (0, T0 + 9, 3.0)))
    telemetry.write("r", 1, T0 + 2 * S, batch_of((0, T0 + 2, 4.0), (0, T0 + 9, 5.0), (0, T0 + 9, 6.0)))
    for _ in range(2):
        assert series_of(telemetry, "a") == [(T0 + 2, 4.0), (T0 + 5, 1.0), (T0 + 9, 3.0), (T0 + 9, 5.0), (T0 + 9, 6.0)]
        assert series_of(telemetry, "a", from_us=T0 + 5, to_us=T0 + 9) == [(T0 + 5, 1.0)]
        assert series_of(telemetry, "a", "retries") == []
        telemetry.compact("r", T0 + MIN)


def test_at_one_time_the_tick_decides_the_order_however_late_it_came(telemetry):
    begun(telemetry)
    for tick in (5, 3, 4):
        telemetry.write("r", tick, T0 + tick, batch_of((0, T0, float(tick)), (0, T0, tick + 0.5)))
        assert telemetry.compact("r", T0 + MIN) == 1
    assert [value for _, value in series_of(telemetry, "a")] == [3.0, 3.5, 4.0, 4.5, 5.0, 5.5]
    assert telemetry.latest("r").values[0, 0] == 5.5


def test_the_same_tick_again_replaces_its_samples(telemetry):
    begun(telemetry)
    telemetry.write("r", 0, T0, batch_of((0, T0, 1.0), (1, T0, 1.0)))
    telemetry.write("r", 0, T0, batch_of((0, T0, 2.0)))
    assert telemetry.counts("r") == 1
    assert series_of(telemetry, "a") == [(T0, 2.0)]
    assert series_of(telemetry, "b") == []
    telemetry.write("r", 0, T0, SampleBatch.empty())
    assert telemetry.counts("r") == 0


def test_a_tick_of_a_closed_minute_is_stored_for_good(telemetry):
    begun(telemetry)
    telemetry.write("r", 0, T0, batch_of((0, T0, 1.0)))
    assert telemetry.compact("r", T0 + MIN) == 1
    telemetry.write("r", 0, T0, batch_of((0, T0, 2.0)))
    assert telemetry.counts("r") == 1
    assert series_of(telemetry, "a") == [(T0, 1.0)]


def test_the_samples_of_whole_minutes_are_there_to_be_taken_elsewhere(telemetry):
    begun(telemetry)
    for tick in range(150):
        telemetry.write("r", tick, T0 + tick * S, batch_of((tick % 3, T0 + tick * S, float(tick)), (0, T0 + tick * S - 1, math.nan)))
    for _ in range(2):
        pieces = [telemetry.samples("r", T0 + minute * MIN, T0 + (minute + 1) * MIN) for minute in range(4)]
        assert [len(piece) for piece in pieces] == [120, 120, 60, 0]
        assert len(telemetry.samples("r", T0 + 59 * S, T0 + 61 * S)) == 240
        found = sorted(piece.values[row, 0] for piece in pieces for row in range(len(piece)) if not math.isnan(piece.values[row, 0]))
        assert found == [float(tick) for tick in range(150)]
        telemetry.compact("r", T0 + 2 * MIN)
    with pytest.raises(UnknownIdError):
        telemetry.samples("nobody", T0, T0 + 1)


def test_only_minutes_that_have_ended_are_closed(telemetry):
    begun(telemetry)
    for tick in range(150):
        telemetry.write("r", tick, T0 + tick * S, batch_of((tick % 3, T0 + tick * S, float(tick))))
    before = [series_of(telemetry, agent) for agent in "abc"]
    assert telemetry.compact("r", T0 + MIN - 1) == 0
    assert telemetry.compact("r", T0 + MIN) == 1
    assert [series_of(telemetry, agent) for agent in "abc"] == before
    assert telemetry.compact("r", T0 + 150 * S) == 1
    assert telemetry.compact("r", T0 + 150 * S) == 0
    assert [series_of(telemetry, agent) for agent in "abc"] == before
    assert telemetry.counts("r") == 150


def test_compaction_may_go_in_small_steps(telemetry):
    begun(telemetry)
    for tick in range(180):
        telemetry.write("r", tick, T0 + tick * S, batch_of((0, T0 + tick * S, float(tick))))
    before = series_of(telemetry, "a")
    steps = 0
    while telemetry.compact("r", T0 + 180 * S, parts=1):
        steps += 1
        assert series_of(telemetry, "a") == before
        assert telemetry.counts("r") == 180
    assert steps >= 3


def test_retention_forgets_whole_minutes_and_nothing_else(telemetry):
    begun(telemetry)
    for minute in range(4):
        at_us = T0 + minute * MIN
        telemetry.write("r", minute, at_us, batch_of((0, at_us, float(minute)), (minute, at_us, 9.0)))
        telemetry.write_bands("r", at_us, bands_of(minute))
    telemetry.compact("r", T0 + 2 * MIN)
    assert telemetry.expire("r", T0) == 0
    assert telemetry.expire("r", T0 + 3 * MIN + 59 * S) > 0
    assert series_of(telemetry, "a") == [(T0 + 3 * MIN, 3.0)]
    assert telemetry.bands("r", "a", "latency_ms").at_us.tolist() == [T0 + 3 * MIN]
    assert telemetry.counts("r") == 2
    assert telemetry.latest("r").agent.tolist() == [0, 3]
    assert telemetry.agents("r") == ("a", "b", "c")


def test_latest_is_one_sample_an_agent_from_its_last_tick(telemetry):
    begun(telemetry, agents=["a", "b", "c", "silent"])
    telemetry.write("r", 0, T0, batch_of((0, T0, 1.0), (1, T0, 1.0), (2, T0, 1.0)))
    telemetry.write("r", 70, T0 + 70 * S, batch_of((2, T0 + 69 * S, 2.0), (0, T0 + 68 * S, 3.0), (2, T0 + 70 * S, 4.0)))
    for _ in range(3):
        latest = telemetry.latest("r")
        assert latest.agent.tolist() == [0, 1, 2]
        assert latest.at_us.tolist() == [T0 + 68 * S, T0, T0 + 70 * S]
        assert latest.values[:, 0].tolist() == [3.0, 1.0, 4.0]
        telemetry.compact("r", T0 + 2 * MIN if _ else T0 + MIN)


def test_bands_come_back_as_single_precision_with_their_gaps(telemetry):
    begun(telemetry, agents=[f"a{n}" for n in range(130)])
    telemetry.write_bands("r", T0, bands_of(*range(100)))
    telemetry.write_bands("r", T0 + MIN, bands_of(*[math.nan] * 129, 7.0))
    telemetry.write_bands("r", T0 + MIN, bands_of(*[math.nan] * 129, 8.0))
    early = telemetry.bands("r", "a70", "output_tokens")
    assert early.at_us.tolist() == [T0, T0 + MIN]
    np.testing.assert_array_equal(early.expected, np.array([72, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(early.low, np.array([36, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(early.high, np.array([144, np.nan], dtype=np.float32))
    assert early.low.dtype == np.float32
    late = telemetry.bands("r", "a129", "latency_ms")
    assert (late.at_us.tolist(), late.expected.tolist()) == ([T0 + MIN], [8.0])
    assert telemetry.bands("r", "a70", "latency_ms", from_us=T0 + 1, to_us=T0 + MIN).at_us.tolist() == []


def test_a_hostile_agent_id_is_only_text(telemetry):
    begun(telemetry, agents=[HOSTILE, "b"])
    telemetry.write("r", 0, T0, batch_of((0, T0, 1.0), (1, T0, 2.0)))
    assert series_of(telemetry, HOSTILE) == [(T0, 1.0)]
    assert telemetry.agents("r") == (HOSTILE, "b")


def test_runs_are_kept_apart(telemetry):
    for run, value in (("r", 1.0), (HOSTILE, 2.0)):
        telemetry.begin(run, SCHEMA)
        telemetry.name_agents(run, 0, ["a"])
        telemetry.write(run, 0, T0, batch_of((0, T0, value)))
        telemetry.write_bands(run, T0, bands_of(value))
    telemetry.compact("r", T0 + MIN)
    telemetry.expire(HOSTILE, T0 + MIN)
    assert series_of(telemetry, "a") == [(T0, 1.0)]
    assert (telemetry.counts("r"), telemetry.counts(HOSTILE)) == (1, 0)
    assert telemetry.bands(HOSTILE, "a", "latency_ms").at_us.tolist() == []


SAMPLES = st.tuples(
    st.integers(0, 130),
    st.integers(T0 - 2 * MIN, T0 + 4 * MIN) | st.sampled_from([T0, T0 + MIN]),
    st.floats(0, 1e15) | st.integers(0, 10**9).map(float) | st.just(math.nan),
)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 12), st.lists(SAMPLES, max_size=6)),
    st.tuples(st.just("compact"), st.integers(0, 12), st.sampled_from([None, 1])),
    st.tuples(st.just("expire"), st.integers(0, 6), st.none()),
)
OPENING = st.lists(st.tuples(st.just("write"), st.integers(0, 12), st.lists(SAMPLES, min_size=1, max_size=6)), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(opening=OPENING, steps=st.lists(STEPS, max_size=8))
def test_any_history_reads_as_if_it_had_never_been_rearranged(fresh_telemetry, opening, steps):
    telemetry = begun(fresh_telemetry(), agents=[f"a{n}" for n in range(131)])
    kept: dict[int, tuple[int, list]] = {}
    closed: set[int] = set()
    for verb, number, more in opening + steps:
        now_us = T0 + number * 20 * S
        if verb == "write":
            telemetry.write("r", number, now_us, batch_of(*more))
            if number not in closed:
                kept[number] = (now_us // MIN, more)
        elif verb == "compact":
            while telemetry.compact("r", now_us, parts=more):
                assert telemetry.counts("r") == sum(len(rows) for _, rows in kept.values())
            closed |= {tick for tick, (minute, rows) in kept.items() if minute < now_us // MIN and rows}
        else:
            telemetry.expire("r", now_us)
            gone = [tick for tick, (minute, _) in kept.items() if minute < now_us // MIN]
            closed -= {tick for tick in gone if kept.pop(tick)}
    rows = [(agent, at_us, tick, value) for tick, (_, samples) in sorted(kept.items()) for agent, at_us, value in samples]
    assert telemetry.counts("r") == len(rows)
    for agent in {row[0] for row in rows} | {0}:
        expected = sorted(
            ((at_us, tick, value) for who, at_us, tick, value in rows if who == agent and not math.isnan(value)), key=lambda one: one[:2]
        )
        assert series_of(telemetry, f"a{agent}") == [(at_us, value) for at_us, _, value in expected]
    newest = {agent: at_us for agent, at_us, _, _ in rows}
    latest = telemetry.latest("r")
    assert dict(zip(latest.agent.tolist(), latest.at_us.tolist(), strict=True)) == newest
    telemetry.close()
