"""The hands as a configuration file names them: ``[[process]]`` and ``[[webhook]]``, beside the policy in the same TOML.

[[process]]
agent = "worker-1"
argv = ["python", "worker.py"]
cwd = "agents"                    # from where the file stands
env = { MODEL = "small" }
log = "worker-1.log"

[[webhook]]
url = "https://ops.example.org/immune"
agents = ["crawler-*"]
secret_env = "OPS_WEBHOOK_SECRET" # or secret_file = "ops.secret"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from immune.connectors.process import ProcessSpec
from immune.connectors.webhook import WebhookSpec
from immune.tables import Keys, Tables, read_tables_text

PROCESS_KEYS: Keys = {
    "agent": str,
    "argv": list,
    "cwd": str,
    "env": dict,
    "log": str,
    "grace_s": (int, float),
    "seconds_per_dispatch": (int, float),
}
WEBHOOK_KEYS: Keys = {
    "url": str,
    "agents": list,
    "secret_env": str,
    "secret_file": str,
    "allow_private": bool,
    "allow_loopback": bool,
    "timeout_s": (int, float),
    "observe_every_s": (int, float),
}
POSITIVE = ("timeout_s", "observe_every_s", "seconds_per_dispatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorSpecs:
    """Everything a file says of connectors."""

    processes: tuple[ProcessSpec, ...] = ()
    webhooks: tuple[WebhookSpec, ...] = ()


def load_connectors(path: Path | None, environment: Mapping[str, str] | None = None) -> ConnectorSpecs:
    """The connectors of a file, none for None. Raises InputError, or PolicyError with line and column."""
    if path is None:
        return ConnectorSpecs()
    return read_connectors(read_tables_text(path), path, os.environ if environment is None else environment)


def read_connectors(text: str, path: Path, environment: Mapping[str, str]) -> ConnectorSpecs:
    """As `load_connectors`, from a text; paths in it start at the directory of `path`."""
    tables = Tables(text, path, environment)
    reader = _Reader(tables)
    return ConnectorSpecs(
        processes=tuple(reader.process(entry, number) for number, entry in enumerate(tables.entries("process"))),
        webhooks=tuple(reader.webhook(entry, number) for number, entry in enumerate(tables.entries("webhook"))),
    )


class _Reader:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def process(self, entry: Mapping[str, Any], number: int) -> ProcessSpec:
        where = ("process", str(number))
        self._tables.check(entry, where, PROCESS_KEYS, ("agent", "argv"), POSITIVE)
        argv = self._tables.texts(entry["argv"], (*where, "argv"))
        env = entry.get("env", {})
        if not all(isinstance(value, str) for value in env.values()):
            raise self._tables.wrong("values of variables are text", (*where, "env"), None, 'for example { MODEL = "small" }')
        return ProcessSpec(
            agent_id=entry["agent"],
            argv=argv,
            cwd=self._tables.file(entry.get("cwd")),
            env=env,
            log=self._tables.file(entry.get("log")),
            **{key: float(entry[key]) for key in ("grace_s", "seconds_per_dispatch") if key in entry},
        )

    def webhook(self, entry: Mapping[str, Any], number: int) -> WebhookSpec:
        where = ("webhook", str(number))
        self._tables.check(entry, where, WEBHOOK_KEYS, ("url", "agents"), POSITIVE)
        return WebhookSpec(
            url=entry["url"],
            agents=self._tables.texts(entry["agents"], (*where, "agents")),
            secret=self._tables.secret(entry, where),
            allow_private=entry.get("allow_private", False),
            allow_loopback=entry.get("allow_loopback", False),
            timeout_s=float(entry.get("timeout_s", 5.0)),
            observe_every_s=float(entry.get("observe_every_s", 5.0)),
        )
