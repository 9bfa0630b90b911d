"""The demo: a simulated fleet falls ill, the immune system notices, contains, heals and asks; then the labels are opened."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dashboard.launch import DashboardChild
from immune.api.app import Api
from immune.api.server import serve
from immune.bootstrap import Stores, build_engine, new_run_id, open_stores
from immune.cli.output import run_guarded
from immune.clock import US, Clock, SystemClock, VirtualClock, run_virtual
from immune.connectors.gate import GateConnector
from immune.core.events import Envelope
from immune.core.policy import ApprovalsPolicy, Policy
from immune.errors import InputError, RefusedError
from immune.observability.otel_settings import read_otel_settings
from immune.observability.panel import Panel
from immune.reports import documents
from immune.reports.explain import explain
from immune.runtime.engine import Engine, View
from immune.runtime.supervisor import Supervisor
from immune.settings import DEFAULT_DATA_DIR, load_policy, load_settings
from immune.sources.ingest import IngestSource
from immune.sources.parse import parse_time
from immune.stores.tokens import TokenStore
from showcase.choices import Choices, Decide, Speed, Witness
from showcase.collector import tell_all, told
from showcase.influx import bring_all, held_against, influx_target, mirrored, query_to_paste
from showcase.person import NAME, DemoPerson
from showcase.reporting import write_reports
from showcase.screen import LiveScreen
from simulation.connector import SimulatedConnector
from simulation.fleet import SimulatedFleet
from simulation.recording import RecordedSource

WARMUP_S = 600
HEAD_START_S = 3
VIRTUAL_START_US = 1_767_225_600 * US
"""2026-01-01T00:00:00Z: where virtual time starts unless told otherwise."""

DEMO_POLICY = Policy(mode="act", approvals=ApprovalsPolicy(severity_at=5.0, undo_window_s=3.0))
"""A demo acts, and asks sooner than the default would: what asks is what people come to see."""


def demo(
    duration: Annotated[int, typer.Option("--duration", min=10, max=86_400, help="Seconds after the healthy warm-up.")] = 60,
    agents: Annotated[int, typer.Option("--agents", min=1, max=100_000, help="How many agents.")] = 15,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Everything random follows from it.")] = 7,
    out: Annotated[Path, typer.Option("--out", help="Where journal, telemetry, vitals and reports go.")] = DEFAULT_DATA_DIR,
    speed: Annotated[Speed, typer.Option("--speed", help="max runs on the virtual clock.")] = Speed.REALTIME,
    decide: Annotated[
        Decide | None, typer.Option("--decide", help="What the person does; ask on a terminal, else reject.", show_default=False)
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Run id; a unique one unless given.", show_default=False)] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="Where virtual time starts (ISO 8601); 2026-01-01 for --speed max.", show_default=False)
    ] = None,
    scenario: Annotated[str, typer.Option("--scenario", help="A scenario's name or file.")] = "default",
    policy: Annotated[Path | None, typer.Option("--policy", help="Another policy than the demo's.", show_default=False)] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No live view and no dashboard.")] = False,
    influx: Annotated[bool, typer.Option("--influx", help="Insist on InfluxDB; with INFLUXDB_V2_URL set the run goes there anyway.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """A simulated fleet, what befalls it, and the immune system that knows only symptoms. Example: python demo.py --speed max --json"""
    show = not headless and not as_json and sys.stdout.isatty()
    interactive = show and sys.stdin.isatty() and speed is Speed.REALTIME
    choices = Choices(
        duration_s=duration,
        agents=agents,
        seed=seed,
        out=out,
        speed=speed,
        decide=decide or (Decide.ASK if interactive else Decide.REJECT),
        run_id=run or new_run_id(SystemClock()),
        start_us=_start_us(start, speed),
        scenario=scenario,
        policy=load_policy(policy) if policy else DEMO_POLICY,
        show=show,
        dashboard=not headless and speed is Speed.REALTIME,
        influx=influx_target(required=influx),
    )
    report = run_demo(choices)
    _tell(report, choices, as_json)


def _start_us(start: str | None, speed: Speed) -> int:
    if start is not None and speed is Speed.REALTIME:
        raise InputError("real time starts now", field="--start", value=start, way_out="use it with --speed max")
    at_us = VIRTUAL_START_US if start is None else parse_time(start)
    if at_us is None:
        raise InputError("no time", field="--start", value=start, way_out="give an ISO 8601 time")
    return at_us


def run_demo(choices: Choices) -> dict[str, Any]:
    """Run a demo to its end and write its files; the report as a document."""
    stores = open_stores(choices.out)
    try:
        if stores.journal.head(choices.run_id)[0]:
            raise RefusedError("a run of this name is recorded here already", field="--run", value=choices.run_id, way_out="choose another name")
        return _run(choices, stores)
    finally:
        stores.close()


def _run(choices: Choices, stores: Stores) -> dict[str, Any]:
    read_otel_settings()  # what cannot be meant is refused before anything runs
    realtime = choices.speed is Speed.REALTIME
    live_us = _next_second(SystemClock().now_us()) + HEAD_START_S * US if realtime else choices.start_us + WARMUP_S * US
    start_us, end_us = live_us - WARMUP_S * US, live_us + choices.duration_s * US
    fleet = SimulatedFleet(
        agents=choices.agents, seed=choices.seed, start_us=start_us, duration_s=choices.duration_s, warmup_s=WARMUP_S, scenario=choices.scenario
    )
    inbox, gate = IngestSource(choices.policy.limits), GateConnector()
    engine = build_engine(
        run_id=choices.run_id,
        sources=[RecordedSource(fleet, choices.out / "vitals.csv"), inbox],
        stores=stores,
        policy=choices.policy,
        source=f"simulation of {choices.agents} agents",
        seed=choices.seed,
        connectors=[SimulatedConnector(fleet), gate],
    )
    panel = Panel(engine, SystemClock(), inbox=inbox)
    witness, person = Witness(), DemoPerson(engine, choices.decide.value)
    engine.listeners.append(witness.hear)

    async def phase(clock: Clock, first_us: int, until_us: int, on_tick: Callable[[int], None]) -> None:
        if engine.view is None:
            engine.start(first_us)

        def hear(_envelopes: Sequence[Envelope], view: View) -> None:
            on_tick(view.assessment.now_us)

        engine.on_tick = person.act
        engine.listeners.append(hear)
        await engine.run(clock, first_us=first_us, until_us=until_us)
        engine.listeners.remove(hear)
        if until_us == end_us:
            await engine.finish(end_us, "the demo's time is over")

    async def live() -> None:
        async with (
            open_door(engine, inbox, gate, choices.out, panel) as refresh,
            mirrored(engine, choices),
            told(panel, choices.out),
            dashboard_beside(choices, screen.heard),
        ):
            person.before_acting = refresh
            await screen.beside(phase(SystemClock(), live_us, end_us, screen.live))

    with LiveScreen(engine, witness, person, choices, start_us=start_us, live_us=live_us, end_us=end_us) as screen:
        if realtime:
            run_virtual(phase(VirtualClock(start_us), start_us, live_us, screen.fast_forward))
            asyncio.run(live())
        else:
            run_virtual(phase(VirtualClock(start_us), start_us, end_us, screen.fast_forward))
            bring_all(choices, stores)
            tell_all(panel, choices.out)
    fleet.truth.unseal()
    more = {} if choices.influx is None else {"influx": held_against(choices.influx, stores, choices.run_id)}
    return write_reports(choices.out, engine, stores, fleet, seed=choices.seed, duration_s=choices.duration_s, share_max=witness.share_max, more=more)


@asynccontextmanager
async def open_door(engine: Engine, inbox: IngestSource, gate: GateConnector, data_dir: Path, panel: Panel) -> AsyncIterator[Callable[[], None]]:
    """The control API beside a live demo, so that other terminals can look and decide too; yields what refreshes its approvers."""
    tokens = TokenStore(data_dir)
    tokens.ensure_admin()
    if NAME not in tokens.roles():
        tokens.create(NAME, "approver")
    api = Api(engine=engine, inbox=inbox, keys=tokens, gate=gate, papers=documents, explain=explain, clock=SystemClock(), metrics=panel.expose)
    panel.sides.api = api.context
    port = load_settings().port
    try:
        server = await serve(api, port=port, data_dir=data_dir)
    except RefusedError:
        # another daemon has the usual port; a demo does not insist
        server = await serve(api, port=0, data_dir=data_dir)
    try:
        yield api.refresh_approvers
    finally:
        await server.close()


@asynccontextmanager
async def dashboard_beside(choices: Choices, heard: Callable[[str, str], None]) -> AsyncIterator[None]:
    """The dashboard of a live demo, with a link that logs its person in once; without one where none is wanted."""
    if not choices.dashboard:
        yield
        return
    clock = SystemClock()
    tokens = TokenStore(choices.out)

    def person() -> tuple[str, str]:
        # only a digest is kept of a token, so each link gets a fresh one
        if NAME in tokens.roles():
            tokens.revoke(NAME)
        return NAME, tokens.create(NAME, "approver", clock.now_us())

    child = DashboardChild(choices.out, clock, person, heard, port=load_settings().dashboard_port)
    supervisor = Supervisor(clock, lambda failure: heard("", f"the dashboard failed: {failure.error}"))
    supervisor.start(child.name, child.run)
    try:
        yield
    finally:
        await supervisor.stop()


def _next_second(now_us: int) -> int:
    return -(-now_us // US) * US


def _tell(report: dict[str, Any], choices: Choices, as_json: bool) -> None:
    import json

    from rich.console import Console

    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        return
    out = Console(highlight=False)
    delay = report["delay_s"]["median"]
    out.print(
        f"\n{len(report['injected'])} infections, {len(report['detected'])} found" + (f", median delay {delay:.0f} s" if delay else ""), markup=False
    )
    for found in report["detected"]:
        out.print(f"  {found['agent']:<16} {found['kind']:<20} found after {found['delay_s']:>5.1f} s as {found['diagnosed']}", markup=False)
    for missed in report["missed"]:
        out.print(f"  {missed['agent']:<16} {missed['kind']:<20} missed", markup=False)
    heals, asked = report["heals"], report["approvals"]
    out.print(
        f"{report['containment']['count']} containments (escaped work: {report['containment']['escaped']}), "
        f"{heals['verified']} heals verified, {heals['undone']} undone, {heals['exhausted']} handed to a person; "
        f"{asked['requested']} approvals asked, {asked['approved']} approved, {asked['rejected']} rejected; "
        f"{len(report['false_quarantines'])} agents isolated without cause",
        markup=False,
    )
    out.print(f"journal: {report['journal']['events']} events, chain {'holds' if report['journal']['verified'] else 'BROKEN'}", markup=False)
    if choices.influx is not None:
        out.print(f"{query_to_paste(choices.influx, choices.run_id)}\n{report['influx']['sentence']}", markup=False, soft_wrap=True)
        if not report["influx"]["complete"]:
            out.print(f"bring what is missing: immune influx fill {choices.run_id} --data-dir {choices.out}", markup=False, soft_wrap=True)
    if choices.dashboard:
        out.print(f"look on: python -m dashboard --data-dir {choices.out}", markup=False, soft_wrap=True)
    out.print(f"report: {choices.out / 'report.html'}    why: immune why inc-0001 --data-dir {choices.out}", markup=False)


def command(arguments: list[str]) -> int:
    """The demo as a command: its exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(demo)
    return run_guarded(app, arguments)
