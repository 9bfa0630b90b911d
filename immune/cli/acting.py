"""Commands that act, and commands that tell what people know: each asks the running daemon and shows what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from immune.cli.output import DataDir, Json, emit, err, out, table
from immune.errors import InputError, RefusedError

Agent = Annotated[str, typer.Argument(metavar="ID", help="The agent.")]
Reason = Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Why; whoever reads the journal later sees it.")]
NoReason = Annotated[str, typer.Option("--reason", "-r", metavar="TEXT", help="Why.", show_default=False)]
DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def contain(
    target: Annotated[str, typer.Argument(metavar="ID", help="The agent; or the service, tool or `fleet` with --scope.")],
    level: Annotated[str, typer.Option("--level", "-l", metavar="LEVEL", help="throttled, restricted, isolated or evicted.")],
    reason: Reason,
    scope: Annotated[str, typer.Option("--scope", metavar="SCOPE", help="agent, service, tool or fleet.")] = "agent",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Contain an agent until it is released. Example: immune contain writer-3 --level isolated --reason 'spends too much'"""
    if scope == "agent":
        answer = tell(data_dir, ("agents", target, "contain"), {"level": level, "reason": reason})
    else:
        answer = tell(data_dir, ("containments",), {"scope": scope, "target": target, "level": level, "reason": reason})
    back = f"immune release {target}{'' if scope == 'agent' else f' --scope {scope}'} --reason …"
    emit(answer, as_json, lambda: done(f"{target} is to be {level}", answer, back))


