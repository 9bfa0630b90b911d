"""``immune tokens``: who may speak to the daemon. Works on the data directory; a running daemon notices by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from immune.cli.output import DataDir, Json, emit, emit_roles, err, out

if TYPE_CHECKING:
    from pathlib import Path

    from immune.stores.tokens import TokenStore

app = typer.Typer(help="Named tokens with roles: viewer, agent, operator, approver, admin.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose token; the journal names them so.")]


@app.callback()
def default(context: typer.Context, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Who may speak to the daemon. Example: immune tokens create ada --role approver"""
    if context.invoked_subcommand is None:
        tokens_list(data_dir, as_json)


@app.command("list")
def tokens_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Names and roles; the tokens themselves are kept nowhere. Example: immune tokens list --json"""
    emit_roles(_store(data_dir).roles(), as_json, "no tokens yet: the first start of the daemon makes the admin's")


@app.command("create")
def create(
    name: Name,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="viewer, agent, operator, approver or admin.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a token; it is shown this once. Example: immune tokens create ada --role approver"""
    from immune.clock import SystemClock

    token = _store(data_dir).create(name, role, SystemClock().now_us())

    def show() -> None:
        err.print(f"{name} is {role}; this is shown once, use it as IMMUNE_TOKEN:", markup=False)
        out.print(token, markup=False, soft_wrap=True)

    emit({"name": name, "role": role, "token": token}, as_json, show)


@app.command("revoke")
def revoke(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Make a token worthless from now on. Example: immune tokens revoke ada"""
    _store(data_dir).revoke(name)
    emit({"name": name, "revoked": True}, as_json, lambda: out.print(f"the token of {name} is worthless now", markup=False))


def _store(data_dir: Path | None) -> TokenStore:
    from immune.settings import load_settings
    from immune.stores.tokens import TokenStore

    return TokenStore(load_settings(data_dir=data_dir).data_dir)
