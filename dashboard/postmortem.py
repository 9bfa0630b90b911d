"""An incident as a post-mortem in Markdown: what happened, why it was believed, who decided what, and what came of it.

Times are UTC and to the second. Text from outside stays text: nothing in it becomes markup, a link or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from immune.core.evidence import SILENCE
from immune.core.vitals import VITALS
from immune.reports.words import in_words, sure

Document = dict[str, Any]
UNITS = {spec.name: spec.label.partition(", ")[2] for spec in VITALS}
DECIDED = {"used": "approved, and done", "granted": "approved"}
ENDS = {"compensated": "undone"}
RATIO_APART = 1.15
"""A told ratio further from that of the figures stands on half a count more on either side, and would contradict them."""
SILENT, STUCK = "silent", "stuck"
SHOWN = 3
"""Agents named in the first sentence; all stand below it."""
QUESTIONS = (
    "What did it cost, and whom did it reach?",
    "Was the diagnosis right? If not: what was it? (`immune feedback` tells the sentinel)",
    "Was it right to contain, as early and as hard as it was?",
    "What would have shown it sooner, or kept it from happening?",
    "What is done about it, by whom, until when?",
)
_AMBIGUOUS = re.compile(r"[\\`*\[\]<>|~&#!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINKED = re.compile(r"://|\bwww\.|@", re.IGNORECASE)


def post_mortem(story: Document) -> str:
    """The story of an incident, to be carried on by people."""
    incident = story["incident"]
    kind = in_words(incident["diagnosis"][0]["kind"]) if incident["diagnosis"] else "nothing known"
    head = [f"# Post-mortem: {incident['id']}, {kind}", "", _summary(story), "", *_facts(story)]
    sections = (
        ("Evidence", _evidence(incident)),
        ("What it looked like", _diagnosis(incident)),
        ("Decisions", _decisions(story)),
        ("What was done, and its effect", _deeds(story)),
        ("Timeline", _timeline(story["timeline"])),
        ("What we learn from it", [f"- {question}" for question in QUESTIONS]),
    )
    lines = head + [line for title, body in sections for line in ("", f"## {title}", "", *body)]
    return "\n".join([*lines, ""])


# -- head --------------------------------------------------------------------------------------------------------------------


def _summary(story: Document) -> str:
    """A few sentences for whoever reads no further."""
    incident, plans = story["incident"], story["plans"]
    noticed = f"It was noticed {_between(incident['onset_at'], incident['opened_at'])} after the first symptom"
    held = min((one["since"] for one in story["containments"]), default=None)
    noticed += f", and contained after {_between(incident['onset_at'], held)}." if held else "; nothing was contained."
    end = "It is still open."
    if incident["closed_at"]:
        took = _between(incident["onset_at"], incident["closed_at"])
        end = f"It was over {took} after the first symptom: {in_words(incident['outcome'])}{_because(incident['reason'])}."
    undone = sum(plan["outcome"] == "compensated" for plan in plans)
    tried = f" {_count(len(plans), 'plan')} {'was' if len(plans) == 1 else 'were'} made" + (f", {undone} undone." if undone else ".") if plans else ""
    people = "People decided: " + ", ".join(_code(who) for who in story["deciders"]) + "." if story["deciders"] else "No person decided anything."
    return f"{_what(incident)} {noticed} {end}{tried} {people}"


def _what(incident: Document) -> str:
    """Who, and the strongest symptom."""
    shown = [_code(one) for one in incident["agents"][:SHOWN]]
    whom = ", ".join(shown) + (f" and {len(incident['agents']) - SHOWN} more" if len(incident["agents"]) > SHOWN else "")
    if not incident["evidence"]:
        return f"{whom} fell sick."
    one = max(incident["evidence"], key=lambda note: note["nats"])
    vital, seen, usual = _text(_vital(one["vital"])), _figure(one["observed"], one["vital"]), _figure(one["expected"], one["vital"])
    if one["direction"] == SILENT:
        return f"{whom}: no sample for {seen}, where one came every {usual}."
    if one["direction"] == STUCK:
        return f"{whom}: the same again and again, {vital} at {seen}."
    return f"{whom}: {vital} {one['direction']}, {seen} against {usual} expected."


def _facts(story: Document) -> list[str]:
    incident = story["incident"]
    alike = f" (same {_text(in_words(incident['cohort']))})" if incident["cohort"] else ""
    lines = [
        f"- Agents: {', '.join(_agent(one) for one in story['agents'])}{alike}",
        f"- First symptom: {_when(incident['onset_at'])}",
        f"- Noticed: {_when(incident['opened_at'])}",
        f"- Over: {_when(incident['closed_at']) if incident['closed_at'] else 'not yet'}",
        f"- Severity at its height: {incident['peak_severity']:.1f} of 10 ({_text(in_words('; '.join(incident['peak_severity_why'])))})",
    ]
    lines += [_changed(one) for one in incident["changed"]]
    return [*lines, f"- From: run {_code(story['run_id'])}, its journal up to e{story['seq']}, policy {_code(story['policy_version'])}"]


def _changed(fact: Document) -> str:
    return f"- Changed before: {in_words(fact['field'])} from {_code(fact['before'] or 'none')} to {_code(fact['after'])} at {_when(fact['at'])}"


def _agent(one: Document) -> str:
    parts = [part for part in (one["type"], one["service"] and f"of {one['service']}") if part]
    return _code(one["id"]) + (f" ({_text(' '.join(parts))})" if parts else "")


# -- why ---------------------------------------------------------------------------------------------------------------------


def _evidence(incident: Document) -> list[str]:
    if not incident["evidence"]:
        return ["None was kept."]
    rows = ["| vital | direction | observed | expected | ratio | evidence, nats | since |", "|---|---|---|---|---|---|---|"]
    ranked = sorted(incident["evidence"], key=lambda one: -one["nats"])
    return rows + [
        f"| {_text(_vital(one['vital']))} | {one['direction']} | {_figure(one['observed'], one['vital'])} | {_figure(one['expected'], one['vital'])} "
        f"| {_ratio(one)} | {one['nats']:.1f} | {_when(one['onset_at'])} |"
        for one in ranked
    ]


def _vital(name: str) -> str:
    unit = UNITS.get(name, "")
    return in_words(name.removesuffix(f"_{unit.lower()}") if unit else name)


def _figure(value: float, vital: str) -> str:
    """Three digits that count, with the unit; whole figures from a thousand on."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    unit = "s" if vital == SILENCE else UNITS.get(vital)
    return f"{text} {unit}" if unit else text


