"""``immune journal``: verify, export, tail."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from immune.cli.output import DataDir, Json, Run, emit, out
from immune.cli.reading import run_state, stores
from immune.errors import JournalBrokenError

app = typer.Typer(help="The ledger: every decision, hash-chained.", no_args_is_help=True)

BROKEN = 1


@app.command("verify")
def verify(data_dir: DataDir = None, run: Run = None, as_json: Json = False) -> None:
    """Check the whole chain; exit 1 and the first broken seq if it does not hold. Example: immune journal verify"""
    from immune.bootstrap import find_run

    with stores(data_dir) as opened:
        chosen = find_run(opened.journal, run)
        try:
            document = {"run_id": chosen, "verified": True, "events": opened.journal.verify(chosen), "head": opened.journal.head(chosen)[1]}
        except JournalBrokenError as broken:
            document = {"run_id": chosen, "verified": False, "first_broken_seq": broken.seq, "what": broken.what}

    def show() -> None:
        if document["verified"]:
            out.print(f"{chosen}: {document['events']} events, chain holds, head {document['head']}", markup=False)
        else:
            out.print(f"{chosen}: broken at seq {document['first_broken_seq']}: {document['what']}", markup=False)

    emit(document, as_json, show)
    if not document["verified"]:
        raise typer.Exit(BROKEN)


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
