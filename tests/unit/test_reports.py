"""The page and its charts: hostile text stays text, nothing leaves the file, odd lines do no harm."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from immune.core.events import EvidenceNote, FactNote, HypothesisNote
from immune.core.policy import Policy
from immune.core.state import AgentState, IncidentState, ProposalState, RunState
from immune.core.vitals import SampleBatch
from immune.errors import InputError, StoreUnavailableError
from immune.ports import BandSeries, VitalSeries
from immune.reports.charts import POINTS_MAX, plot, quantity, thin, x_ticks
from immune.reports.from_run import run_page, write_page
from immune.reports.model import Band, ChartSpec, Counter, FleetRow, IncidentCard, Mark, RunPage, Span
from immune.reports.page import CARDS_MAX, FLEET_ROWS_MAX, duration, harm_word, headline, render
from immune.reports.words import cohort_words

US = 1_000_000
T0 = 1_767_225_600 * US
HOSTILE = "<img src=x onerror=alert(1)>"
NASTY = ('"><script>x</script>', "{{ 7*7 }}", "</style><b>", "' onload=", "&amp;", "javascript:alert(1)")


def note(vital="output_tokens", direction="up", **more):
    given_more = {
        "nats": 21.5,
        "ratio": 4.2,
        "observed": 4200.0,
        "expected": 1000.0,
        "effect": 2.0,
        "growth": 0.0,
        "calibration": 1.0,
        "basis": "own",
    }
    return EvidenceNote(vital=vital, direction=direction, onset_us=T0 + 600 * US, **(given_more | more))


def incident(number=1, agents=("coder-1",), *, severity=4.0, opened_s=609, closed_s=0, **more):
    facts = {
        "incident_id": f"inc-{number:04d}", "scope": "agent", "cohort": "", "agents": agents, "onset_us": T0 + 600 * US,
        "opened_at_us": T0 + opened_s * US, "opened_seq": 7, "nats": 22.0, "severity": severity, "peak_severity": severity,
        "severity_why": ("output_tokens ×4.2",), "evidence": (note(),), "ruled_out": ("tool_loop",), "changed": (), "updated_at_us": T0,
        "diagnosis": (HypothesisNote(kind="token_explosion", confidence=0.9, evidence_for=("output_tokens up",), evidence_against=()),),
        "closed_at_us": T0 + closed_s * US if closed_s else 0, "outcome": "recovered" if closed_s else "open",
    }  # fmt: skip
    return IncidentState(**(facts | more))


def row(agent_id="coder-1", state="healthy", severity=0.0, incidents=0):
    return FleetRow(agent_id=agent_id, type="coder", service="", state=state, worst_severity=severity, incidents=incidents, last_seen_us=T0)


def line(n=100, *, value=None, **more):
    at_us = T0 + np.arange(n, dtype=np.int64) * US
    return ChartSpec(title="output tokens", unit="", at_us=at_us, value=np.linspace(1, 9, n) if value is None else np.asarray(value, float), **more)


def page(cards=(), fleet=(), **more):
    facts = {
        "title": "Test", "run_id": "run-1", "from_us": T0, "to_us": T0 + 1800 * US, "source": "test", "mode": "observe", "version": "0",
        "fleet": tuple(fleet) or (row(),), "cards": tuple(cards),
    }  # fmt: skip
    return RunPage(**(facts | more))


class Skeleton(HTMLParser):
    """Tags and attributes of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.ids, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, text):
        self.words.append(text)


# -- the page ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [HOSTILE, *NASTY])
@pytest.mark.fault("F33")
def test_hostile_text_is_only_text_wherever_it_comes_from(text):
    hostile = incident(
        agents=(text,),
        incident_id=text,
        reason=text,
        severity_why=(text,),
        ruled_out=(text,),
        evidence=(note(vital=text, basis=text, calibration=2.0),),
        diagnosis=(HypothesisNote(kind=text, confidence=0.5, evidence_for=(text,), evidence_against=(text,)),),
        changed=(FactNote(field=text, before=text, after=text, at_us=T0),),
        proposals=(ProposalState(level="isolated", mode="observe", rule=text, at_us=T0, seq=1),),
    )
    short = line(5)
    chart = ChartSpec(title=text, unit=text, at_us=short.at_us, value=short.value, marks=(Mark(at_us=T0, text=text, kind="fact"),))
    written = render(
        page(
            [IncidentCard(incident=hostile, charts=(chart,))],
            [FleetRow(agent_id=text, type=text, service=text, state=text, worst_severity=1.0, incidents=1, last_seen_us=T0)],
            title=text, run_id=text, source=text, policy_text=text, notes=(text,), journal_head=text,
            counters=(Counter(name=text, value=1, note=text),),
        )
    )  # fmt: skip
    seen, harmless = Skeleton(written), Skeleton(render(page([IncidentCard(incident=incident(), charts=(line(),))])))
    assert set(seen.tags) <= set(harmless.tags) | {"details", "summary", "pre", "b", "ul", "li"}
    assert not {"script", "img"} & set(seen.tags)
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert text in " ".join(seen.words).replace("_", " ") or text in " ".join(seen.words)