def _ratio(one: Document) -> str:
    if one["direction"] == STUCK:
        return "unchanged"
    plain = one["observed"] / one["expected"] if one["expected"] else 0.0
    apart = max(plain / one["ratio"], one["ratio"] / plain) if plain > 0 and one["ratio"] > 0 else RATIO_APART * 2
    return f"×{one['ratio']:.3g}" if apart < RATIO_APART else ""


def _diagnosis(incident: Document) -> list[str]:
    lines = []
    for one in [found for place, found in enumerate(incident["diagnosis"]) if not place or found["confidence"] >= 0.01]:
        said = [f"for it: {'; '.join(one['for'])}"] if one["for"] else []
        said += [f"against it: {'; '.join(one['against'])}"] if one["against"] else []
        lines.append(f"- {in_words(one['kind'])}, {sure(one['confidence'])}" + (f" ({_text(in_words('. '.join(said)))})" if said else ""))
    if incident["ruled_out"]:
        lines += ["- Ruled out:", *(f"  - {_text(in_words(why))}" for why in incident["ruled_out"])]
    return lines or ["Like nothing that is known."]


# -- who and what ------------------------------------------------------------------------------------------------------------


def _decisions(story: Document) -> list[str]:
    lines = [_request(one) for one in story["approvals"]]
    lines += [f"- {_code(one['by'])} called it {_text(in_words(one['verdict']))}" for one in story["feedback"]]
    return lines or ["Nobody was asked, and nobody spoke up."]


