"""``immune journal``: verify, backup, restore, export, tail."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from immune.cli.output import DataDir, Json, Run, emit, out, table
from immune.cli.reading import run_state, stores
from immune.errors import InputError, JournalBrokenError

if TYPE_CHECKING:
    from immune.ports import RunInfo

app = typer.Typer(help="The ledger: every decision, hash-chained.", no_args_is_help=True)

BROKEN = 1


WitnessFile = Annotated[
    Path | None, typer.Option("--witness", help="File of witnessed heads (witness.log of the data directory, if it is there).", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there already.")]


@app.command("verify")
def verify(data_dir: DataDir = None, run: Run = None, witness: WitnessFile = None, as_json: Json = False) -> None:
    """Check the whole chain, also against the heads witnessed outside it; exit 1 and the first broken seq if it does not hold.
    Example: immune journal verify
    """
    from immune.bootstrap import find_run
    from immune.settings import load_settings
    from immune.stores.witness import Witness, compare

    if witness is not None and not witness.is_file():
        raise InputError("no such file", field="--witness", value=str(witness), way_out="name a file that a daemon wrote")
    newest = None
    with stores(data_dir) as opened:
        chosen = find_run(opened.journal, run)
        sightings = Witness(witness or load_settings(data_dir=data_dir).witness_path).sightings(chosen)
        try:
            document: dict[str, Any] = {"run_id": chosen, "verified": True, "events": opened.journal.verify(chosen)}
            document["head"] = opened.journal.head(chosen)[1]
            compare(opened.journal, chosen, sightings)
            newest = max(sightings, key=lambda seen: seen.seq, default=None)
            document["witnessed"] = {"seq": newest.seq, "head": newest.head, "at": newest.at} if newest else None
        except JournalBrokenError as broken:
            document = {"run_id": chosen, "verified": False, "first_broken_seq": broken.seq, "what": broken.what}

    def show() -> None:
        if document["verified"]:
            seen = f"; witnessed up to seq {newest.seq}" if newest else "; no witness of it"
            out.print(f"{chosen}: {document['events']} events, chain holds, head {document['head']}{seen}", markup=False)
        else:
            out.print(f"{chosen}: broken at seq {document['first_broken_seq']}: {document['what']}", markup=False)

    emit(document, as_json, show)
    if not document["verified"]:
        raise typer.Exit(BROKEN)


@app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    data_dir: DataDir = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Copy the journal to one file, also while a daemon writes, and check the copy. Example: immune journal backup monday.db"""
    from immune.settings import load_settings
    from immune.stores.care import back_up

    runs = back_up(load_settings(data_dir=data_dir).data_dir, file, force=force)
    document = {"file": str(file), "events": sum(run.events for run in runs), "runs": _heads(runs)}

    def show() -> None:
        out.print(f"{file}: {len(runs)} runs, {document['events']} events, every chain holds", markup=False)
        table("", ("run", "events", "head"), [(run.run_id, run.events, run.head) for run in runs], "no runs yet")

    emit(document, as_json, show)


@app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A copy that `journal backup` made.")],
    data_dir: DataDir = None,
    force: Force = False,
    witness: WitnessFile = None,
    as_json: Json = False,
) -> None:
    """Make a checked copy the journal again; what is there is kept beside it. Says so if the copy is older than what was witnessed.
    Example: immune journal restore monday.db --force
    """
    from immune.clock import SystemClock
    from immune.settings import load_settings
    from immune.stores.care import restore as bring_back
    from immune.stores.witness import Witness

    settings = load_settings(data_dir=data_dir)
    restored = bring_back(file, settings.data_dir, Witness(witness or settings.witness_path), SystemClock().now_us(), force=force)
    older = [
        {"run_id": b.run_id, "restored": {"seq": b.seq, "head": b.head}, "witnessed": {"seq": b.witnessed.seq, "head": b.witnessed.head}}
        for b in restored.behind
    ]
    kept = str(restored.kept) if restored.kept else None
    document = {"file": str(file), "data_dir": str(settings.data_dir), "runs": _heads(restored.runs), "older_copy": older, "kept": kept}

    def show() -> None:
        out.print(f"{file}: {len(restored.runs)} runs restored, every chain holds", markup=False)
        for b in restored.behind:
            out.print(f"older copy: run {b.run_id} is now at seq {b.seq}, head {b.head}", markup=False)
            out.print(f"            witnessed {b.witnessed.at} at seq {b.witnessed.seq}, head {b.witnessed.head}", markup=False)
        if kept:
            out.print(f"what was here before: {kept}", markup=False)

    emit(document, as_json, show)


def _heads(runs: Sequence[RunInfo]) -> list[dict[str, Any]]:
    return [{"run_id": run.run_id, "events": run.events, "head": run.head} for run in runs]


@app.command("export")
def export(data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """Every event as JSON lines on stdout, with hashes. Example: immune journal export > run.jsonl"""
    del as_json  # an export is JSON lines either way
    with run_state(data_dir, run) as (opened, state):
        for envelope in opened.journal.read(state.run_id):
            sys.stdout.write(json.dumps(envelope.as_json(), ensure_ascii=False) + "\n")


@app.command("tail")
def tail(
    data_dir: DataDir = None,
    run: Run = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come, until interrupted.")] = False,
    as_json: Json = False,
) -> None:
    """The newest events, in words. Example: immune journal tail -n 50"""
    import asyncio

    from immune.clock import US, SystemClock
    from immune.reports.explain import say

    with run_state(data_dir, run) as (opened, state):
        after = max(0, state.seq - lines)
        clock = SystemClock()
        while True:
            for envelope in opened.journal.read(state.run_id, after_seq=after):
                after = envelope.seq
                if as_json:
                    sys.stdout.write(json.dumps(envelope.as_json(), ensure_ascii=False) + "\n")
                else:
                    out.print(f"{envelope.id:>6}  {envelope.as_json()['at'][:19]}  {say(envelope)}", markup=False)
            if not follow:
                return
            sys.stdout.flush()
            asyncio.run(clock.sleep_until_us(clock.now_us() + US))
