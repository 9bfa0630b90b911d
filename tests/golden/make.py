"""Makes the golden journal of this version: ``python tests/golden/make.py tests/golden/journal-VERSION.jsonl.gz``.

A journal that a released version wrote must be read by every later one. So a golden journal is made once, by the version whose
name it bears, and never again: this script refuses to write over one. A later version gets a file of its own beside it.

The run: eight simulated agents over half an hour of virtual time, six of them listed as sick, with cures that often fail; it acts,
and a person grants two requests and rejects the third, again and again. Beside the archive stands ``.sha256``: the hash of what
`projection` says of the folded run.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from immune.bootstrap import Stores, build_engine
from immune.clock import VirtualClock, run_virtual
from immune.core.commands import Commands, Principal
from immune.core.events import Envelope
from immune.core.fold import fold
from immune.core.policy import ApprovalsPolicy, Policy
from immune.core.state import RunState
from immune.stores.archive import write_archive
from immune.stores.memory import MemoryJournal, MemoryTelemetry
from simulation.connector import SimulatedConnector
from simulation.fleet import SimulatedFleet
from simulation.scenario import read_scenario

START_US = 1_767_225_600_000_000
US = 1_000_000
WARMUP_S, LIVE_S = 480, 1500
ANN = Principal(name="ann", role="approver")
KINDS = ("token_explosion", "error_burst", "tool_loop", "latency_spike", "frozen", "cost_creep")
HOPELESS = "[cures]\nwrong = 0.2\nhalf = 0.2\nrelapse = 0.5\nfail = 0.4\nlate = 0.2\n"
LISTED = (
    "[chaos]\nrate = 0\noutage = 'none'\n"
    + HOPELESS
    + "".join(
        f"[[infection]]\nagent = '{agent}'\nkind = '{kind}'\nat_s = {20 + 60 * n}\nduration_s = 1200\n"
        for n, (agent, kind) in enumerate(
            zip(("coder-01", "support-01", "researcher-01", "coder-02", "planner-01", "support-02"), KINDS, strict=True)
        )
    )
)


def projection(envelopes: Iterable[Envelope]) -> dict[str, Any]:
    """What a journal says that no later version may read otherwise: who was sick, held, treated, asked for, and what became of it.

    Named facts instead of the whole state: a later version may add fields to its state, it may not change these.
    """
    state = fold(RunState(), envelopes)
    return {
        "run": [state.run_id, state.seq, state.head, state.at_us],
        "agents": {a.agent_id: [a.index, a.type, a.service, a.health, a.liveness, a.desired, a.observed, a.plan] for a in state.agents.values()},
        "incidents": {
            i.incident_id: [list(i.agents), i.scope, i.onset_us, i.opened_at_us, i.closed_at_us, i.outcome] for i in state.incidents.values()
        },
        "plans": {p.plan_id: [p.agent_id, p.incident_id, p.outcome, [[s.note.action, s.status] for s in p.steps]] for p in state.plans.values()},
        "approvals": {r.request_id: [r.about, r.plan_hash, r.status, r.requested_at_us] for r in state.approvals.values()},
        "containments": {key: [c.scope, c.target] for key, c in state.containments.items()},
        "in force": sorted(state.active_containments),
        "memory": {key: [known.worked, known.failed] for key, known in state.memory.items()},
    }


def fingerprint(envelopes: Iterable[Envelope]) -> str:
    """The hash of the projection."""
    return hashlib.sha256(json.dumps(projection(envelopes), sort_keys=True).encode()).hexdigest()


def run() -> MemoryJournal:
    """The run, in virtual time."""
    fleet = SimulatedFleet(agents=8, seed=5, start_us=START_US, duration_s=float(LIVE_S), warmup_s=float(WARMUP_S), scenario=read_scenario(LISTED))
    journal = MemoryJournal()
    policy = Policy(mode="act", approvals=ApprovalsPolicy(severity_at=3.0, undo_window_s=5.0))
    engine = build_engine(
        run_id="golden",
        sources=[fleet],
        stores=Stores(journal=journal, telemetry=MemoryTelemetry()),
        policy=policy,
        connectors=[SimulatedConnector(fleet)],
        source="golden",
    )
    engine.holder = "golden"
    engine.rules = replace(engine.rules, approvers=frozenset({ANN.name}))
    answered = 0

    def person(now_us: int) -> None:
        nonlocal answered
        for key in engine.state.open_approvals:
            request = engine.state.approvals[key]
            if request.status == "pending" and now_us - request.requested_at_us >= 3 * US:
                decision = "reject" if answered % 3 == 2 else "approve"
                answered += 1
                commands = Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us)
                engine.submit(commands.decide(request.request_id, decision, "golden", request.plan_hash))
                return

    async def life() -> None:
        end_us = START_US + (WARMUP_S + LIVE_S) * US
        engine.start(START_US)
        engine.on_tick = person
        await engine.run(VirtualClock(START_US), first_us=START_US, until_us=end_us)
        await engine.finish(end_us, "done")

    run_virtual(life())
    return journal


def main(path: Path) -> None:
    """Write the archive and its fingerprint."""
    marks = path.with_name(path.name + ".sha256")
    if path.exists() or marks.exists():
        sys.exit(f"{path} is there: a golden journal is never made again")
    journal = run()
    write_archive(journal, journal.runs()[0], path)
    path.chmod(0o644)
    marks.write_text(fingerprint(journal.read("golden")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