def release(
    target: Annotated[str, typer.Argument(metavar="ID", help="The agent; or `fleet`; or the service or tool with --scope.")],
    reason: Reason,
    scope: Annotated[str, typer.Option("--scope", metavar="SCOPE", help="agent, service, tool or fleet.")] = "agent",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """End every containment of an agent, by your name. Example: immune release writer-3 --reason 'looked at it, all is well'"""
    if scope == "agent" and target != "fleet":
        answer = tell(data_dir, ("agents", target, "release"), {"reason": reason})
    else:
        answer = tell(data_dir, ("containments", target, "release"), {"reason": reason})
    emit(answer, as_json, lambda: done(f"{target} is released", answer))


def heal(
    agent_id: Agent,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show steps, risk and undo; do nothing.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Decide it by your name: nobody is asked again. The only way on after a rejection.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask for a healing plan. Example: immune heal writer-3 --dry-run"""
    answer = tell(data_dir, ("agents", agent_id, "heal"), {"now": now, "dry_run": dry_run})

    def show() -> None:
        if dry_run:
            asks = "a person would be asked" if answer.get("would_ask_a_person") else "it would start by itself"
            out.print(f"{agent_id}: {answer.get('diagnosis')}, severity {answer.get('severity', 0.0):.1f}; {asks}; nothing was done", markup=False)
            show_plan(answer)
        else:
            waits = f"immune approvals approve {answer['approval']}" if answer.get("approval") else ""
            done(f"{answer.get('plan', 'a plan')} for {agent_id} is made" + (", decided by name" if now else ""), answer, waits)

    emit(answer, as_json, show)


def enroll(
    agent_id: Agent,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="What sort of agent; the policy's modes go by it.", show_default=False)] = "",
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="The service it belongs to.", show_default=False)] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make an agent known before its first sample. Example: immune enroll writer-3 --type writer --service press"""
    answer = tell(data_dir, ("agents",), {"id": agent_id, "type": kind, "service": service})
    emit(answer, as_json, lambda: done(f"{agent_id} is enrolled", answer, f"immune retire {agent_id}"))


def retire(agent_id: Agent, reason: NoReason = "", data_dir: DataDir = None, as_json: Json = False) -> None:
    """Neither judge nor miss an agent any more, until it sends again. Example: immune retire writer-3 --reason 'moved'"""
    answer = tell(data_dir, ("agents", agent_id, "retire"), {"reason": reason})
    emit(answer, as_json, lambda: done(f"{agent_id} is retired", answer))


def report(agent_id: Agent, reason: Reason, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say that an agent seems sick: evidence with your name on it, not an order. Example: immune report writer-3 --reason 'talks nonsense'"""
    answer = tell(data_dir, ("agents", agent_id, "report"), {"reason": reason})
    emit(answer, as_json, lambda: done(f"your report on {agent_id} is on record", answer))


def feedback(
    incident_id: Annotated[str, typer.Argument(metavar="INCIDENT", help="For example inc-0001.")],
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="Nothing was wrong.")] = False,
    new_normal: Annotated[bool, typer.Option("--new-normal", help="What it does now is right: learn it.")] = False,
    cause: Annotated[str, typer.Option("--cause", metavar="TEXT", help="What it really was.", show_default=False)] = "",
    reason: NoReason = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Your verdict on an incident. Example: immune feedback inc-0007 --false-alarm --reason 'load test'"""
    given = [name for name, is_given in (("false_alarm", false_alarm), ("new_normal", new_normal), ("cause", bool(cause))) if is_given]
    if len(given) != 1:
        raise InputError(
            "one verdict, please", field="feedback", value=" ".join(given) or None, way_out="give --false-alarm, --new-normal or --cause TEXT"
        )
    answer = tell(data_dir, ("incidents", incident_id, "feedback"), {"verdict": given[0], "cause": cause, "reason": reason})
    emit(answer, as_json, lambda: done(f"{incident_id}: {cause or given[0].replace('_', ' ')}", answer))


def announce(
    cohort: Annotated[str, typer.Option("--cohort", metavar="NAME=VALUE", help="Who changes: version=2, service=press, type=writer …")],
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="ISO 8601 (UTC unless it says otherwise), or from now: 30m, 2h.")],
    reason: NoReason = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Announce a change that you know of. Example: immune announce --cohort version=2 --until 2h --reason deploy"""
    answer = tell(data_dir, ("announcements",), {"cohort": cohort, "until": _time(until), "reason": reason})
    emit(answer, as_json, lambda: done(f"a change of {cohort} is announced", answer))


def mute(
    agent_id: Agent,
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="ISO 8601 (UTC unless it says otherwise), or from now: 30m, 2h.")],
    reason: Reason,
    vital: Annotated[str, typer.Option("--vital", metavar="VITAL", help="Only this vital, e.g. latency_ms.", show_default=False)] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Do not be told of an agent for a while; hard limits are told anyway. Example: immune mute w-3 --until 2h --reason 'load test'"""
    answer = tell(data_dir, ("agents", agent_id, "mute"), {"vital": vital, "until": _time(until), "reason": reason})
    emit(answer, as_json, lambda: done(f"{agent_id}: {vital or 'everything'} is muted until {until}", answer))


def stop(
    reason: Reason,
    fleet: Annotated[bool, typer.Option("--fleet", help="Stop everyone.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether you mean it.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Stop the whole fleet: everyone is isolated until released. Example: immune stop --fleet --reason 'wrong prices go out'"""
    if not fleet:
        raise InputError(
            "what is to be stopped?", field="--fleet", way_out="give --fleet; one agent is stopped with `immune contain ID --level isolated`"
        )
    _confirm("every agent of the fleet stops working until it is released. Stop it?", yes=yes, as_json=as_json)
    answer = tell(data_dir, ("stop",), {"reason": reason})
    emit(answer, as_json, lambda: done("the fleet is stopped", answer, "immune release fleet --reason …"))


def memory(
    from_run: Annotated[
        str | None, typer.Option("--from-run", "--run", metavar="RUN", help="Which run; the newest unless given.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """What helped against which illness, and what did not. Needs no daemon. Example: immune memory --from-run run-20260101-000000-ab12"""
    from immune.cli.reading import run_state
    from immune.reports.documents import memory_documents

    with run_state(data_dir, from_run) as (_, state):
        documents = memory_documents(state)
    rows = [(d["signature"], d["action"], d["worked"], d["failed"]) for d in documents]
    emit(documents, as_json, lambda: table("", ("signature", "action", "worked", "failed"), rows, "nothing has been tried yet"))


# -- shared ------------------------------------------------------------------------------------------------------------


def tell(data_dir: Path | None, parts: tuple[str, ...], body: dict[str, object]) -> dict[str, Any]:
    """Send a command to the daemon of a data directory."""
    from immune.cli.client import connect, path_of

    return connect(data_dir).post(path_of(*parts), {name: value for name, value in body.items() if value != ""})


def done(what: str, answer: dict[str, Any], undo: str = "") -> None:
    """One sentence for people, with the event to ask about and the way back."""
    events = answer.get("events") or []
    why = f" · why: immune why {events[0]}" if events else ""
    out.print(what + why + (f" · next: {undo}" if undo else ""), markup=False)


def show_plan(plan: dict[str, Any]) -> None:
    """Steps, risk and undo of a plan, for people."""
    rows = [
        (
            number,
            step["action"],
            step.get("summary", ""),
            f"tier {step.get('tier', '?')}",
            "yes" if step.get("reversible") else "no",
            step.get("undo") or "nothing undoes it",
        )
        for number, step in enumerate(plan.get("steps") or [], 1)
    ]
    table("", ("step", "action", "does", "risk", "reversible", "undo"), rows, "no steps")
    for left_out in plan.get("skipped") or []:
        out.print(f"left out: {left_out['action']}: {left_out['reason']}", markup=False)


def _confirm(question: str, *, yes: bool, as_json: bool) -> None:
    import sys

    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise InputError("nobody can be asked here", field="--yes", way_out="give --yes if you mean it")
    err.print(question + " [y/N] ", end="", markup=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError("not confirmed, nothing was done", field="--yes", way_out="answer y, or give --yes")


def _time(text: str) -> str:
    """A point in time as the daemon reads it; ``30m`` counts from now."""
    from immune.clock import US, SystemClock
    from immune.core.events import iso
    from immune.sources.parse import RefusedValueError, parse_time

    number, unit = text[:-1], text[-1:]
    if unit in DURATIONS and number.isascii() and number.isdigit() and len(number) < 8:
        return iso(SystemClock().now_us() + int(number) * DURATIONS[unit] * US)
    try:
        at_us = parse_time(text)
    except RefusedValueError:
        at_us = None
    if at_us is None:
        raise InputError(
            "not a time", field="--until", value=text, way_out="ISO 8601 (UTC unless it says otherwise), epoch seconds, or from now: 30m, 2h"
        )
    return iso(at_us)
