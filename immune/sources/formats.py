"""Which column of a file is which field: files in our own columns, recordings recognised by their header, `--map`.

Adding a recognised recording is one more entry in `FORMATS`. What a recording knows about outcomes and causes is never
bound to a field: the control plane sees symptoms only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from immune.errors import InputError
from immune.sources.parse import FIELDS, show

SUFFIXES = frozenset({".gz", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """For recordings that mix the rows of several parties: what each party's rows say.

    `column` names the party. A field in `only` is read in rows of these parties and missing elsewhere; `status` gives the
    status of a party's rows.
    """

    column: str
    only: Mapping[str, frozenset[str]]
    status: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A recording known by its header: field -> column, and fields that are the same in all rows."""

    name: str
    header: frozenset[str]
    columns: Mapping[str, str]
    constants: Mapping[str, str] = field(default_factory=dict)
    turns: Turns | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What one file's columns mean. Without `agent` the file is one agent, named after it; without `at` it has no clock."""

    columns: Mapping[str, str]
    constants: Mapping[str, str]
    turns: Turns | None
    ignored: tuple[str, ...]
    format_name: str | None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        names = dict.fromkeys(self.columns.values())
        if self.turns is not None:
            names[self.turns.column] = None
        return tuple(names)


AZURE_LLM = Format(
    # One production endpoint a file: the requests of all callers, so the endpoint is the agent. ContextTokens is the prompt
    # of this one request, not a context that grows, hence input and not context.
    name="Azure LLM inference trace",
    header=frozenset({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}),
    columns={"at": "TIMESTAMP", "input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"},
    constants={"type": "llm-endpoint"},
)
TAU_BENCH = Format(
    # Each run is one session of the same kind of agent, so runs are agents that share a type (and its calibration). A
    # conversation has three more parties: what a user wrote or a tool answered is not the agent's output, so those rows say
    # only that the agent waited, or that its tool failed. The agent's context is cumulative and read where it is sent: in
    # the agent's own turns. All runs do one kind of work; 50 tasks of 4 runs each would leave nothing to learn from.
    name="tau-bench trajectories",
    header=frozenset({"run", "task_id", "step", "role", "tool", "input_tokens_est", "output_tokens_est", "tool_calls", "error"}),
    columns={
        "agent": "run",
        "task_id": "run",
        "step": "step",
        "tool": "tool",
        "context_tokens": "input_tokens_est",
        "output_tokens": "output_tokens_est",
        "tool_calls": "tool_calls",
        "errors": "error",
    },
    constants={"type": "tau-airline", "task": "airline"},
    turns=Turns(
        column="role",
        only={
            "context_tokens": frozenset({"assistant"}),
            "output_tokens": frozenset({"assistant"}),
            "tool_calls": frozenset({"assistant"}),
            "errors": frozenset({"tool"}),
        },
        status={"assistant": "working", "tool": "working", "user": "idle", "system": "idle"},
    ),
)
WHO_AND_WHEN = Format(
    # The session is the agent, not the speaker within it: the context is the session's and grows whoever speaks, and a
    # speaker has 6 rows in the middle, too few to learn anything from. Who speaks decides what a step is like (a terminal
    # answers, an expert writes code), so the speaker is the kind of task.
    name="Who&When failure logs",
    header=frozenset({"log", "system", "step", "agent", "input_tokens_est", "output_tokens_est", "tool_call", "error"}),
    columns={
        "agent": "log",
        "type": "system",
        "task": "agent",
        "task_id": "log",
        "step": "step",
        "context_tokens": "input_tokens_est",
        "output_tokens": "output_tokens_est",
        "tool_calls": "tool_call",
        "errors": "error",
    },
)
FORMATS: tuple[Format, ...] = (AZURE_LLM, TAU_BENCH, WHO_AND_WHEN)


