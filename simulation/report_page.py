"""The section of a demonstration's page that only the simulation can write: what befell whom, and what was found of it.

It enters the page as finished markup (`immune.reports.page.render(..., extra_sections=...)`), so that no field of the
control plane has to know of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from immune.core.events import iso
from simulation.scoring import Detection, Score
from simulation.truth import Label

US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One line of the table: what befell an agent (or several, by a shared cause), and what became of it."""

    who: str
    kind: str
    began: str
    found: bool
    named: bool
    delay_s: float
    diagnosed: str
    ended: str


def section(score: Score, *, seed: int) -> Markup:
    """The section as escaped markup."""
    environment = Environment(loader=PackageLoader("simulation"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template("verdict.html.jinja").render(
        headline=headline(score),
        fates=_fates(score),
        wrongly=[(seen.agent, _clock(seen.at_us)) for seen in score.false_quarantines],
        alarmed=[(", ".join(seen.agents), _clock(seen.opened_at_us)) for seen in score.false_incidents],
        median_s=score.delay_median_s,
        p95_s=score.delay_p95_s,
        seed=seed,
    )
    return Markup(text)  # noqa: S704 - made by an escaping engine


def headline(score: Score) -> str:
    """The verdict in a sentence."""
    named = sum(detection.right for detection in score.detected)
    words = "Nothing was done to any agent"
    if score.injected:
        words = f"{len(score.detected)} of {len(score.injected)} were found, {named} by the right name"
    wrong = len(score.false_quarantines)
    return f"{words}; {wrong or 'nobody'} {'was' if wrong < 2 else 'were'} to be isolated without cause."


def _fates(score: Score) -> list[Fate]:
    found = {id(detection.label): detection for detection in score.detected}
    return [_fate(label, found.get(id(label))) for label in score.injected]


def _fate(label: Label, detection: Detection | None) -> Fate:
    shared = f"{label.cause.replace('=', ' ')} ({len(label.agents)} agents)"
    return Fate(
        who=shared if label.shared else label.agents[0],
        kind=label.kind,
        began=_clock(label.onset_us),
        found=detection is not None,
        named=detection is not None and detection.right,
        delay_s=detection.delay_s if detection else 0.0,
        diagnosed=(detection.diagnosed or "unknown") if detection else "",
        ended=_clock(label.ended_us) if label.ended_us else "",
    )


def _clock(at_us: int) -> str:
    return iso(at_us)[11:19]
