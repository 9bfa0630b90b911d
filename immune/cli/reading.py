"""Commands that read: agents, incidents, runs, why. They need no running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from immune.cli.output import DataDir, Json, Run, emit, out, table

if TYPE_CHECKING:
    from immune.bootstrap import Stores
    from immune.core.state import RunState

agents = typer.Typer(help="The fleet: state of every agent.", invoke_without_command=True)
incidents = typer.Typer(help="What was noticed, with evidence and diagnosis.", invoke_without_command=True)
runs = typer.Typer(help="Every recorded run.", invoke_without_command=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The id, as the list shows it.")]


@contextmanager
def stores(data_dir: Path | None) -> Iterator[Stores]:
    """Read-only handles on a data directory."""
    from immune.bootstrap import open_stores_read_only
    from immune.settings import load_settings

    opened = open_stores_read_only(load_settings(data_dir=data_dir).data_dir)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def run_state(data_dir: Path | None, run: str | None) -> Iterator[tuple[Stores, RunState]]:
    """Handles and the folded state of one run."""
    from immune.bootstrap import read_state

    with stores(data_dir) as opened:
        yield opened, read_state(opened.journal, run)


@agents.callback()
def agents_default(context: typer.Context, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """The fleet: state of every agent. Example: immune agents --json"""
    if context.invoked_subcommand is None:
        agents_list(data_dir, run, as_json)


def _state(document: dict[str, Any]) -> str:
    """The state for people; a block that is not seen in force is never shown as one."""
    from immune.core.events import LEVELS

    wanted, seen = document["containment"]["desired"], document["containment"]["observed"]
    return f"{document['state']} ({wanted} not enforced)" if LEVELS.index(wanted) > LEVELS.index(seen) else str(document["state"])


@agents.command("list")
def agents_list(data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """Every agent, the most severe first."""
    from immune.reports.documents import agent_document

    with run_state(data_dir, run) as (_, state):
        documents = sorted((agent_document(state, agent) for agent in state.agents.values()), key=lambda d: (-d["severity"], d["id"]))

    def show() -> None:
        rows = [(d["id"], d["type"], d["service"], _state(d), f"{d['severity']:.1f}", d["incident"] or "") for d in documents]
        table("", ("agent", "type", "service", "state", "severity", "incident"), rows, "no agents yet: run `immune demo` or `immune replay FILE`")

    emit(documents, as_json, show)


@agents.command("show")
def agents_show(agent_id: Id, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """One agent: its facts, its incidents, its newest vitals."""
    from immune.reports.documents import agent_document, containment_document, incident_document, task_document

    with run_state(data_dir, run) as (opened, state):
        agent = known(state.agents, agent_id, "agent")
        document = agent_document(state, agent)
        document["incidents"] = [incident_document(i) for i in state.incidents.values() if agent_id in i.agents]
        document["vitals"] = _newest(opened, state.run_id, agent_id)
        document["containments"] = [containment_document(c) for c in state.containments.values() if c.covers(agent)]
        document["tasks"] = [task_document(one) for one in state.tasks.values() if one.agent_id == agent_id]

    def show() -> None:
        out.print(f"{agent_id}: {_state(document)}, severity {document['severity']:.1f}", markup=False)
        for one in (c for c in document["containments"] if c["active"]):
            out.print(f"to be {one['level']} since {one['since']} by {one['by']}: {one['reason']} (immune why {one['id']})", markup=False)
        if document["plan"] == "exhausted":
            out.print("a person owns it: nothing on the ladder is left; when it is mended: immune release ID --reason TEXT", markup=False)
            for one in document["tasks"][-1:]:
                out.print(f"{one['id']}: {one['action']} by {one['deadline_at']}: {one['reason']}", markup=False)
        rows = [(name, "missing" if value is None else f"{value:g}") for name, value in document["vitals"].items()]
        table("newest vitals", ("vital", "value"), rows, "no vitals stored")
        incident_table(document["incidents"])

    emit(document, as_json, show)


@incidents.callback()
def incidents_default(context: typer.Context, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """What was noticed, with evidence and diagnosis. Example: immune incidents show inc-0001"""
    if context.invoked_subcommand is None:
        incidents_list(data_dir, run, as_json)


@incidents.command("list")
def incidents_list(data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """Every incident, newest first."""
    from immune.reports.documents import incident_document

    with run_state(data_dir, run) as (_, state):
        documents = [incident_document(incident) for incident in reversed(state.incidents.values())]
    emit(documents, as_json, lambda: incident_table(documents))


@incidents.command("show")
def incidents_show(incident_id: Id, data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """One incident: evidence, differential, what was ruled out, what the policy asked for."""
    from immune.reports.documents import incident_document

    with run_state(data_dir, run) as (_, state):
        document = incident_document(known(state.incidents, incident_id, "incident"))

    emit(document, as_json, lambda: show_incident(document))


@runs.callback()
def runs_default(context: typer.Context, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Every recorded run. Example: immune runs show run-20260101-000000-ab12"""
    if context.invoked_subcommand is None:
        runs_list(data_dir, as_json)


