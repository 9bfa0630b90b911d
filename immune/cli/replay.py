"""``immune replay``: recorded traces through the same loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from immune.cli.output import Json, emit, err, out, table
from immune.errors import InputError, RefusedError

if TYPE_CHECKING:
    from immune.bootstrap import Stores
    from immune.runtime.engine import Engine
    from immune.sources.replay import ReplaySource

FOUND = 1

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV, JSONL or Parquet; one row a sample.", show_default=False)]
Mapping = Annotated[list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Read FIELD from another column.", show_default=False)]
Vitals = Annotated[
    list[str] | None, typer.Option("--vital", metavar="NAME", help="Another numeric column that counts as a vital.", show_default=False)
]


def replay(
    files: Files,
    mapping: Mapping = None,
    vital: Vitals = None,
    period: Annotated[
        float, typer.Option("--period", min=0.001, max=86_400.0, help="Tick, and seconds between rows of an agent without a clock.")
    ] = 1.0,
    policy: Annotated[Path | None, typer.Option("--policy", help="Back-test this policy.", show_default=False)] = None,
    budget: Annotated[float | None, typer.Option("--budget", help="False alarms per agent-day.", show_default=False)] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep journal, telemetry and report here.", show_default=False)] = None,
    run: Annotated[str | None, typer.Option("--run", help="Run id; a unique one unless given.", show_default=False)] = None,
    fail_on: Annotated[str | None, typer.Option("--fail-on", metavar="incident", help="Exit 1 if there was an incident.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """A recorded fleet through the same loop, as fast as it goes. Example: immune replay traces.csv --budget 0.01 --out report/"""
    from immune.bootstrap import build_engine, new_run_id, open_stores, with_budget
    from immune.clock import US, SystemClock, elapsed_s
    from immune.settings import load_policy
    from immune.sources.replay import ReplaySource

    if fail_on not in (None, "incident"):
        raise InputError("not something to fail on", field="--fail-on", value=fail_on, way_out="give --fail-on incident")
    rules = with_budget(load_policy(policy), budget)
    elapsed = elapsed_s()
    source = ReplaySource(files, mapping=_pairs(mapping or []), vitals=vital or [], period_us=round(period * US))
    stores = open_stores(out_dir)
    try:
        if run is not None and stores.journal.head(run)[0]:
            raise RefusedError("a run of this name is recorded here already", field="--run", value=run, way_out="choose another name")
        engine = build_engine(
            run_id=run or new_run_id(SystemClock()),
            sources=[source],
            stores=stores,
            policy=rules,
            period_us=round(period * US),
            extra_vitals=vital or [],
            source="replay of " + ", ".join(path.name for path in files),
        )
        _drive(engine, source)
        document = _document(engine, source, elapsed())
        if out_dir is not None:
            _write_report(out_dir, document, engine, stores)
    finally:
        stores.close()
    emit(document, as_json, lambda: _show(document, out_dir))
    if fail_on and document["incidents"]:
        raise typer.Exit(FOUND)


def _pairs(mapping: list[str]) -> dict[str, str]:
    pairs = {}
    for item in mapping:
        field, equals, column = item.partition("=")
        if not equals or not field or not column:
            raise InputError("not of the form FIELD=COLUMN", field="--map", value=item, way_out="for example --map latency_ms=duration")
        pairs[field] = column
    return pairs


def _drive(engine: Engine, source: ReplaySource) -> None:
    import asyncio

    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from immune.runtime.replaying import replay as run_recording

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("replaying", total=1.0)

        def on_tick(_now_us: int) -> None:
            if engine.counters.ticks % 64 == 0:
                progress.update(task, completed=source.progress(), description=f"replaying · {len(engine.state.incidents)} incidents")

        asyncio.run(run_recording(engine, source, on_tick=on_tick))


def _document(engine: Engine, source: ReplaySource, elapsed: float) -> dict[str, Any]:
    from immune.reports.documents import incident_document, quarantines

    state = engine.state
    incidents = list(state.incidents.values())
    samples = engine.counters.samples
    return {
        "run_id": engine.run_id,
        "agents": len(state.agents),
        "samples": samples,
        "rejected": dict(engine.counters.rejected),
        "span_s": round((source.last_us - source.first_us) / 1e6, 6),
        "elapsed_s": round(elapsed, 3),
        "samples_per_s": round(samples / elapsed, 1),
        "policy_version": engine.rules.version,
        "threshold_nats": round(engine.view.assessment.threshold_nats, 3) if engine.view else None,
        "quarantines": sum(map(quarantines, incidents)),
        "incidents": [incident_document(incident) for incident in incidents],
        "notes": list(source.notes),
        "rejections": [{"line": r.line, "field": r.field, "value": r.value, "reason": r.reason} for r in source.rejections],
        "journal": {"events": state.seq, "head": state.head},
    }


def _write_report(out_dir: Path, document: dict[str, Any], engine: Engine, stores: Stores) -> None:
    import json

    from immune.reports.from_run import run_page, write_page

    (out_dir / "report.json").write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    stores.journal.verify(engine.run_id)
    seen = engine.view.assessment.samples if engine.view else ()
    page = run_page(
        engine.state,
        stores.telemetry,
        title="Replay report",
        policy=engine.rules.policy,
        journal=stores.journal,
        journal_verified=True,
        samples={who.agent_id: int(count) for who, count in zip(engine.desk.roster.identities, seen, strict=False)},
    )
    write_page(out_dir / "report.html", page)


def _show(document: dict[str, Any], out_dir: Path | None) -> None:
    from immune.cli.reading import incident_table

    speed = f"{document['samples_per_s']:,.0f} samples/s"
    out.print(
        f"{_count(document['agents'], 'agent')}, {_count(document['samples'], 'sample')} over {_span(document['span_s'])}, {speed}", markup=False
    )
    for note in document["notes"]:
        out.print(f"note: {note}", markup=False)
    if document["rejected"]:
        rows = [(r["line"], r["field"], r["value"], r["reason"]) for r in document["rejections"][:10]]
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(document["rejected"].items()))
        out.print(f"rejected: {counts}", markup=False)
        table("", ("line", "field", "value", "reason"), rows, "")
    incident_table(document["incidents"])
    quarantines = document["quarantines"]
    who = f"agents would have been isolated {_count(quarantines, 'time')}" if quarantines else "nobody would have been isolated"
    out.print(f"{who} under policy {document['policy_version']}", markup=False)
    if out_dir is not None:
        out.print(f"report: {out_dir / 'report.html'}", markup=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.1f} min"
