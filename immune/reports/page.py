"""A run as one HTML file: no request leaves it, no script runs in it, every word from outside is escaped.

What a page says is decided here; how it looks is in `templates/`. Sections that only others can write (a demonstration
knows more than the control plane may) enter as finished `Markup`, made by an escaping template engine of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from immune.core.events import EvidenceNote, iso
from immune.core.state import IncidentState
from immune.errors import InputError
from immune.reports.charts import Plot, Tick, clock_text, plot, quantity, x_ticks
from immune.reports.model import Acted, FleetRow, IncidentCard, Moment, RunPage, Trial
from immune.reports.sentences_acting import actor_words
from immune.reports.words import cohort_words, in_words, incident_who, looks_like

CARDS_MAX = 30
CHARTED_MAX = 10
LANES_MAX = 60
APPROVALS_MAX = 60
MEMORY_MAX = 100
FLEET_ROWS_MAX = 500
US = 1_000_000

ARROWS = {"up": "↑", "down": "↓", "stuck": "=", "silent": "∅"}
STATE_ICONS = {
    "learning": "◔",
    "healthy": "●",
    "suspected": "▲",
    "sick": "✚",
    "silent": "∅",
    "idle": "◦",
    "retired": "–",
    "throttled": "◒",
    "restricted": "◧",
    "isolated": "■",
    "evicted": "✕",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One incident on the timeline, in percent from the left: first symptom, alarm, end; where its agents were held: (left, width, kind)."""

    card: CardView
    onset: float
    opened: float
    width: float
    held: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """An incident with its words and plots."""

    number: int
    incident: IncidentState
    who: str
    looks_like: str
    harm: str
    noticed: str
    lasted: str
    quarantine: str
    held: bool
    moments: tuple[Moment, ...]
    trials: tuple[Trial, ...]
    plots: tuple[Plot, ...]


def render(page: RunPage, *, extra_sections: Sequence[Markup] = ()) -> str:
    """The whole page. Equal arguments give equal text. Raises InputError for a section that is not `Markup`."""
    for section in extra_sections:
        if not isinstance(section, Markup):
            raise InputError("an extra section must be escaped markup", field="extra_sections", value=section, way_out="render it with autoescape on")
    worst = worst_first(card.incident for card in page.cards)[:CARDS_MAX]
    kept = {incident.incident_id for incident in worst}
    by_time = sorted((c for c in page.cards if c.incident.incident_id in kept), key=lambda c: (c.incident.opened_at_us, c.incident.incident_id))
    cards = [_card(number, card) for number, card in enumerate(by_time, 1)]
    told = {moment.event_id for card in cards for moment in card.moments}
    fleet = sorted(page.fleet, key=lambda row: (-row.worst_severity, -row.incidents, row.agent_id))
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            headline=_unbroken(headline(page)),
            cards=cards,
            cards_left_out=len(page.cards) - len(cards),
            lanes=[_lane(card, spans, page) for card, spans in zip(cards, by_time, strict=True)][:LANES_MAX],
            told=told,
            charted_max=CHARTED_MAX,
            approvals_max=APPROVALS_MAX,
            memory_max=MEMORY_MAX,
            anchors=told | {moment.event_id for moment in page.log},
            time_ticks=_keep_apart(x_ticks(page.from_us, page.to_us)),
            fleet=fleet[:FLEET_ROWS_MAX],
            fleet_left_out=max(0, len(fleet) - FLEET_ROWS_MAX),
            tally=_tally(page.fleet),
            facts=_facts(page),
            extra_sections=extra_sections,
        )
    )