def bind(path: Path, header: Sequence[str], mapping: Mapping[str, str], extra: Collection[str]) -> Binding:
    """The meaning of a file's columns: `mapping` first, then a recognised header, then the columns' own names.

    Raises InputError if nothing in the header is a vital or a status, or a column that is needed stands there twice.
    """
    found = next((known for known in FORMATS if known.header <= set(header)), None)
    own_names = {name: name for name in FIELDS if name in header}
    columns = dict(found.columns) if found else own_names
    columns |= {name: name for name in extra if name in header}
    columns |= {name: column for name, column in mapping.items() if column in header}
    constants = {name: text for name, text in (found.constants if found else {}).items() if name not in columns}
    _check_says_something(path, header, columns)
    turns = found.turns if found else None
    used = {*columns.values(), turns.column if turns else ""}
    _check_single(path, header, used)
    ignored = tuple(name for name in header if name not in used)
    return Binding(columns=columns, constants=constants, turns=turns, ignored=ignored, format_name=found.name if found else None)


def check_names(headers: Iterable[Sequence[str]], mapping: Mapping[str, str], vitals: Collection[str]) -> None:
    """Raise InputError for a name in `--map` or `--vital` that nothing answers to, with what was probably meant."""
    present = sorted({name for header in headers for name in header})
    for name, column in mapping.items():
        if name not in FIELDS and name not in vitals:
            raise _unknown("unknown field", "--map", name, [*FIELDS, *vitals])
        if column not in present:
            raise _unknown("no such column", f"--map {name}", column, present)
    for name in vitals:
        if name not in present and name not in mapping:
            raise _unknown("no such column", "--vital", name, present)


def notes_on(path: Path, binding: Binding) -> list[str]:
    """What a person should know about how the file was understood."""
    notes = []
    if binding.format_name:
        notes.append(f"{path.name}: recognised as {binding.format_name}")
    if binding.ignored:
        named = [show(name) + _meant(name, binding) for name in binding.ignored[:20]]
        more = f" and {len(binding.ignored) - 20} more" if len(binding.ignored) > 20 else ""
        notes.append(f"{path.name}: ignored columns: {', '.join(named)}{more}")
    if "agent" not in binding.columns:
        notes.append(f"{path.name}: no agent column, so the whole file is one agent, {stem(path)!r}")
    if "at" not in binding.columns:
        notes.append(f"{path.name}: no clock, so the rows of an agent are one period apart")
    return notes


def stem(path: Path) -> str:
    """A file's name without the suffixes of its form."""
    while path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.name


def _meant(name: str, binding: Binding) -> str:
    """What an ignored column may have been meant to be; nothing in a recording that was recognised."""
    close = _nearest(name)
    return f" (did you mean {close}?)" if close and close not in binding.columns and not binding.format_name else ""


def _nearest(name: str) -> str:
    """The field that a column's name resembles; empty if none, or if its unit is another."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    if plain.endswith(("_s", "_sec", "_seconds", "_us")):
        return ""
    return next(iter(get_close_matches(plain, FIELDS, n=1, cutoff=0.8)), "")


def _unknown(what: str, where: str, value: str, known: Sequence[str]) -> InputError:
    close = get_close_matches(value, known, n=3, cutoff=0.5)
    listed = ", ".join(known[:30]) + (" …" if len(known) > 30 else "")
    return InputError(what, field=where, value=value, way_out=f"did you mean {' or '.join(close)}?" if close else f"there are {listed}")


def _check_says_something(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> None:
    context = {"at", "agent", "type", "service", "provider", "model", "version", "prompt_hash", "tool", "task", "task_id", "step"}
    if set(columns) - context:
        return
    shown = ", ".join(header[:12]) + (" …" if len(header) > 12 else "")
    close = [(meant, name) for name in header if (meant := _nearest(name))]
    way_out = "name vitals in the header, or use --map latency_ms=COLUMN or --vital COLUMN"
    if close:
        way_out = f"did you mean {' '.join(f'--map {meant}={show(name)}' for meant, name in close)}? Else --vital COLUMN"
    raise InputError("no column is a vital or a status", field=str(path), value=shown, way_out=way_out)


def _check_single(path: Path, header: Sequence[str], used: Collection[str]) -> None:
    twice = next((name for name in header if name in used and header.count(name) > 1), None)
    if twice is not None:
        raise InputError("the header names this column twice", field=str(path), value=twice, way_out="rename one of them")
