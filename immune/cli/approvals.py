"""``immune approvals``: what waits for a person, and the person's decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from immune.cli.acting import NoReason, Reason, done, show_plan, tell
from immune.cli.output import DataDir, Json, Run, emit, out, table

if TYPE_CHECKING:
    from immune.core.state import RunState

app = typer.Typer(help="What waits for a person; decide it.", invoke_without_command=True)

Request = Annotated[str, typer.Argument(metavar="ID", help="For example req-0001.")]
All = Annotated[bool, typer.Option("--all", help="Those that are decided, too.")]
WAITING = ("pending", "granted")


@app.callback()
def default(context: typer.Context, everything: All = False, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """What waits for a person. Needs no daemon. Example: immune approvals approve req-0001 --reason 'seen it'"""
    if context.invoked_subcommand is None:
        approvals_list(everything, data_dir, run, as_json)


@app.command("list")
def approvals_list(everything: All = False, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """Requests that wait, the most severe first. Example: immune approvals list --all"""
    from immune.cli.reading import run_state
    from immune.reports.documents import approval_document

    with run_state(data_dir, run) as (_, state):
        asked = [one for one in state.approvals.values() if everything or one.status in WAITING]
        ordered = sorted(asked, key=lambda one: (one.status not in WAITING, -one.severity, one.seq))
        documents = [approval_document(state, one) for one in ordered]
        now_us = state.ended_at_us or _now_us(state.at_us)
        times = [(now_us - one.requested_at_us, one.expires_us - now_us) for one in ordered]
        owned = owned_rows(state, now_us)

    def show() -> None:
        rows = [_row(document, *pair) for document, pair in zip(documents, times, strict=True)]
        columns = ("request", "agent", "severity", "looks like", "plan", "reversible", "asked because", "age", "expires in")
        table("", columns, rows, "no request waits for a person" if owned else "nothing waits for a person")
        if any(document["status"] == "pending" for document in documents):
            out.print("decide: immune approvals approve ID · immune approvals reject ID --reason TEXT", style="dim")
        if owned:
            table("a person's task", ("agent", "incident", "severity", "to do", "due in"), owned, "")
            out.print("when it is done: immune release ID --reason TEXT", style="dim")

    emit(documents, as_json, show)


@app.command("show")
def approvals_show(request_id: Request, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """One request: plan with risk and undo, evidence, plan hash. Example: immune approvals show req-0001"""
    from immune.cli.reading import known, run_state
    from immune.reports.documents import approval_document

    with run_state(data_dir, run) as (_, state):
        document = approval_document(state, known(state.approvals, request_id, "approval"))
    emit(document, as_json, lambda: show_request(document))


@app.command("approve")
def approve(
    request_id: Request,
    reason: NoReason = "",
    plan_hash: Annotated[
        str, typer.Option("--plan-hash", metavar="HASH", help="The plan you mean; refused if it is another. The one that waits unless given.")
    ] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Approve a request: shows the plan and its hash, and approves that plan. Example: immune approvals approve req-0001"""
    _decide("approve", request_id, reason, plan_hash, data_dir, as_json)


@app.command("reject")
def reject(request_id: Request, reason: Reason, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Reject a request: the agent stays contained. Example: immune approvals reject req-0001 --reason 'not during the fair'"""
    _decide("reject", request_id, reason, "", data_dir, as_json)


@app.command("undo")
def undo(request_id: Request, reason: NoReason = "", data_dir: DataDir = None, as_json: Json = False) -> None:
    """Take an approval back while nothing has started; it then counts as rejected. Example: immune approvals undo req-0001"""
    answer = tell(data_dir, ("approvals", request_id, "undo"), {"reason": reason})
    emit(answer, as_json, lambda: done(f"{request_id} is taken back and counts as rejected", answer))


def _decide(decision: str, request_id: str, reason: str, plan_hash: str, data_dir: Any, as_json: bool) -> None:
    from immune.cli.client import connect, path_of

    client = connect(data_dir)
    request = client.get(path_of("approvals", request_id))
    meant = plan_hash or str(request["plan_hash"])
    if decision == "approve" and not as_json:
        show_request(request)
    answer = client.post(
        path_of("approvals", request_id, "decision"), {"decision": decision, "plan_hash": meant, **({"reason": reason} if reason else {})}
    )
    word = "approved" if decision == "approve" else "rejected"
    back = f"immune approvals undo {request_id}" if decision == "approve" else ""
    emit({**answer, "plan_hash": meant}, as_json, lambda: done(f"{request_id} {word}, plan {meant}", answer, back))


def show_request(document: dict[str, Any]) -> None:
    """A request for people: what a yes would mean."""
    out.print(f"{document['id']}: {_about(document)}, severity {document['severity']:.1f}, {document['status']}", markup=False)
    out.print(f"looks like {_looks(document)}; asked because {_because(document)}", markup=False)
    if document.get("plan"):
        show_plan(document["plan"])
    out.print(f"plan hash {document['plan_hash']}", markup=False)
    out.print(f"expires {document['expires_at']}; expired is denied", markup=False)
    if document.get("decided_by"):
        reason = f": {document['reason']}" if document.get("reason") else ""
        out.print(f"{document['status']} by {document['decided_by']} at {document['decided_at']}{reason}", markup=False)


def owned_rows(state: RunState, now_us: int) -> list[tuple[object, ...]]:
    """Agents that a person owns because nothing on the ladder is left: agent, incident, severity, what to do, time left."""
    rows: list[tuple[object, ...]] = []
    for agent in state.agents.values():
        incident = state.incidents.get(agent.incident_id)
        if agent.plan != "exhausted" or incident is None:
            continue
        due = [one for one in state.tasks.values() if one.agent_id == agent.agent_id and one.seq > incident.opened_seq]
        todo = f"{due[-1].action} ({due[-1].reason})" if due else "mend it: every cure on the ladder failed"
        left = "–" if not due else span(due[-1].deadline_us - now_us) if due[-1].deadline_us > now_us else "overdue"
        rows.append((agent.agent_id, incident.incident_id, f"{incident.severity:.1f}", todo, left))
    return rows


def _row(document: dict[str, Any], age_us: int, left_us: int) -> tuple[object, ...]:
    steps = (document.get("plan") or {}).get("steps", [])
    plan = " → ".join(step["action"] for step in steps) or _about(document)
    reversible = "–" if not steps else "yes" if all(step["reversible"] for step in steps) else "no"
    left = span(left_us) if left_us > 0 and document["status"] in WAITING else "over"
    state = left if document["status"] == "pending" else document["status"]
    severity = f"{document['severity']:.1f}"
    return document["id"], document["subject"], severity, _looks(document), plan, reversible, _because(document), span(age_us), state


def _about(document: dict[str, Any]) -> str:
    if document["about"] == "plan":
        return f"heal {document['subject']}"
    return "lift the fleet brake" if document["about"] == "brake" else f"{document['subject']} to be {document['level']}"


def _looks(document: dict[str, Any]) -> str:
    differential = (document.get("incident") or {}).get("diagnosis") or []
    return f"{differential[0]['kind']} {differential[0]['confidence']:.0%}" if differential else "unknown"


def _because(document: dict[str, Any]) -> str:
    return str(document["rule"]) or f"severity {document['severity']:.1f}"


def _now_us(newest_us: int) -> int:
    from immune.clock import SystemClock

    return max(newest_us, SystemClock().now_us())


def span(us: int) -> str:
    """A length of time in the unit people would use."""
    seconds = max(0, us) / 1e6
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
