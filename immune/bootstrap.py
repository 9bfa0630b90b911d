"""Puts the parts together. The only place that knows which adapter stands behind which port."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from immune.actions import ACTIONS
from immune.clock import Clock
from immune.core.decision import Rules
from immune.core.events import iso
from immune.core.fold import fold
from immune.core.policy import Policy
from immune.core.policy_file import policy_version
from immune.core.sentinel.watch import Sentinel
from immune.core.state import RunState
from immune.core.vitals import Lexicon, Roster, VitalSchema
from immune.errors import InputError, UnknownIdError
from immune.infections import CATALOGUE
from immune.ports import AgentSource, Connector, Desk, Journal, Telemetry
from immune.runtime.engine import Engine
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.memory import MemoryJournal, MemoryTelemetry
from immune.stores.telemetry_sqlite import SqliteTelemetry

SECOND_US = 1_000_000
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The two homes of a run."""

    journal: Journal
    telemetry: Telemetry

    def close(self) -> None:
        """Close both."""
        self.telemetry.close()
        self.journal.close()


def open_stores(data_dir: Path | None) -> Stores:
    """The embedded stores in a data directory, or their twins in memory for None."""
    if data_dir is None:
        return Stores(journal=MemoryJournal(), telemetry=MemoryTelemetry())
    return Stores(journal=SqliteJournal(data_dir), telemetry=SqliteTelemetry(data_dir))


def open_stores_read_only(data_dir: Path) -> Stores:
    """Handles that read beside a running daemon and never write. Raises UnknownIdError when nothing is there yet."""
    if not (data_dir / "journal.db").exists():
        raise UnknownIdError(
            "no run has been recorded here", field="--data-dir", value=str(data_dir), way_out="run `immune demo` or name another directory"
        )
    return Stores(journal=SqliteJournal.open_read_only(data_dir), telemetry=SqliteTelemetry.open_read_only(data_dir))


def read_state(journal: Journal, run_id: str | None) -> RunState:
    """The folded state of a run, the newest one if none is named. Raises UnknownIdError."""
    return fold(RunState(), journal.read(find_run(journal, run_id)))


def find_run(journal: Journal, run_id: str | None) -> str:
    """This run, or the newest for None. Raises UnknownIdError, naming the runs there are."""
    known = [run.run_id for run in journal.runs()]
    if run_id in known or (run_id is None and known):
        return run_id or known[0]
    raise UnknownIdError("no such run", field="--run", value=run_id or "(newest)", way_out="known runs: " + (", ".join(known[:5]) or "none yet"))


def new_run_id(clock: Clock) -> str:
    """A run id that sorts by time and is unique."""
    stamp = iso(clock.now_us())[:19].replace("-", "").replace(":", "").replace("T", "-")
    return f"run-{stamp}-{secrets.token_hex(2)}"


def check_run_id(run_id: str) -> str:
    """The id, if it is one: it becomes part of keys and file names. Raises InputError."""
    if RUN_ID.fullmatch(run_id):
        return run_id
    raise InputError("not a run id", field="--run", value=run_id, way_out="1 to 100 letters, digits, dots, dashes and underscores")


def build_engine(
    *,
    run_id: str,
    sources: Sequence[AgentSource],
    stores: Stores,
    policy: Policy,
    period_us: int = SECOND_US,
    extra_vitals: Sequence[str] = (),
    source: str = "",
    seed: int = 0,
    connectors: Sequence[Connector] = (),
    keep: int = 0,
) -> Engine:
    """An engine over these sources and stores; nothing runs yet. Without connectors it sees and cannot act.

    `keep` is how many ended things of each kind stay in its state (0: all); who runs for months gives a number.
    """
    desk = Desk(roster=Roster(limit=policy.limits.max_agents), lexicon=Lexicon(), schema=VitalSchema.with_extra(extra_vitals))
    sentinel = Sentinel(roster=desk.roster, lexicon=desk.lexicon, schema=desk.schema, policy=policy.detection, period_us=period_us, seed=seed)
    return Engine(
        run_id=check_run_id(run_id),
        journal=stores.journal,
        telemetry=stores.telemetry,
        sources=sources,
        sentinel=sentinel,
        desk=desk,
        rules=rules_for(policy),
        period_us=period_us,
        # in a container every daemon is the same process of the same host: the rest tells its lives apart
        holder=f"{socket.gethostname()} pid {os.getpid()} {secrets.token_hex(4)}",
        source=source,
        connectors=connectors,
        keep=keep,
    )


def rules_for(policy: Policy) -> Rules:
    """A policy with its version, the catalogue of infections and the actions there are."""
    return Rules(policy=policy, version=policy_version(policy), catalogue=tuple(CATALOGUE), actions={action.name: action for action in ACTIONS})


def with_budget(policy: Policy, false_alarms_per_agent_day: float | None) -> Policy:
    """The same policy with another false-alarm budget, if one is given. Raises InputError outside what a policy allows."""
    if false_alarms_per_agent_day is None:
        return policy
    limits = next(field.metadata for field in fields(policy.detection) if field.name == "false_alarms_per_agent_day")
    if not limits["low"] <= false_alarms_per_agent_day <= limits["high"]:
        way_out = f"give {limits['low']:g} to {limits['high']:g} ({limits['unit']})"
        raise InputError("out of range", field="--budget", value=false_alarms_per_agent_day, way_out=way_out)
    return replace(policy, detection=replace(policy.detection, false_alarms_per_agent_day=false_alarms_per_agent_day))
