"""The live view: fits its terminal, says states in words, and cannot be painted by an agent's name."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from immune.core import events as ev
from immune.core.events import Draft, EvidenceNote, seal
from immune.core.evidence import Assessment
from immune.core.fold import fold
from immune.core.state import RunState
from immune.reports.live import happening, live_view
from immune.reports.model import Happening, LiveAgent, LiveIncident, LiveView
from immune.reports.terminal import STATES, evidence_bar, screen

US = 1_000_000
NOW = 1_767_225_600 * US
WORDS = ("learning", "healthy", "suspected", "sick", "silent", "idle", "throttled", "restricted", "isolated", "evicted", "retired")


def agents(n=15, **more):
    return tuple(LiveAgent(**({"agent_id": f"coder-{k}", "type": "coder", "state": "healthy", "last_seen_us": NOW} | more)) for k in range(n))


def view(fleet=None, **more):
    facts = {
        "title": "Test", "run_id": "run-1", "mode": "observe", "phase": "live", "virtual": False, "now_us": NOW, "done_s": 41, "total_s": 60,
        "threshold_nats": 18.3, "agents": agents() if fleet is None else tuple(fleet), "footer": "q ends it",
    }  # fmt: skip
    return LiveView(**(facts | more))


def incidents(n):
    one = {"looks_like": "token_explosion", "confidence": 0.9, "severity": 4.0, "onset_us": NOW - 20 * US, "opened_us": NOW - 14 * US}
    return tuple(LiveIncident(incident_id=f"inc-{k}", who=f"coder-{k}", **one) for k in range(n))


def shown(one, *, width=100, height=30):
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(screen(one, width=width, height=height))
    return console.file.getvalue()


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 24), (140, 50), (80, 18)])
@pytest.mark.parametrize("fleet", [0, 1, 15, 400])
def test_the_screen_fits_its_terminal(width, height, fleet):
    happened = tuple(Happening(at_us=NOW, text="x" * 200) for _ in range(40))
    lines = shown(view(agents(fleet), incidents=incidents(20), happened=happened), width=width, height=height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("word", WORDS)
def test_every_state_has_its_own_icon_beside_its_word(word):
    text = shown(view(agents(1, state=word)))
    assert f"{STATES[word][0]} {word}" in text
    assert len({icon for icon, _ in STATES.values()}) == len(STATES)


def test_a_learning_agent_says_how_far_it_is():
    text = shown(view(agents(1, state="learning", baseline=(12, 15))))
    assert "learning baseline 12 of 15" in text
    assert "learning 12 of 15" in shown(view(agents(1, state="learning", baseline=(12, 15))), width=80)


def test_names_cannot_paint_the_screen():
    text = shown(view(agents(1, agent_id="[red]a[/red]\x1b[2J\u202eb")))
    assert "[red]a[/red]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_when_the_fleet_does_not_fit_the_sick_stay_and_the_others_are_counted():
    fleet = (*agents(40), LiveAgent(agent_id="zoe", type="coder", state="sick", severity=4.0, nats=30.0, last_seen_us=NOW))
    text = shown(view(fleet), height=24)
    assert "✚ sick" in text
    assert "more: " in text
    assert " healthy" in text.split("more: ")[1].splitlines()[0]


def test_the_evidence_bar_says_alarm_in_words_and_survives_any_number():
    assert evidence_bar(20.0, 18.3).plain.endswith("alarm")
    assert "alarm" not in evidence_bar(18.0, 18.3).plain
    assert evidence_bar(float("nan"), 18.3).plain.count("·") == 14
    assert evidence_bar(-5.0, 18.3).plain.count("·") == 14
    assert evidence_bar(5.0, 0.0).plain.count("·") == 14


def test_open_incidents_come_before_closed_ones():
    closed = LiveIncident(
        incident_id="old", who="old-one", looks_like="unknown", confidence=0, severity=1, onset_us=NOW - US, opened_us=NOW, closed_us=NOW + US
    )
    text = shown(view(incidents=(closed, *incidents(1))))
    assert text.index("✚ coder-0 token explosion") < text.index("✓ old-one")
    assert "incidents: 1 open, 1 closed" in text


def test_the_screen_says_when_time_is_virtual():
    assert "virtual time: ten healthy minutes" in shown(view(virtual=True, phase="ten healthy minutes"))


def envelopes(*events, subject="coder-1"):
    return seal("run-1", [Draft(at_us=NOW, subject=subject, event=event) for event in events], 0, ev.GENESIS)


def opened():
    figures = {"nats": 20, "ratio": 4, "observed": 4, "expected": 1, "effect": 2, "growth": 0, "calibration": 1}
    note = EvidenceNote(vital="latency_ms", direction="up", onset_us=NOW - 9 * US, basis="own", **figures)
    return ev.IncidentOpened(
        incident_id="inc-1", scope="agent", cohort="", agents=("coder-1",), onset_us=NOW - 9 * US, nats=20.0, threshold_nats=18.3, severity=4.0,
        severity_why=(), evidence=(note,), diagnosis=(), ruled_out=(), changed=(), policy_version="p",
    )  # fmt: skip


def test_a_view_is_made_of_state_and_assessment():
    enrolled = ev.AgentEnrolled(index=0, type="coder", service="")
    late = ev.AgentEnrolled(index=1, type="coder", service="")
    state = fold(RunState(), [*envelopes(enrolled, opened()), *envelopes(late, subject="coder-2")])
    assessment = Assessment(
        now_us=NOW, threshold_nats=18.3, nats=np.array([20.0], np.float32), samples=np.array([12]), ready=np.array([False]), silent=np.array([False]),
        idle=np.array([False]), findings=(),
    )  # fmt: skip
    made = live_view(
        state, assessment, title="t", mode="observe", phase="live", virtual=False, now_us=NOW, min_samples=15, last_seen_us={"coder-1": NOW}
    )
    assert made.agents[0].baseline == (12, 15)
    assert (made.agents[0].nats, made.agents[0].severity) == (20.0, 4.0)
    assert made.agents[1].baseline == (0, 15), "enrolled after the assessment"
    assert made.incidents[0].who == "coder-1"
    assert "unknown" in shown(made)


def test_what_happens_to_everybody_all_the_time_is_not_news():
    first, second, third = envelopes(
        ev.AgentEnrolled(index=0, type="", service=""),
        ev.HealthChanged(before="suspected", after="sick", nats=19.0, samples=50, basis="own"),
        opened(),
    )
    assert happening(first) is None
    assert happening(second) == Happening(at_us=NOW, text="coder-1 is sick, 19 nats", tone="bad")
    assert happening(third) == Happening(at_us=NOW, text="coder-1: unknown, severity 4.0", tone="bad")
