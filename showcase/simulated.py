"""``python main.py``: the daemon, and with ``--simulate N`` a simulated fleet beside it."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from dashboard.launch import DashboardChild
from immune.cli.output import DataDir, Json, run_guarded
from immune.cli.run import Config, Duration, ModeOption, New, Port, Run, WarmStart, launch
from immune.clock import SystemClock
from immune.daemon import Extras, run_daemon
from immune.settings import Settings
from immune.stores.tokens import ADMIN, TokenStore
from simulation.connector import SimulatedConnector
from simulation.fleet import SimulatedFleet

WARMUP_S = 600
SETTLED_S = 30
"""A run that is taken up again knows its fleet already; the simulated world still begins healthy."""


def main(
    simulate: Annotated[int, typer.Option("--simulate", min=0, max=100_000, help="How many simulated agents to bring along.")] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Everything random in the simulation follows from it.")] = 7,
    scenario: Annotated[str, typer.Option("--scenario", help="A scenario's name or file.")] = "default",
    config: Config = None,
    data_dir: DataDir = None,
    duration: Duration = None,
    run_id: Run = None,
    new: New = False,
    port: Port = None,
    warm_start: WarmStart = None,
    mode: ModeOption = None,
    headless: Annotated[bool, typer.Option("--headless", help="No dashboard.")] = False,
    as_json: Json = False,
) -> None:
    """The daemon with its dashboard; with --simulate also a fleet to watch. Example: python main.py --simulate 15 --mode act"""
    launched = launch(config, data_dir, duration, run_id, new=new, port=port, warm_start=warm_start, mode=mode, as_json=as_json)
    beside = () if headless else (dashboard_beside(launched.settings, as_json),)

    def bring(first_us: int, resumed: bool) -> Extras:
        if not simulate:
            return Extras(companions=beside)
        warmup_s = SETTLED_S if resumed else WARMUP_S
        start_us = first_us if resumed else first_us - WARMUP_S * 1_000_000
        fleet = SimulatedFleet(agents=simulate, seed=seed, start_us=start_us, warmup_s=warmup_s, scenario=scenario)
        return Extras(
            name=f"simulation of {simulate} agents",
            sources=(fleet,),
            connectors=(SimulatedConnector(fleet),),
            warmup_s=0 if resumed else WARMUP_S,
            companions=beside,
        )

    run_daemon(launched, bring)


def dashboard_beside(settings: Settings, as_json: bool) -> DashboardChild:
    """The dashboard of a daemon; its address and a one-time link for the admin are said each time it starts."""

    def admin() -> tuple[str, str]:
        return ADMIN, TokenStore(settings.data_dir).admin_token()

    def heard(url: str, link: str) -> None:
        if as_json:
            sys.stdout.write(json.dumps({"happened": "dashboard", "url": url}) + "\n")
            sys.stdout.flush()
        sys.stderr.write(f"immune: dashboard on {url}, log in once within ten minutes: {link}\n")
        sys.stderr.flush()

    return DashboardChild(settings.data_dir, SystemClock(), admin, heard, port=settings.dashboard_port)


def command(arguments: list[str]) -> int:
    """The simulated daemon as a command: its exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    return run_guarded(app, arguments)
