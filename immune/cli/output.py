"""How commands speak: one JSON document on stdout with --json, tables for people without; problems go to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from immune.errors import ImmuneError, InputError

INTERRUPTED = 130
UsageProblem: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""What a wrong option raises: newer versions of typer bring their own click, older ones use the installed one."""

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="IMMUNE_DATA_DIR", help="Where the journal and telemetry live (default ./.immune).", show_default=False),
]
Run = Annotated[str | None, typer.Option("--run", help="Which run; the newest one unless given.", show_default=False)]

INTERRUPTION = "interrupted; what was written until now stays, and can be read"
GAP = 2
FOLDED_WIDTH = 30
PIPE_WIDTH = 200
"""Whoever reads a pipe has no window; a table folded to 80 columns is of no use to grep."""


class _CarefulConsole(Console):
    """Shows what does not print as an escape: a word in a journal must not drive the terminal of who reads it."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text without control characters, as rich would render it."""
        return super().render_str(harmless(text), **options)


def harmless(text: str) -> str:
    """The text with everything unprintable, but for the ends of lines, written as an escape."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


out = _CarefulConsole(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = _CarefulConsole(stderr=True, highlight=False)


def emit(document: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print the document as JSON, or let `show` print it for people."""
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    else:
        show()


def emit_roles(roles: Mapping[str, str], as_json: bool, empty: str) -> None:
    """Names and what they may do; `empty` is said where there are none."""
    documents = [{"name": name, "role": role} for name, role in sorted(roles.items())]
    emit(documents, as_json, lambda: table("", ("name", "role"), sorted(roles.items()), empty))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """A table for people, or one sentence when there is nothing in it. Cells are text, never markup.

    What does not fit side by side is written one below the other, because a column of single letters helps nobody.
    """
    if not rows:
        out.print(empty, markup=False)
        return
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(text) for text in (column, *(row[n] for row in texts))) for n, column in enumerate(columns)]
    last_may_fold = sum(widths[:-1]) + GAP * len(widths) + min(widths[-1], FOLDED_WIDTH)
    if last_may_fold > out.width:
        _records(title, columns, texts)
        return
    grid = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column, width in zip(columns[:-1], widths[:-1], strict=True):
        grid.add_column(column, min_width=width)
    grid.add_column(columns[-1], overflow="fold")
    for row in texts:
        grid.add_row(*(escape(text) for text in row))
    out.print(grid)


def _records(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if title:
        out.print(title, style="bold", markup=False)
    for row in rows:
        out.print(row[0], style="bold", markup=False)
        for column, text in zip(columns[1:], row[1:], strict=True):
            if text:
                out.print(f"  {column or 'note'}: {text}", markup=False)


def run_guarded(app: typer.Typer, arguments: list[str]) -> int:
    """Run the app; turn every expected error into one sentence and its exit code. No traceback reaches a user."""
    try:
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code itself, and says nothing
            err.print(INTERRUPTION)
    except ImmuneError as error:
        return report_error(error, "--json" in arguments)
    except typer.Exit as left:
        return int(left.exit_code)
    except UsageProblem as error:
        if "--json" in arguments:
            return report_error(InputError(error.format_message(), way_out="see --help"), as_json=True)
        error.show()
        return InputError.exit_code
    except (typer.Abort, KeyboardInterrupt):
        err.print(INTERRUPTION)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader went away (immune … | head): not our failure, and python must not complain while it shuts down
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def report_error(error: ImmuneError, as_json: bool) -> int:
    """Say what is wrong, on stderr for people, as a document on stdout for programs; the exit code."""
    if as_json:
        sys.stdout.write(json.dumps(error.as_json(), ensure_ascii=False) + "\n")
    err.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
    return error.exit_code
