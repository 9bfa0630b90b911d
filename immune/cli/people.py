"""``immune people``: who may log in with a password. Works on the data directory; a running daemon notices by itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from immune.cli.output import DataDir, Json, emit, emit_roles, out

if TYPE_CHECKING:
    from pathlib import Path

    from immune.stores.people import PeopleStore

app = typer.Typer(help="People who log in with a password: viewer, operator, approver, admin.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who; the journal names them so.")]


@app.callback()
def default(context: typer.Context, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Who may log in with a password. Example: immune people add ada --role approver"""
    if context.invoked_subcommand is None:
        people_list(data_dir, as_json)


@app.command("list")
def people_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Names and roles. Example: immune people list --json"""
    emit_roles(_store(data_dir).roles(), as_json, "nobody logs in with a password yet")


@app.command("add")
def add(
    name: Name,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, operator, approver or admin.")],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Add a person, or give one another role and password; it is asked for, never an argument. Example: immune people add ada --role approver"""
    from immune.clock import SystemClock

    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt(f"password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    _store(data_dir).add(name, role, password, SystemClock().now_us())
    emit({"name": name, "role": role}, as_json, lambda: out.print(f"{name} is {role} and logs in with this password", markup=False))


@app.command("remove")
def remove(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a person in no more; what they are logged in with ends at once. Example: immune people remove ada"""
    _store(data_dir).remove(name)
    emit({"name": name, "removed": True}, as_json, lambda: out.print(f"{name} cannot log in any more", markup=False))


def _store(data_dir: Path | None) -> PeopleStore:
    from immune.settings import load_settings
    from immune.stores.people import PeopleStore

    return PeopleStore(load_settings(data_dir=data_dir).data_dir)