def headline(page: RunPage) -> str:
    """The run in two or three sentences."""
    own = [card.incident for card in page.cards if card.incident.scope == "agent" and card.incident.outcome != "explained"]
    shared = [card.incident for card in page.cards if card.incident.scope != "agent"]
    sick = sorted({agent for incident in own for agent in incident.agents})
    touched = {agent for incident in shared for agent in incident.agents} | set(sick)
    span = duration((page.to_us - page.from_us) / US)
    watched = f"{count(len(page.fleet), 'agent')} watched for {span}"
    if not page.cards:
        return f"Nobody fell sick: {watched}, and no incident."
    sentences = []
    if sick:
        fell = f"{count(len(sick), 'agent').capitalize()} of {len(page.fleet)} fell sick in {span}"
        sentences.append(f"{fell}; {_noticed(sorted(map(_delay_s, own)))}.")
    if page.acted is not None:
        sentences += _done(page.acted)
    for incident in shared[:2]:
        what = "across the fleet" if incident.scope == "fleet" else f"same {cohort_words(incident.cohort)}"
        sentences.append(f"A shared cause ({what}) moved {count(len(incident.agents), 'agent')} together and was kept as one incident.")
    spared = len(page.fleet) - len(touched)
    if spared > 0:
        sentences.append(f"The other {spared} {'was' if spared == 1 else 'were'} not disturbed.")
    return " ".join(sentences)


def _done(done: Acted) -> list[str]:
    """What was done, in at most two sentences; nothing that was not seen in force is called contained."""
    parts = []
    if done.held_agents:
        parts.append(f"{len(done.held_agents)} {'was' if len(done.held_agents) == 1 else 'were'} contained")
    elif done.would_have:
        parts.append(f"{done.would_have} would have been contained, nothing was stopped")
    if done.healed_agents:
        parts.append(f"{len(done.healed_agents)} healed and released on fresh evidence")
    if done.held_agents and done.explained_agents:
        parts.append(f"{len(done.explained_agents)} let go because a shared cause explains it")
    if done.waiting_agents:
        parts.append(f"{len(done.waiting_agents)} {'waits' if len(done.waiting_agents) == 1 else 'wait'} for a person's answer")
    if done.owned_agents:
        parts.append(f"{len(done.owned_agents)} {'is' if len(done.owned_agents) == 1 else 'are'} in a person's hands")
    said = [f"{_listed(parts).capitalize()}."] if parts else []
    if done.alarms:
        said.append(f"{count(len(done.alarms), 'order')} did not come into force.")
    return said


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _unbroken(text: str) -> str:
    """The same text with figures kept on one line with their units."""
    return re.sub(r"(?<=\d) (?=(?:s|min|h|d)\b)", "\u00a0", text)


def _noticed(delays_s: Sequence[float]) -> str:
    """How fast, in words; `delays_s` ascending and not empty."""
    middle, slowest = delays_s[(len(delays_s) - 1) // 2], delays_s[-1]
    if len(delays_s) == 1:
        return f"it was noticed within {duration(slowest)} of its first symptom"
    if len(delays_s) > 2 and slowest > 3 * middle:
        return f"half of them were noticed within {duration(middle)} of the first symptom, the slowest after {duration(slowest)}"
    return f"each was noticed within {duration(slowest)} of the first symptom"


def worst_first(incidents: Iterable[IncidentState]) -> list[IncidentState]:
    """Highest severity first, then the earliest."""
    return sorted(incidents, key=lambda one: (-one.peak_severity, one.opened_at_us, one.incident_id))


def duration(seconds: float) -> str:
    """``9 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def count(number: int, noun: str) -> str:
    """``1 agent``, ``1,204 agents``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def harm_word(severity: float) -> str:
    """A word for a severity: below 1 slight, 3 moderate, 6 serious, else grave."""
    return next((word for word, below in (("slight", 1.0), ("moderate", 3.0), ("serious", 6.0)) if severity < below), "grave")


def ratio_text(note: EvidenceNote) -> str:
    """How far from normal: ``×4.2``, or words where a ratio says nothing."""
    if note.direction == "stuck":
        return "repeats exactly"
    if note.direction == "silent":
        return f"{quantity(note.ratio)} usual intervals"
    return f"×{quantity(note.ratio)}"


def utc(at_us: int) -> str:
    """``2026-11-21 14:03:05 UTC``, or a dash for 0."""
    return f"{iso(at_us)[:19].replace('T', ' ')} UTC" if at_us else "–"


def _card(number: int, card: IncidentCard) -> CardView:
    incident = card.incident
    return CardView(
        number=number,
        incident=incident,
        who=incident_who(incident),
        looks_like=looks_like([(one.kind, one.confidence) for one in incident.diagnosis]),
        harm=harm_word(incident.peak_severity),
        noticed=duration(_delay_s(incident)),
        lasted=duration((incident.closed_at_us - incident.opened_at_us) / US) if incident.closed_at_us else "",
        quarantine=_quarantine(card),
        held=bool(card.holds),
        moments=card.moments,
        trials=card.trials,
        plots=tuple(plot(chart) for chart in card.charts),
    )


def _quarantine(card: IncidentCard) -> str:
    """What containment was asked for and what came of it, in a sentence; empty if none. Only what was seen in force is told as done."""
    incident = card.incident
    if card.holds:
        return f"{card.holds[0].level} from {_stretches(card)}"
    strongest = next((proposal for proposal in incident.proposals if proposal.level == incident.proposed), None)
    if strongest is None or strongest.level == "none":
        return ""
    if card.contained:
        return f"ordered to be {strongest.level} at {clock_text(strongest.at_us)}, not seen in force"
    return f"would have been {strongest.level} at {clock_text(strongest.at_us)}"


def _stretches(card: IncidentCard) -> str:
    shown = [f"{clock_text(hold.from_us)} {f'to {clock_text(hold.to_us)}' if hold.to_us else 'on'}" for hold in card.holds]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} times more" if len(shown) > 3 else "")