def test_nothing_on_the_page_asks_anything_of_a_network():
    written = render(page([IncidentCard(incident=incident(), charts=(line(),))], policy_text="x = 1"))
    seen = Skeleton(written)
    assert not {"script", "link-external", "iframe", "object", "embed", "form", "base"} & set(seen.tags)
    assert not re.search(r"url\(|@import|//", written)
    targets = [value for _, name, value in seen.attributes if name in {"href", "src", "action", "srcset", "xlink:href"}]
    assert all(target.startswith("#incident-") or target == "data:," for target in targets)
    assert "default-src 'none'" in written


def test_equal_runs_give_equal_pages():
    cards = [IncidentCard(incident=incident(n, (f"a{n}",), severity=n / 2), charts=(line(),)) for n in range(1, 6)]
    assert render(page(cards)) == render(page(cards[::-1]))


def test_the_headline_says_who_fell_sick_and_how_fast_it_was_noticed():
    cards = [IncidentCard(incident=incident(1, ("a",), opened_s=604)), IncidentCard(incident=incident(2, ("b",), opened_s=609))]
    said = headline(page(cards, [row(name) for name in "abcd"]))
    assert said == "2 agents of 4 fell sick in 30 min; each was noticed within 9 s of the first symptom. The other 2 were not disturbed."


def test_the_headline_tells_a_shared_cause_from_sick_agents():
    shared = incident(1, ("a", "b", "c"), scope="service", cohort="model=v2")
    said = headline(page([IncidentCard(incident=shared)], [row(name) for name in "abcd"]))
    assert "fell sick" not in said
    assert "A shared cause (same model v2) moved 3 agents together" in said
    assert "The other 1 was not disturbed." in said


def test_the_slowest_does_not_speak_for_all_and_the_explained_do_not_count():
    cards = [IncidentCard(incident=incident(n, (f"a{n}",), opened_s=600 + s)) for n, s in enumerate((5, 8, 9, 300))]
    cards.append(IncidentCard(incident=incident(9, ("b",), outcome="explained", closed_s=700)))
    said = headline(page(cards, [row(f"a{n}") for n in range(9)]))
    assert "4 agents of 9 fell sick in 30 min; half of them were noticed within 8 s of the first symptom, the slowest after 5 min." in said


def test_numbers_that_only_the_machine_knows_are_not_shown_to_people():
    assert cohort_words("provider:29:1795240928968854") == "provider"
    assert cohort_words("model=gpt_x") == "model gpt x"
    assert cohort_words("") == "fleet"


def test_a_healthy_run_says_so():
    assert headline(page()) == "Nobody fell sick: 1 agent watched for 30 min, and no incident."
    assert "<h2>Incidents</h2>" not in render(page())


def test_an_empty_run_has_a_page_too():
    nobody = RunPage(title="t", run_id="r", from_us=T0, to_us=T0, source="", mode="observe", version="0", fleet=(), cards=())
    assert "No agent was seen." in render(nobody)


def test_the_page_says_how_many_it_leaves_out():
    cards = [IncidentCard(incident=incident(n, (f"a{n}",), severity=n / 100)) for n in range(CARDS_MAX + 7)]
    fleet = [row(f"a{n}") for n in range(FLEET_ROWS_MAX + 3)]
    written = render(page(cards, fleet))
    assert "7 more are in the journal" in written
    assert "3 more are left out" in written
    assert written.count("<article") == CARDS_MAX
    assert f"inc-{CARDS_MAX + 6:04d}" in written, "the worst stay"
    assert "inc-0003" not in written


def test_no_state_is_told_by_colour_alone():
    states = ("learning", "healthy", "suspected", "sick", "silent", "idle", "isolated")
    written = render(page(fleet=[row(state, state) for state in states]))
    for state in states:
        assert re.search(rf'class="state state-{state}"><i aria-hidden="true">[^·]</i>{state}</span>', written)


def test_a_section_from_outside_must_be_escaped_markup():
    assert "<i>told elsewhere</i>" in render(page(), extra_sections=[Markup("<i>told elsewhere</i>")])
    with pytest.raises(InputError, match="extra_sections"):
        render(page(), extra_sections=["<script>"])  # type: ignore[list-item]


def test_a_calibration_that_cannot_be_relied_on_is_told():
    doubtful = incident(evidence=(note(calibration=1.8),))
    assert "do not rely on it alone" in render(page([IncidentCard(incident=doubtful)]))
    assert "do not rely on it alone" not in render(page([IncidentCard(incident=incident())]))


