"""The policy of a run, from its own journal: what held, and why each rule exists."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import fields
from typing import Any

from dashboard.projection import Projection
from dashboard.site import Site
from immune.actions import ACTIONS
from immune.core.events import RunStarted
from immune.core.policy import Policy
from immune.core.policy_file import policy_keys, read_policy
from immune.infections import CATALOGUE

POLICIES_KEPT = 32


def policy_of(site: Site, projection: Projection) -> tuple[Policy, str]:
    """(the policy in force at that moment, its text). The defaults where no run has begun."""
    version = projection.state.policy_version
    if version in site.policies:
        return site.policies[version]
    text = _text_of(site, projection)
    found = (read_policy(text) if text else Policy(), text)
    if version:
        site.policies[version] = found
        while len(site.policies) > POLICIES_KEPT:
            site.policies.popitem(last=False)
    return found


def _text_of(site: Site, projection: Projection) -> str:
    """The policy as the last start before that moment told it; wherever in the run that was."""
    starts = site.history_of(projection.run_id).starts if projection.run_id else ()
    before = bisect_right(starts, projection.state.seq)
    if not before:
        return ""
    with site.sources.journal() as journal:
        event = next(iter(journal.read(projection.run_id, after_seq=starts[before - 1] - 1, limit=1))).event()
    return event.policy if isinstance(event, RunStarted) else ""


def policy_document(site: Site, projection: Projection) -> dict[str, Any]:
    """``{version, mode, rules: [{name, value, default, changed, unit, low, high, options, why}], actions, kinds, text}``."""
    policy, text = policy_of(site, projection)
    defaults = {(section, field.name): value for section, field, value in policy_keys(Policy())}
    rules = []
    for section, field, value in policy_keys(policy):
        told = dict(field.metadata)
        default = defaults[section, field.name]
        rules.append(
            {
                "name": f"{section}.{field.name}" if section else field.name,
                "section": section,
                "value": value,
                "default": default,
                "changed": value != default,
                "unit": told.get("unit"),
                "low": told.get("low"),
                "high": told.get("high"),
                "options": list(told["options"]) if "options" in told else None,
                "why": told.get("why", ""),
            }
        )
    return {
        "run_id": projection.run_id,
        "version": projection.state.policy_version,
        "mode": policy.mode,
        "modes_by_type": dict(policy.modes_by_type),
        "rules": rules,
        "actions": [_plain(action) for action in ACTIONS],
        "kinds": [infection.kind for infection in CATALOGUE],
        "text": text,
    }


def _plain(item: Any) -> dict[str, Any]:
    found = {field.name: getattr(item, field.name) for field in fields(item)}
    return {name: value for name, value in found.items() if isinstance(value, (str, int, float, bool))}
