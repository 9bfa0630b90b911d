"""After the last tick: the labels are opened, and the run is held against them in `report.json` and `report.html`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immune.bootstrap import Stores
from immune.core.events import LEVELS
from immune.core.state import IncidentState, RunState
from immune.errors import JournalBrokenError, StoreUnavailableError
from immune.reports.from_run import run_page, write_page
from immune.runtime.engine import Engine
from simulation import report_page
from simulation.fleet import SimulatedFleet
from simulation.scoring import Score, SeenIncident, SeenQuarantine, score

ISOLATED = LEVELS.index("isolated")


def write_reports(
    out: Path,
    engine: Engine,
    stores: Stores,
    fleet: SimulatedFleet,
    *,
    seed: int,
    duration_s: int,
    share_max: float,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write both reports; the JSON one as a document, with `more` at its end. Raises StoreUnavailableError when a file cannot be written."""
    state = engine.state
    verdict = judge(state, fleet)
    verified = _verified(stores, engine.run_id)
    account = engine.queue.account()
    report = {
        "run_id": engine.run_id,
        "seed": seed,
        "duration_s": duration_s,
        "warmup_s": fleet.warmup_s,
        "ticks": engine.counters.ticks,
        "ticks_skipped": engine.counters.ticks_skipped,
        "agents": len(state.agents),
        "policy_version": engine.rules.version,
        "mode": engine.rules.policy.mode,
        **verdict.as_json(),
        "containment": {"count": len(state.containments), "share_max": round(share_max, 4), "escaped": fleet.escaped()},
        "heals": heals(state),
        "approvals": approvals(state),
        "journal": {"events": state.seq, "head": state.head, "verified": verified},
        "telemetry": {"accepted": account.accepted, "stored": account.stored, "spooled": account.waiting, "dropped": account.dropped},
        "rejected": dict(sorted(engine.counters.rejected.items())),
        **(more or {}),
    }
    try:
        (out / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreUnavailableError(
            f"cannot write the report: {error.strerror}", field="--out", value=str(out), way_out="free some space, or name another directory"
        ) from None
    page = run_page(
        state,
        stores.telemetry,
        title=f"A simulated fleet of {len(state.agents)} agents",
        policy=engine.rules.policy,
        threshold_nats=engine.view.assessment.threshold_nats if engine.view else float("nan"),
        journal_verified=verified,
        journal=stores.journal,
        escaped=fleet.escaped(),
        notes=[f"The first {fleet.warmup_s / 60:.0f} minutes were healthy and fast-forwarded; nothing was drawn to happen in them."],
    )
    write_page(out / "report.html", page, extra_sections=[report_page.section(verdict, seed=seed)])
    return report


def judge(state: RunState, fleet: SimulatedFleet) -> Score:
    """What was seen, held against what was done. The labels must have been opened."""
    seen = [
        SeenIncident(
            incident_id=i.incident_id,
            scope=i.scope,
            agents=i.agents,
            opened_at_us=i.opened_at_us,
            onset_us=i.onset_us,
            kind=i.top_kind,
        )
        for i in state.incidents.values()
    ]
    asked = [quarantine for i in state.incidents.values() if (quarantine := _quarantine(i)) is not None]
    return score(fleet.truth.labels(), seen, asked)


def _quarantine(incident: IncidentState) -> SeenQuarantine | None:
    first = next((p for p in incident.proposals if LEVELS.index(p.level) >= ISOLATED), None)
    return SeenQuarantine(agent=incident.agents[0], at_us=first.at_us) if first else None


def heals(state: RunState) -> dict[str, int]:
    """Plans by their end. `exhausted` counts agents handed to a person; `relapsed`, verified cures that did not last."""
    ends = Counter(plan.outcome for plan in state.plans.values())
    return {
        "planned": len(state.plans),
        "verified": ends["succeeded"],
        "undone": ends["compensated"],
        "escalated": ends["escalated"],
        "exhausted": sum(agent.plan == "exhausted" for agent in state.agents.values()),
        "relapsed": sum(plan.relapsed for plan in state.plans.values()),
        "withdrawn": ends["withdrawn"],
        "rejected": ends["rejected"],
        "open": len(state.open_plans),
    }


def approvals(state: RunState) -> dict[str, int]:
    """Requests by what became of them; a grant that was used is an approved one."""
    ends = Counter(request.status for request in state.approvals.values())
    return {
        "requested": len(state.approvals),
        "approved": ends["granted"] + ends["used"],
        "rejected": ends["rejected"],
        "expired": ends["expired"],
        "withdrawn": ends["withdrawn"],
        "pending": ends["pending"],
    }


def _verified(stores: Stores, run_id: str) -> bool:
    try:
        stores.journal.verify(run_id)
    except JournalBrokenError:
        return False
    return True
