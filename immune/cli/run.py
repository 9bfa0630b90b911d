"""``immune run``: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from immune.cli.output import DataDir, Json

if TYPE_CHECKING:
    from immune.daemon import Launch

Config = Annotated[Path | None, typer.Option("--config", help="immune.toml: policy, and the tables daemon, process, webhook.", show_default=False)]
Duration = Annotated[float | None, typer.Option("--duration", min=1, help="Seconds to run; until stopped unless given.", show_default=False)]
Run = Annotated[str | None, typer.Option("--run", help="Which run to write or take up again.", show_default=False)]
New = Annotated[bool, typer.Option("--new", help="Begin a new run instead of taking up the newest one.")]
Port = Annotated[int | None, typer.Option("--port", help="Port of the control API, 0 for a free one (8710).", show_default=False)]
WarmStart = Annotated[
    str | None, typer.Option("--warm-start", metavar="RUN", help="Take over baselines and memory of another run.", show_default=False)
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Take the place of a daemon on the same data that hangs and cannot be stopped; it is fenced off.")
]
ModeOption = Annotated[str | None, typer.Option("--mode", metavar="observe|recommend|act", help="Instead of the policy's mode.", show_default=False)]


def run(
    config: Config = None,
    data_dir: DataDir = None,
    duration: Duration = None,
    run_id: Run = None,
    new: New = False,
    port: Port = None,
    warm_start: WarmStart = None,
    mode: ModeOption = None,
    take_over: TakeOver = False,
    as_json: Json = False,
) -> None:
    """The daemon: watches, decides, answers. Goes on with the newest run unless told otherwise. Example: immune run --mode observe"""
    from immune.daemon import run_daemon

    run_daemon(launch(config, data_dir, duration, run_id, new=new, port=port, warm_start=warm_start, mode=mode, take_over=take_over, as_json=as_json))


def launch(
    config: Path | None,
    data_dir: Path | None,
    duration: float | None,
    run_id: str | None,
    *,
    new: bool,
    port: int | None,
    warm_start: str | None,
    mode: str | None,
    take_over: bool = False,
    as_json: bool = False,
) -> Launch:
    """The flags as a launch. Raises InputError for a wrong one."""
    from dataclasses import replace
    from typing import get_args

    from immune.core.events import Mode
    from immune.daemon import Launch
    from immune.errors import InputError
    from immune.settings import load_policy, load_settings

    policy = load_policy(config, "--config")
    if mode is not None:
        known = {word: word for word in get_args(Mode)}
        if mode not in known:
            raise InputError("unknown mode", field="--mode", value=mode, way_out="one of " + " ".join(known))
        policy = replace(policy, mode=known[mode])
    return Launch(
        settings=load_settings(config=config, data_dir=data_dir, port=port),
        policy=policy,
        config=config,
        run_id=run_id,
        new=new,
        duration_s=duration,
        warm_start=warm_start,
        take_over=take_over,
        as_json=as_json,
    )
