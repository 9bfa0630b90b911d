"""The command line. Heavy imports happen inside the commands, so that ``immune --help`` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated

import typer

from immune import __version__
from immune.cli import acting, approvals, influx, journal, notify, people, policy, reading, retention, tokens
from immune.cli.doctor import doctor
from immune.cli.output import run_guarded
from immune.cli.replay import replay
from immune.cli.run import run
from immune.cli.status import status

EPILOG = "Examples:  immune replay traces.csv --out report/   ·   immune incidents   ·   immune why inc-0001   ·   immune journal verify"

app = typer.Typer(
    name="immune",
    help="An immune system for fleets of AI agents: learns each agent's normal, notices infections early, proves why it did each thing.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run)
app.command("replay")(replay)
app.add_typer(reading.agents, name="agents")
app.add_typer(reading.incidents, name="incidents")
app.add_typer(retention.runs, name="runs")
app.command("why")(reading.why)
app.add_typer(approvals.app, name="approvals")
for command in (
    acting.contain,
    acting.release,
    acting.heal,
    acting.stop,
    acting.enroll,
    acting.retire,
    acting.report,
    acting.feedback,
    acting.announce,
    acting.mute,
    acting.memory,
):
    app.command(command.__name__)(command)
app.add_typer(tokens.app, name="tokens")
app.add_typer(people.app, name="people")
app.add_typer(notify.app, name="notify")
app.add_typer(journal.app, name="journal")
app.add_typer(influx.app, name="influx")
app.add_typer(policy.app, name="policy")
app.command("status")(status)
app.command("doctor")(doctor)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"immune {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)] = False,
) -> None:
    """Immune."""


def main() -> None:
    """Entry point of ``immune``: commands of this package, and those that others registered under ``immune.commands``."""
    for plugin in entry_points(group="immune.commands"):
        # the demo brings a simulated fleet along; it registers itself, so nothing in here imports a simulation
        app.command(plugin.name, help=f"See `{plugin.name} --help`.", context_settings=PASS_ON, add_help_option=False)(_passing(plugin.name))
    sys.exit(run_guarded(app, sys.argv[1:]))


PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _passing(name: str) -> Callable[[typer.Context], None]:
    def passed(context: typer.Context) -> None:
        command = next(iter(entry_points(group="immune.commands", name=name))).load()
        raise typer.Exit(command(context.args))

    return passed
