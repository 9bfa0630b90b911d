"""One table of instruments, served to Prometheus and to OpenTelemetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from immune.core.policy import HealingPolicy, Policy
from immune.core.vitals import SampleBatch
from immune.observability import panel as panel_module
from immune.observability.distributions import OTHER, SERIES_MAX, Distribution, Example
from immune.observability.genai import PAIRS_MAX, FleetMeter
from immune.observability.instruments import GENAI_SECONDS, HISTOGRAMS, INSTRUMENTS, HistogramSpec, all_names, prometheus_name
from immune.observability.panel import MEASURED, Panel
from immune.observability.prometheus import expose
from immune.observability.snapshot import Snapshot
from immune.observability.story import Story
from immune.ports import Bound
from tests.doubles import START_US, US, FlakyConnector, World, engine_over, live

NAMES_SINCE_0_1 = set(
    """
    immune_ticks_total immune_ticks_skipped_total immune_tick_lag_seconds immune_samples_total immune_samples_rejected_total
    immune_agents immune_agents_contained immune_agents_not_enforced immune_incidents_open immune_incidents_total
    immune_containments_active immune_plans_open immune_approvals_pending immune_approvals_oldest_age_seconds
    immune_journal_writable immune_journal_refused_total immune_journal_events immune_telemetry_stored_samples_total
    immune_telemetry_queue_samples immune_telemetry_dropped_samples_total immune_ingest_queue_samples
    immune_ingest_accepted_samples_total immune_ingest_rejected_samples_total immune_ingest_enrolled_agents_total
    immune_api_requests_total immune_api_auth_failures_total immune_api_rate_limited_total immune_api_refused_acts_total
    immune_api_bugs_total immune_stream_clients immune_stream_dropped_total
    """.split()  # noqa: SIM905 -- thirty quoted names are harder to read
)


class HandClock:
    def __init__(self, at_us=START_US):
        self.at_us = at_us

    def now_us(self):
        return self.at_us


class Beside:
    name = "writer"

    def health(self):
        return {"trouble": "the server is away", "spooled": 7, "url": "http://nobody.sees.this"}


QUICK = Policy(mode="act", healing=HealingPolicy(settle_s=1.0))


def sick(agents):
    """A fleet of which one has fallen ill, and its engine."""
    world = World(agents=agents)
    world.patients[0].ratio = 8.0
    engine = engine_over(world, connectors=[FlakyConnector(world)], policy=QUICK)
    engine.bounds = lambda: [Bound(name="roster.agents", size=agents, limit=100)]  # a scripted sentinel has none
    return world, engine


@pytest.fixture(scope="module")
def panel():
    """The panel of a run in which somebody fell ill and was treated."""
    world, engine = sick(6)
    made = Panel(engine, HandClock(START_US + 120 * US))
    live(world, ticks=120, engine=engine)
    made.sides.companions = [Beside()]
    return made


def test_the_names_that_dashboards_rely_on_are_still_there():
    assert {prometheus for _, prometheus in all_names()} >= NAMES_SINCE_0_1


def test_no_two_instruments_have_the_same_name():
    names = list(all_names())
    assert len({name for name, _ in names}) == len({prometheus for _, prometheus in names}) == len(names)


def test_the_prometheus_name_follows_by_rule():
    assert prometheus_name("immune.tick.lag", "s", "gauge") == "immune_tick_lag_seconds"
    assert prometheus_name("immune.ticks", "{tick}", "counter") == "immune_ticks_total"


def test_every_span_with_labels_has_its_histogram():
    assert set(MEASURED.values()) <= {spec.name for spec in HISTOGRAMS}


@pytest.mark.parametrize(("accept", "parse"), [("", parse_text), ("application/openmetrics-text; version=1.0.0", parse_open_metrics)])
def test_a_real_parser_reads_every_instrument(panel, accept, parse):
    body, content_type = panel.expose(accept)
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain; version=0.0.4")
    families = {family.name: family for family in parse(body.decode())}
    snapshot = panel.snapshot()
    for instrument, readings in snapshot.numbers:
        family = families[prometheus_name(instrument.name, instrument.unit, instrument.kind).removesuffix("_total")]
        found = {tuple(sample.labels[key] for key in instrument.keys): sample.value for sample in family.samples}
        assert found == pytest.approx({labels: float(value) for labels, value in readings.items()}), instrument.name


def test_what_happened_is_in_the_numbers(panel):
    numbers = {instrument.name: readings for instrument, readings in panel.snapshot().numbers}
    assert numbers["immune.events"][("incident_opened",)] >= 1
    assert numbers["immune.containments"][("isolated",)] >= 1
    assert numbers["immune.companion.up"] == {("writer",): False}
    assert numbers["immune.companion.count"] == {("writer", "spooled"): 7}
    assert sum(numbers["immune.agents.health"].values()) == numbers["immune.agents"][()] == 6


def test_durations_carry_the_way_to_their_trace(panel):
    histograms = {spec.name: series for spec, series in panel.snapshot().histograms}
    (series,) = histograms["immune.detection.delay"].values()
    example = next(iter(series.examples.values()))
    text = panel.expose("application/openmetrics-text")[0].decode()
    assert f'trace_id="{example.trace_id:032x}"' in text
    assert "trace_id" not in panel.expose("")[0].decode(), "the older format has no exemplars"


def test_a_panel_of_a_resumed_run_measures_what_was_open_when_it_began():
    world, engine = sick(4)
    opened = []
    live(world, ticks=60, engine=engine, at={4: lambda engine, now_us: opened.append(Panel(engine, HandClock(now_us)))})
    histograms = {spec.name: series for spec, series in opened[0].snapshot().histograms}
    assert not histograms["immune.detection.delay"], "it was detected before"
    assert histograms["immune.incident.duration"], "it was healed since"


def test_what_has_been_open_for_ever_does_not_hold_up_a_start(monkeypatch):
    """Somebody contained by hand long ago, and a long journal since: the whole of it was read before the gate answered."""
    monkeypatch.setattr(panel_module, "HEARD_AGAIN_MAX", 5)
    monkeypatch.setattr(panel_module, "begun_seq", lambda state: 1)
    (world, engine), heard = sick(4), []
    live(world, ticks=30, engine=engine)
    hear = Story.hear
    monkeypatch.setattr(Story, "hear", lambda story, envelope: heard.append(envelope.seq) or hear(story, envelope))
    Panel(engine, HandClock(engine.state.at_us))
    assert heard == list(range(engine.state.seq - 4, engine.state.seq + 1))


def test_a_count_is_told_to_its_last_digit_as_by_otlp():
    counter = next(one for one in INSTRUMENTS if one.name == "immune.samples")
    shown, _ = expose(Snapshot(at_us=0, since_us=0, run_since_us=0, numbers=((counter, {(): 123_456_789_012}),), histograms=()))
    assert b"immune_samples_total 123456789012\n" in shown


def test_a_label_cannot_break_out_of_its_quotes():
    distribution = Distribution((1.0,), ("model",))
    distribution.add(('a"} 1\nevil 2\\',), 0.5)
    spec = HistogramSpec(name="x", unit="1", says="x", bounds=(1.0,), keys=("model",))
    shown = Snapshot(at_us=1, since_us=0, run_since_us=0, numbers=(), histograms=((spec, distribution.series),))
    (family,) = parse_text(expose(shown)[0].decode())
    assert {sample.labels["model"] for sample in family.samples} == {'a"} 1\nevil 2\\'}


@given(st.lists(st.floats(1e-4, 1e4), max_size=60))
def test_adding_many_at_once_is_adding_one_by_one(values):
    one, many = Distribution(GENAI_SECONDS), Distribution(GENAI_SECONDS)
    for value in values:
        one.add((), value)
    many.add_many((), np.array([*values, math.nan]))
    assert many.series.keys() == one.series.keys()
    for labels, series in one.series.items():
        other = many.series[labels]
        assert series.counts.tolist() == other.counts.tolist()
        assert (series.low, series.high, pytest.approx(series.total)) == (other.low, other.high, other.total)


def test_nobody_can_make_up_more_series_than_there_is_room_for():
    distribution = Distribution((1.0,), ("who",))
    for number in range(SERIES_MAX + 50):
        distribution.add((f"n{number}",), 1.0, Example(value=1.0, at_us=0, trace_id=1, span_id=1))
    assert len(distribution.series) == SERIES_MAX + 1
    assert distribution.series[OTHER,].count == 50


def test_the_fleets_calls_and_tokens_are_counted_by_model_and_by_no_agent():
    desk = engine_over(World(agents=1)).desk
    durations, tokens = Distribution(GENAI_SECONDS, ("o", "p", "m")), Distribution((10.0, 1000.0), ("o", "p", "m", "t"))
    meter = FleetMeter(desk, durations, tokens)
    batch = SampleBatch.blank(4)
    batch.values[:, desk.schema.column("latency_ms")] = [100, 200, 300, np.nan]
    batch.values[:, desk.schema.column("input_tokens")] = [5, 50, 500, 5000]
    batch.codes[:2, 0], batch.codes[:2, 1] = desk.lexicon.code("acme"), desk.lexicon.code("m-1")
    meter.saw(batch)
    assert {labels: series.count for labels, series in durations.series.items()} == {
        ("invoke_agent", "acme", "m-1"): 2,
        ("invoke_agent", "unknown", "unknown"): 1,
    }
    assert durations.series["invoke_agent", "acme", "m-1"].total == pytest.approx(0.3)
    assert tokens.series["invoke_agent", "unknown", "unknown", "input"].counts.tolist() == [0, 1, 1]
    for number in range(PAIRS_MAX + 5):
        batch.codes[:, 1] = desk.lexicon.code(f"made-up-{number}")
        meter.saw(batch)
    assert len(durations.series) <= PAIRS_MAX + 1
    assert durations.series["invoke_agent", OTHER, OTHER].count > 0


def test_the_table_says_what_everything_is():
    for instrument in INSTRUMENTS:
        assert instrument.says.endswith(".")
        assert instrument.name.startswith("immune.")
        assert instrument.unit