def test_a_broken_journal_is_shouted():
    assert "hash chain BROKEN" in render(page(journal_verified=False))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (8.94, "8.9 s"), (59.6, "1 min"), (250, "4 min 10 s"), (3600, "1 h"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_durations_read_like_speech(seconds, text):
    assert duration(seconds) == text


def test_harm_has_words():
    assert [harm_word(severity) for severity in (0.5, 1.0, 3.0, 6.0, 10.0)] == ["slight", "moderate", "serious", "grave", "grave"]


# -- charts --------------------------------------------------------------------------------------------------------------


def numbers_of(path):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", path.replace("h.01", ""))]


@given(
    st.lists(st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e6)), max_size=40),
    st.sampled_from([None, True, False]),
)
def test_any_line_can_be_drawn_within_the_box(values, log):
    drawn = plot(line(len(values), value=values, log=log))
    assert all(-0.1 <= number <= 1000.1 for number in numbers_of(drawn.line))
    assert drawn.points == int((np.abs(np.asarray(values, float)) <= 1e18).sum())
    assert bool(drawn.line) == bool(drawn.points)


def test_a_line_of_nothing_says_that_there_is_nothing():
    for empty in (line(0), line(5, value=[np.nan] * 5)):
        assert "no samples" in plot(empty).summary
        assert "no samples in this window" in render(page([IncidentCard(incident=incident(), charts=(empty,))]))


def test_one_point_is_a_dot():
    assert plot(line(1, value=[3.0])).line.endswith("h.01")


def test_a_silence_breaks_the_line_and_a_missing_value_does_not_reach_it():
    at_us = T0 + np.array([0, 1, 2, 3, 60, 61, 62], dtype=np.int64) * US
    drawn = plot(ChartSpec(title="t", unit="", at_us=at_us, value=np.ones(7)))
    assert drawn.line.count("M") == 2


def test_thinning_keeps_every_peak():
    rng = np.random.default_rng(5)
    at_us, value = T0 + np.arange(50_000, dtype=np.int64) * US, rng.normal(size=50_000)
    value[31_234], value[7] = 40.0, -40.0
    kept = thin(at_us, value)
    assert len(kept) <= POINTS_MAX
    assert {31_234, 7} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all()


@given(st.integers(1, 2000), st.integers(2, 50))
def test_thinning_never_exceeds_its_limit_and_short_lines_stay_whole(n, most):
    kept = thin(T0 + np.arange(n, dtype=np.int64), np.arange(n) % 7.0, most)
    assert len(kept) <= max(most, 2)
    assert n > most or len(kept) == n


def band_of(n, low, high):
    ones = np.ones(n, dtype=np.float32)
    at_us = T0 + np.arange(n, dtype=np.int64) * 10 * US
    return Band(at_us=at_us, expected=ones * (low + high) / 2, low=ones * low, high=ones * high)


def test_samples_beyond_the_band_are_dotted():
    value = np.full(100, 5.0)
    value[50] = 50.0
    drawn = plot(line(100, value=value, band=band_of(10, 2.0, 8.0)))
    assert drawn.outside.count("M") == 1
    assert drawn.band.endswith("Z")
    assert "expected about 5" in drawn.summary


def test_a_band_that_healthy_samples_often_leave_accuses_nobody():
    value = np.where(np.arange(100) % 4 == 0, 50.0, 5.0)
    onset = (Mark(at_us=T0 + 90 * US, text="first symptom", kind="onset"),)
    drawn = plot(line(100, value=value, band=band_of(10, 2.0, 8.0), marks=onset))
    assert drawn.rough
    assert drawn.outside == ""
    assert "without regard to the step" in render(
        page([IncidentCard(incident=incident(), charts=(line(100, value=value, band=band_of(10, 2.0, 8.0), marks=onset),))])
    )


def test_a_band_that_was_never_learned_is_not_drawn():
    unknown = band_of(10, np.nan, np.nan)
    drawn = plot(line(100, band=unknown))
    assert (drawn.band, drawn.expected, drawn.outside) == ("", "", "")


def test_wide_ranges_are_logarithmic_by_themselves():
    assert plot(line(3, value=[1.0, 10.0, 1000.0])).log
    assert not plot(line(3, value=[0.0, 10.0, 1000.0])).log
    assert not plot(line(3, value=[1.0, 10.0, 1000.0], log=False)).log


def test_words_of_marks_do_not_lie_on_each_other():
    marks = [Mark(at_us=T0 + 40 * US, text="first symptom", kind="onset"), Mark(at_us=T0 + 41 * US, text="alarm", kind="opened")]
    drawn = plot(line(100, marks=tuple(marks), spans=(Span(from_us=T0 + 40 * US, to_us=0, text=""),)))
    assert [mark.row for mark in drawn.marks] == [0, 1]
    assert drawn.spans[0].left + drawn.spans[0].width == pytest.approx(100)


