"""``immune policy``: show what holds, check a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from immune.cli.output import Json, emit, err, out

app = typer.Typer(help="What the system may do, and every number behind it.", no_args_is_help=True)

PolicyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A policy in TOML.")]
WRONG = 2


@app.command("show")
def show_policy(
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A policy in TOML; the defaults unless given.")] = None, as_json: Json = False
) -> None:
    """The whole policy with units, ranges and reasons. Example: immune policy show > immune.toml"""
    from immune.core.codec import plain
    from immune.core.policy_file import policy_version, render_policy
    from immune.settings import load_policy

    policy = load_policy(path)
    emit({"version": policy_version(policy), "policy": plain(policy)}, as_json, lambda: out.out(render_policy(policy), end=""))


@app.command("check")
def check(path: PolicyFile, as_json: Json = False) -> None:
    """Check a policy file; every problem with line and column. Example: immune policy check immune.toml"""
    from immune.core.policy_file import check_policy, policy_version, read_policy
    from immune.settings import read_policy_text

    text = read_policy_text(path)
    problems = check_policy(text, str(path))
    document = {
        "path": str(path),
        "valid": not problems,
        "version": None if problems else policy_version(read_policy(text, str(path))),
        "problems": [{"line": p.line, "column": p.column, **p.as_json()} for p in problems],
    }

    def show() -> None:
        for problem in problems:
            err.print(str(problem), markup=False, soft_wrap=True)
        if not problems:
            out.print(f"{path}: valid, version {document['version']}", markup=False)

    emit(document, as_json, show)
    if problems:
        raise typer.Exit(WRONG)
