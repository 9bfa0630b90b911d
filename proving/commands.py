"""What people say in a history: some command, sensible or not."""

from __future__ import annotations

import random
from typing import Any

from immune.core.state import RunState

US = 1_000_000


def some_command(state: RunState, rng: random.Random, now_us: int) -> tuple[str, str, dict[str, Any] | None]:
    """(method, path, body) of something that somebody might ask for in this state."""
    agent_id = rng.choice([*state.agents, "nobody"])
    incident_id = rng.choice([*state.incidents, "inc-none"])
    request_id = rng.choice([*state.approvals, "req-none"])
    known = state.approvals.get(request_id)
    plan_hash = known.plan_hash if known and rng.random() < 0.8 else "0" * 64
    reason = rng.choice(("looks odd", "because", ""))
    match rng.choice(
        ("decide", "undo", "contain", "contain", "release", "heal", "heal_now", "feedback", "report", "announce", "retire", "enroll", "scope", "free")
    ):
        case "decide":
            body = {"decision": rng.choice(("approve", "approve", "reject", "maybe")), "reason": reason, "plan_hash": plan_hash}
            return "POST", f"/v1/approvals/{request_id}/decision", body
        case "undo":
            return "POST", f"/v1/approvals/{request_id}/undo", {"reason": reason}
        case "contain":
            return "POST", f"/v1/agents/{agent_id}/contain", {"level": rng.choice(("throttled", "isolated", "none")), "reason": reason}
        case "release":
            return "POST", f"/v1/agents/{agent_id}/release", {"reason": reason or "looks well"}
        case "heal" | "heal_now" as word:
            return "POST", f"/v1/agents/{agent_id}/heal", {"now": word == "heal_now"}
        case "feedback":
            verdict = rng.choice(("false_alarm", "new_normal", "cause", "hm"))
            return "POST", f"/v1/incidents/{incident_id}/feedback", {"verdict": verdict, "cause": rng.choice(("", "a bad deploy")), "reason": reason}
        case "report":
            return "POST", f"/v1/agents/{agent_id}/report", {"reason": "it is rude"}
        case "announce":
            return "POST", "/v1/announcements", {"cohort": "version=2", "until": now_us // US + rng.choice((-1, 60)), "reason": "deploy"}
        case "retire" if rng.random() < 0.3:
            return "POST", f"/v1/agents/{agent_id}/retire", {"reason": reason}
        case "enroll":
            return "POST", "/v1/agents", {"id": f"new-{rng.randrange(3)}", "type": "coder", "service": "search"}
        case "scope":
            scope, target = rng.choice((("service", "search"), ("fleet", ""), ("tool", "shell"), ("planet", "earth")))
            return "POST", "/v1/containments", {"scope": scope, "target": target, "level": "isolated", "reason": reason}
        case _:
            return "POST", f"/v1/containments/{rng.choice(('search', 'fleet', 'shell', agent_id))}/release", {"reason": reason or "enough"}
