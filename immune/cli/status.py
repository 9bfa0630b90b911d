"""``immune status``: how the daemon itself is doing."""

from __future__ import annotations

from typing import Any

import typer

from immune.cli.output import DataDir, Json, emit, out, table

NOT_WELL = 1


def status(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Troubles first, then ticks, journal, children and how full everything is; exit 1 if anything is wrong. Example: immune status --json"""
    from immune.cli.client import connect, path_of

    document: dict[str, Any] = connect(data_dir).get(path_of("status"))
    emit(document, as_json, lambda: _show(document))
    if document["troubles"]:
        raise typer.Exit(NOT_WELL)


def _show(found: dict[str, Any]) -> None:
    run, ticks, journal, fleet = found["run"], found["ticks"], found["journal"], found["fleet"]
    for trouble in found["troubles"]:
        out.print(f"! {trouble}", style="bold", markup=False)
    if not found["troubles"]:
        out.print("all is well", markup=False)
    out.print(f"run {run['run_id']} in mode {run['mode']}, policy {run['policy_version']}, version {found['version']}", markup=False)
    out.print(
        f"{ticks['done']} ticks ({ticks['skipped']} skipped), the last {ticks['last_age_s']:.1f} s ago; journal at seq {journal['seq']}", markup=False
    )
    out.print(
        f"{fleet['agents']} agents, {fleet['contained']} contained, {fleet['incidents_open']} incidents open, "
        f"{fleet['approvals_waiting']} requests wait for a person",
        markup=False,
    )
    children = [(one["name"], _doing(one), one["failures"], one["last_error"]) for one in found["children"]]
    table("\nchildren", ("name", "status", "failures", "last error"), children, "no children yet")
    for name, health in sorted(found["companions"].items()):
        told = ", ".join(f"{key} {value}" for key, value in health.items() if key != "trouble" and value != "")
        out.print(f"{name}: {health.get('trouble') or 'well'} ({told})", markup=False)
    bounds = [(one["name"], one["size"], one["limit"] or "none", one["lost"]) for one in found["bounds"] if one["size"] or one["lost"]]
    table("\nhow full", ("what", "size", "limit", "lost"), bounds, "everything is empty")


def _doing(child: dict[str, Any]) -> str:
    """A child that died waits longer each time: until when."""
    return f"{child['status']} until {child['next_start']}" if child.get("next_start") else str(child["status"])