def _delay_s(incident: IncidentState) -> float:
    return max(0, incident.opened_at_us - incident.onset_us) / US


def _lane(card: CardView, given: IncidentCard, page: RunPage) -> Lane:
    def percent(at_us: int) -> float:
        return round(min(100.0, max(0.0, (at_us - page.from_us) / max(1, page.to_us - page.from_us) * 100)), 2)

    def stretch(from_us: int, to_us: int, kind: str) -> tuple[float, float, str]:
        left = percent(from_us)
        return left, max(0.2, round(percent(to_us or page.to_us) - left, 2)), kind

    incident = card.incident
    onset, end = percent(incident.onset_us), percent(incident.closed_at_us or page.to_us)
    held = [stretch(hold.from_us, hold.to_us, "held") for hold in given.holds]
    tried = [stretch(trial.from_us, trial.to_us, "trial") for trial in given.trials]
    return Lane(card=card, onset=onset, opened=percent(incident.opened_at_us), width=max(0.4, round(end - onset, 2)), held=(*held, *tried))


def _keep_apart(ticks: tuple[Tick, ...]) -> tuple[Tick, ...]:
    """Without ticks that would hang over the right edge."""
    return tuple(tick for tick in ticks if tick.percent <= 94)


def _tally(fleet: Sequence[FleetRow]) -> list[tuple[str, int]]:
    """How many agents are in each state, the most pressing first."""
    order = ["sick", "silent", "suspected", "evicted", "isolated", "restricted", "throttled", "learning", "idle", "healthy", "retired"]
    states = [row.state for row in fleet]
    return [(state, states.count(state)) for state in sorted(set(states), key=lambda s: order.index(s) if s in order else len(order))]


def _facts(page: RunPage) -> list[tuple[str, str]]:
    """Name and value of what a reader may want to check."""
    checked = {True: "checked, unbroken", False: "BROKEN", None: "not checked for this page"}[page.journal_verified]
    facts = [
        ("Run", page.run_id),
        ("Source", page.source),
        ("From", utc(page.from_us)),
        ("To", utc(page.to_us)),
        ("Mode", page.mode),
        ("Journal", f"{count(page.journal_events, 'event')}, hash chain {checked}"),
        ("Journal head", page.journal_head),
        ("Policy version", page.policy_version),
        ("Alarm at", f"{page.threshold_nats:.1f} nats of evidence" if page.threshold_nats == page.threshold_nats else ""),
        ("Written by", f"immune {page.version}"),
    ]
    return [(name, value) for name, value in facts if value]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("immune.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(actor=actor_words, words=in_words, quantity=quantity, utc=utc, clock=clock_text, ratio=ratio_text, harm=harm_word)
    environment.globals.update(arrows=ARROWS, state_icons=STATE_ICONS)
    return environment