@runs.command("list")
def runs_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Every run, newest first."""
    from immune.core.events import iso

    with stores(data_dir) as opened:
        documents = [
            {"run_id": r.run_id, "events": r.events, "first_at": iso(r.first_at_us), "last_at": iso(r.last_at_us), "head": r.head}
            for r in opened.journal.runs()
        ]

    def show() -> None:
        rows = [(d["run_id"], d["events"], d["first_at"], d["last_at"], str(d["head"])[:12]) for d in documents]
        table("", ("run", "events", "first event", "last event", "head"), rows, "no runs yet")

    emit(documents, as_json, show)


@runs.command("show")
def runs_show(run_id: Id, data_dir: DataDir = None, as_json: Json = False) -> None:
    """One run in figures."""
    from immune.reports.documents import run_document

    with run_state(data_dir, run_id) as (opened, state):
        document = {**run_document(state), "samples_stored": opened.telemetry.counts(run_id)}
    emit(document, as_json, lambda: table("", ("figure", "value"), list(document.items()), ""))


def why(
    subject: Annotated[
        str,
        typer.Argument(metavar="ID", help="An event (e17), incident (inc-0001), plan (plan-0001), request (req-0001), containment (con-…) or agent."),
    ],
    data_dir: DataDir = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Why something was decided: evidence, rule, policy version, who. Example: immune why inc-0001"""
    from immune.reports.explain import explain

    with run_state(data_dir, run) as (opened, state):
        explanation = explain(opened.journal, state, subject)

    def show() -> None:
        out.print(explanation["sentence"], markup=False)
        for name in ("rule", "policy_version", "who", "undo"):
            told = explanation[name] if isinstance(explanation[name], str) else ", ".join(explanation[name])
            if told:
                out.print(f"  {name.replace('_', ' ')}: {told}", markup=False)
        for link in explanation["chain"]:
            out.print(f"  {link['id']:>6}  {link['at'][11:19]}  {link['actor']:<10} {link['says']}", markup=False)

    emit(explanation, as_json, show)


def show_incident(document: dict[str, Any]) -> None:
    """An incident for people."""
    top = document["diagnosis"][0]["kind"] if document["diagnosis"] else "unknown"
    span = f"{document['opened_at']} to {document['closed_at'] or 'now'}"
    out.print(f"{document['id']}: {top}, severity {document['severity']:.1f}, {document['outcome']} ({span})", markup=False)
    out.print("agents: " + ", ".join(document["agents"]), markup=False)
    rows = [
        (e["vital"], e["direction"], f"{e['nats']:.1f}", f"×{e['ratio']:.2g}", f"{e['observed']:.4g}", f"{e['expected']:.4g}", e["onset_at"][11:19])
        for e in document["evidence"]
    ]
    table("evidence", ("vital", "direction", "nats", "ratio", "observed", "expected", "onset"), rows, "no evidence kept")
    differential = [(d["kind"], f"{d['confidence']:.2f}", "; ".join(d["for"]), "; ".join(d["against"])) for d in document["diagnosis"]]
    table("differential", ("kind", "confidence", "for", "against"), differential, "no diagnosis")
    table("severity", ("because",), [(line,) for line in document["severity_why"]], "")
    asked = [(c["level"], c["at"][11:19], c["mode"], c["rule"]) for c in document["containment"]]
    table("containment asked for", ("level", "at", "mode", "rule"), asked, "no containment was asked for")


def incident_table(documents: list[dict[str, Any]]) -> None:
    """Incidents for people, one line each."""
    rows = [
        (
            d["id"],
            d["agents"][0] if len(d["agents"]) == 1 else f"{len(d['agents'])} agents",
            d["diagnosis"][0]["kind"] if d["diagnosis"] else "unknown",
            f"{d['severity']:.1f}",
            d["onset_at"][11:19],
            d["opened_at"][11:19],
            d["closed_at"][11:19] if d["closed_at"] else "open",
            d["containment"][-1]["level"] if d["containment"] else "none",
        )
        for d in documents
    ]
    table("", ("incident", "agent", "looks like", "severity", "onset", "opened", "closed", "policy asks"), rows, "no incidents")


def known(found: dict[str, Any], key: str, what: str) -> Any:
    """What is found under an id. Raises UnknownIdError, naming ids that are near."""
    from difflib import get_close_matches

    from immune.errors import UnknownIdError

    if key in found:
        return found[key]
    near = get_close_matches(key, found, n=3) or list(found)[:3]
    way_out = "did you mean " + ", ".join(near) if near else "there is none yet"
    raise UnknownIdError(f"no such {what} in this run", field=what, value=key, way_out=way_out)


def _newest(opened: Stores, run_id: str, agent_id: str) -> dict[str, float | None]:
    names = opened.telemetry.vitals(run_id)
    ids = opened.telemetry.agents(run_id)
    latest = opened.telemetry.latest(run_id)
    if agent_id not in ids:
        return {}
    rows = (latest.agent == ids.index(agent_id)).nonzero()[0]
    if len(rows) == 0:
        return {}
    values = latest.values[rows[0]]
    return {name: None if isnan(value) else float(value) for name, value in zip(names, values, strict=True)}
