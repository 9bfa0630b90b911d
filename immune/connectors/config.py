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
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from immune.connectors.process import ProcessSpec
from immune.connectors.webhook import WebhookSpec
from immune.core.toml_locator import locate
from immune.errors import InputError, PolicyError

PROCESS_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "agent": str,
    "argv": list,
    "cwd": str,
    "env": dict,
    "log": str,
    "grace_s": (int, float),
    "seconds_per_dispatch": (int, float),
}
WEBHOOK_KEYS: Mapping[str, type | tuple[type, ...]] = {
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError("cannot be read", field="--config", value=str(path), way_out="give a readable TOML file in UTF-8") from None
    return read_connectors(text, path, os.environ if environment is None else environment)


def read_connectors(text: str, path: Path, environment: Mapping[str, str]) -> ConnectorSpecs:
    """As `load_connectors`, from a text; paths in it start at the directory of `path`."""
    try:
        table = tomllib.loads(text)
    except ValueError as error:
        raise PolicyError(f"not valid TOML: {error}", line=1, column=1, path=str(path), way_out="see https://toml.io") from None
    reader = _Reader(text, path, environment)
    return ConnectorSpecs(
        processes=tuple(reader.process(entry, number) for number, entry in enumerate(reader.entries(table, "process"))),
        webhooks=tuple(reader.webhook(entry, number) for number, entry in enumerate(reader.entries(table, "webhook"))),
    )


class _Reader:
    def __init__(self, text: str, path: Path, environment: Mapping[str, str]) -> None:
        self._places = locate(text)
        self._path = path
        self._environment = environment

    def entries(self, table: Mapping[str, Any], section: str) -> list[Mapping[str, Any]]:
        given = table.get(section, [])
        if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
            raise self._wrong("one table for each", (section,), None, f"write it as [[{section}]]")
        return given

    def process(self, entry: Mapping[str, Any], number: int) -> ProcessSpec:
        where = ("process", str(number))
        self._check(entry, where, PROCESS_KEYS, ("agent", "argv"))
        argv = self._texts(entry["argv"], (*where, "argv"))
        env = entry.get("env", {})
        if not all(isinstance(value, str) for value in env.values()):
            raise self._wrong("values of variables are text", (*where, "env"), None, 'for example { MODEL = "small" }')
        return ProcessSpec(
            agent_id=entry["agent"],
            argv=argv,
            cwd=self._file(entry.get("cwd")),
            env=env,
            log=self._file(entry.get("log")),
            **{key: float(entry[key]) for key in ("grace_s", "seconds_per_dispatch") if key in entry},
        )

    def webhook(self, entry: Mapping[str, Any], number: int) -> WebhookSpec:
        where = ("webhook", str(number))
        self._check(entry, where, WEBHOOK_KEYS, ("url", "agents"))
        return WebhookSpec(
            url=entry["url"],
            agents=self._texts(entry["agents"], (*where, "agents")),
            secret=self._secret(entry, where),
            allow_private=entry.get("allow_private", False),
            allow_loopback=entry.get("allow_loopback", False),
            timeout_s=float(entry.get("timeout_s", 5.0)),
            observe_every_s=float(entry.get("observe_every_s", 5.0)),
        )

    def _check(self, entry: Mapping[str, Any], where: tuple[str, ...], known: Mapping[str, type | tuple[type, ...]], needed: tuple[str, ...]) -> None:
        for key, value in entry.items():
            if key not in known:
                raise self._wrong("unknown key", (*where, key), None, "one of " + ", ".join(known))
            wanted = known[key]
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                raise self._wrong("of the wrong type", (*where, key), value, f"{key} is {_words(wanted)}")
            if key in POSITIVE and isinstance(value, (int, float)) and not 0.0 < value < 1e6:
                raise self._wrong("not a number of seconds", (*where, key), value, "above 0")
        for key in needed:
            if not entry.get(key):
                raise self._wrong(f"{key} is missing", where, None, f"give {key} = …")

    def _texts(self, given: list[Any], where: tuple[str, ...]) -> tuple[str, ...]:
        if not all(isinstance(one, str) and one for one in given):
            raise self._wrong("a list of texts", where, None, 'for example ["python", "agent.py"]')
        return tuple(given)

    def _secret(self, entry: Mapping[str, Any], where: tuple[str, ...]) -> bytes:
        if ("secret_env" in entry) == ("secret_file" in entry):
            raise self._wrong("one source of the secret", where, None, "give either secret_env or secret_file")
        if "secret_env" in entry:
            name = entry["secret_env"]
            if not self._environment.get(name):
                raise self._wrong("this variable is not set", (*where, "secret_env"), name, f"export {name}=…")
            return self._environment[name].encode()
        file = self._file(entry["secret_file"])
        try:
            return file.read_bytes().strip() if file else b""
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}", (*where, "secret_file"), entry["secret_file"], "give a readable file") from None

    def _file(self, given: str | None) -> Path | None:
        return self._path.parent / given if given else None

    def _wrong(self, what: str, where: tuple[str, ...], value: object, way_out: str) -> PolicyError:
        place = self._places.get(where)
        line, column = (place.value_line, place.value_column) if place else (1, 1)
        return PolicyError(what, line=line, column=column, path=str(self._path), field=".".join(where), value=value, way_out=way_out)


def _words(wanted: type | tuple[type, ...]) -> str:
    names = {str: "text", list: "a list", dict: "a table", bool: "true or false"}
    return names[wanted] if isinstance(wanted, type) else "a number"
