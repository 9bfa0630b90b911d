"""Words that pages and screens share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from immune.core.state import IncidentState


def in_words(identifier: str) -> str:
    """``token_explosion`` as ``token explosion``."""
    return identifier.replace("_", " ")


def cohort_words(cohort: str) -> str:
    """What the members of a shared cause have in common: ``provider north``; numbers that only the machine knows are left out."""
    parts = [part for part in re.split(r"[:=]", cohort) if part and not part.isdigit()]
    return in_words(" ".join(parts)) or "fleet"


def subject_words(subject: str) -> str:
    """Whom an event of an incident is about: an agent's id as it is, a cohort's key in words."""
    return f"same {cohort_words(subject)}" if re.match(r"(type|service|provider|model|version|prompt_hash|tool|task)[:=]", subject) else subject


def incident_who(incident: IncidentState) -> str:
    """Whom an incident is about: its agent, or what its agents share."""
    if incident.scope == "agent":
        return ", ".join(incident.agents)
    many = f"{len(incident.agents):,} agent" + ("" if len(incident.agents) == 1 else "s")
    return f"across the fleet ({many})" if incident.scope == "fleet" else f"same {cohort_words(incident.cohort)} ({many})"


def sure(confidence: float) -> str:
    """``91 %``; nobody is a hundred percent sure of anything, or sure that something cannot be."""
    return "> 99 %" if confidence > 0.99 else "< 1 %" if 0 < confidence < 0.01 else f"{100 * confidence:.0f} %"


def looks_like(kinds: Sequence[tuple[str, float]]) -> str:
    """The first line of a differential: ``token explosion, 91 %``; ``unknown`` stands alone."""
    if not kinds or kinds[0][0] == "unknown":
        return "unknown"
    return f"{in_words(kinds[0][0])}, {sure(kinds[0][1])}"
