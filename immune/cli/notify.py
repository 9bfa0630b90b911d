"""``immune notify``: whether people can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from immune.cli.output import Json, emit, out
from immune.errors import InputError

app = typer.Typer(help="Whether people can be reached.", no_args_is_help=True)


@app.callback()
def notify() -> None:
    """Whether people can be reached."""


@app.command("test")
def try_out(
    config: Annotated[Path, typer.Option("--config", help="The configuration with a notify table for each channel.")] = Path("immune.toml"),
    as_json: Json = False,
) -> None:
    """Send one message through every channel; exit 1 if one did not arrive. Example: immune notify test --config immune.toml"""
    from immune.notify.trial import try_channels
    from immune.settings import load_settings

    tried = try_channels(config, load_settings(config=config).dashboard_address)
    if not tried:
        raise InputError("no channels", field="--config", value=str(config), way_out="add a [[notify]] table; see docs/notifications.md")

    def show() -> None:
        for name, trouble in tried:
            out.print(f"{name}: {trouble or 'delivered'}", markup=False)

    emit([{"channel": name, "delivered": not trouble, "trouble": trouble} for name, trouble in tried], as_json, show)
    raise typer.Exit(1 if any(trouble for _, trouble in tried) else 0)