def test_marks_outside_the_window_are_left_out():
    assert plot(line(10, marks=(Mark(at_us=T0 - US, text="x", kind="fact"),))).marks == ()


@given(st.integers(0, 10**9), st.integers(1, 10**8))
def test_there_are_few_time_ticks_and_all_lie_inside(start_s, span_s):
    ticks = x_ticks(start_s * US, (start_s + span_s) * US)
    assert len(ticks) <= 6
    assert all(0 <= tick.percent <= 100 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.01234, "0.0123"), (6.5e-6, "6.50×10⁻⁶"), (float("nan"), "–"), (100.0, "100"), (-2.5, "-2.5")],
)
def test_quantities_have_three_digits(value, text):
    assert quantity(value) == text


# -- from a run ----------------------------------------------------------------------------------------------------------


class Measurements:
    """Just enough of a telemetry store: one agent, 1,200 samples of latency."""

    def __init__(self, value):
        self.at_us, self.value = T0 + np.arange(1200, dtype=np.int64) * US, np.asarray(value, float)

    def vitals(self, run_id):
        return ("latency_ms", "cost_usd")

    def agents(self, run_id):
        return ("coder-1",)

    def counts(self, run_id):
        return 1200

    def latest(self, run_id):
        batch = SampleBatch.blank(1)
        batch.at_us[0] = self.at_us[-1]
        return batch

    def series(self, run_id, agent_id, vital, **window):
        return VitalSeries(vital=vital, at_us=self.at_us, value=self.value)

    def bands(self, run_id, agent_id, vital, **window):
        flat = np.full(120, 100.0, dtype=np.float32)
        return BandSeries(vital=vital, at_us=self.at_us[::10], expected=flat, low=flat / 2, high=flat * 2)


def state_with(*incidents):
    agent = AgentState(agent_id="coder-1", index=0, type="coder", service="", health="sick")
    numbered = {one.incident_id: one for one in incidents}
    return RunState(
        run_id="run-1", seq=9, at_us=T0 + 1200 * US, started_at_us=T0, agents={"coder-1": agent}, incidents=numbered, rejected={"late": 3}
    )


def test_a_run_becomes_a_page_with_charts_of_the_vitals_that_speak():
    ratio = incident(evidence=(note(vital="cost_per_token"), note(vital="latency_ms")), closed_s=700)
    built = run_page(state_with(ratio), Measurements(np.full(1200, 90.0)), title="t", policy=Policy())
    assert [chart.title for chart in built.cards[0].charts] == ["cost", "latency"]
    chart = built.cards[0].charts[0]
    assert (chart.from_us, chart.to_us) == (T0 + 300 * US, T0 + 820 * US)
    assert [mark.kind for mark in chart.marks] == ["onset", "opened", "closed"]
    assert built.fleet[0].state == "sick"
    assert built.fleet[0].last_seen_us == T0 + 1199 * US
    assert "late: 3" in render(built)


def test_silence_is_charted_by_a_vital_that_stopped():
    silent = incident(evidence=(note(vital="samples", direction="silent"),))
    built = run_page(state_with(silent), Measurements(np.full(1200, 90.0)), title="t", policy=Policy())
    assert [chart.title for chart in built.cards[0].charts] == ["latency"]


def test_a_page_that_cannot_be_written_names_the_way_out(tmp_path):
    with pytest.raises(StoreUnavailableError, match="name a directory"):
        write_page(tmp_path / "missing" / "report.html", run_page(state_with(), Measurements(np.ones(1200)), title="t", policy=Policy()))


def test_the_truth_stands_beside_the_findings_and_is_escaped():
    from simulation.report_page import section

    def befallen(agent, kind):
        return SimpleNamespace(kind=kind, agents=(agent,), onset_us=T0, ended_us=T0 + US, cause="", shared=False)

    found, missed = befallen(HOSTILE, "tool_loop"), befallen("b", "cost_creep")
    detection = SimpleNamespace(label=found, right=True, delay_s=7.0, diagnosed="tool_loop")
    score = SimpleNamespace(
        injected=(found, missed), detected=(detection,), missed=(missed,), false_incidents=(), delay_median_s=7.0, delay_p95_s=7.0,
        false_quarantines=(SimpleNamespace(agent=HOSTILE, at_us=T0),),
    )  # fmt: skip
    written = render(page(), extra_sections=[section(score, seed=7)])
    assert "1 of 2 were found, 1 by the right name; 1 was to be isolated without cause." in written
    assert "✗ missed" in written
    assert "img" not in Skeleton(written).tags