def _request(one: Document) -> str:
    steps = ", then ".join(in_words(step["action"]) for step in one["plan"]["steps"]) if one["plan"] else one["level"]
    why = f", because {_text(one['rule_why'])}" if one.get("rule_why") else ""
    asked = f"- {one['id']}: {_code(one['requested_by'])} asked at {_when(one['requested_at'])} for {_text(steps)} (rule {_code(one['rule'])}{why})."
    if one["decided_by"]:
        how = DECIDED.get(one["status"], in_words(one["status"]))
        return f"{asked} {_code(one['decided_by'])} decided at {_when(one['decided_at'])}: {how}{_because(one['reason'])}"
    if one["status"] == "pending":
        return f"{asked} It waits for an answer until {_when(one['expires_at'])}; none means no."
    return f"{asked} Nobody answered: {in_words(one['status'])}{_because(one['reason'])}"


def _deeds(story: Document) -> list[str]:
    lines = [_held(one) for one in story["containments"]]
    for plan in story["plans"]:
        end = ENDS.get(plan["outcome"], in_words(plan["outcome"] or plan["status"]))
        lines.append(f"- {plan['id']}, rung {plan['rung'] + 1}, for {_code(plan['agent'])}: {end}{_because(plan['reason'])}")
        lines += [_step(step) for step in plan["steps"]]
        lines += [f"  - left out: {in_words(one['action'])} ({_text(one['reason'])})" for one in plan["skipped"]]
    return lines or ["Nothing was done."]


def _held(one: Document) -> str:
    until = f"until {_when(one['ended_at'])}, {_between(one['since'], one['ended_at'])}" if one["ended_at"] else "and still is"
    why = f"by {_code(one['by'])}: {_text(in_words(one['reason']))}"
    return f"- {one['id']}: {_code(one['target'])} was {one['level']} from {_when(one['since'])} {until} ({why})"


def _step(step: Document) -> str:
    undo = f"can be undone: {_text(step['undo'])}" if step["reversible"] else "cannot be undone"
    detail = f", {_text(step['detail'])}" if step["detail"] else ""
    return f"  - {in_words(step['action'])} (tier {step['tier']}, {undo}): {ENDS.get(step['status'], in_words(step['status']))}{detail}"


def _timeline(events: Iterable[Document]) -> list[str]:
    lines: list[str] = []
    day = ""
    for one in events:
        if one["at"][:10] != day:
            day = one["at"][:10]
            lines += [*([""] if lines else []), f"{day} (UTC)", ""]
        lines.append(f"- {one['at'][11:19]} **{one['stage']}** {_text(one['says'])} ({_code(one['actor'])}, {one['id']})")
    return lines


# -- words -------------------------------------------------------------------------------------------------------------------


def _when(at: str) -> str:
    return f"{at[:10]} {at[11:19]} UTC"


def _between(start: str, end: str) -> str:
    seconds = round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    minutes, hours = divmod(seconds, 60), divmod(seconds // 60, 60)
    if seconds < 60:
        return f"{seconds} s"
    return f"{minutes[0]} min {minutes[1]} s" if seconds < 3600 else f"{hours[0]} h {hours[1]} min"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _because(reason: str | None) -> str:
    return f": {_text(in_words(reason))}" if reason else ""


def _text(text: str) -> str:
    """Text that Markdown leaves alone, and in which addresses stay words."""
    flat = _AMBIGUOUS.sub(lambda found: "\\" + found[0], " ".join(text.split()))
    return _LINKED.sub(lambda found: found[0].replace(":", "\\:").replace(".", "\\.").replace("@", "\\@"), flat)


def _code(text: str) -> str:
    """Text as a code span that its own backticks cannot end."""
    flat = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", flat)), default=0))
    pad = " " if "`" in flat else ""
    return f"{fence}{pad}{flat}{pad}{fence}"
