"""Tables of a TOML file that stand once for each thing (``[[process]]``, ``[[webhook]]``, ``[[notify]]``), checked with line and column."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immune.core.toml_locator import locate
from immune.errors import InputError, PolicyError

Keys = Mapping[str, type | tuple[type, ...]]


def read_tables_text(path: Path) -> str:
    """The text of a configuration file. Raises InputError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError("cannot be read", field="--config", value=str(path), way_out="give a readable TOML file in UTF-8") from None


class Tables:
    """One file. `environment` is where ``secret_env`` looks; paths start at the directory of `path`. Raises PolicyError."""

    def __init__(self, text: str, path: Path, environment: Mapping[str, str]) -> None:
        try:
            self._tables = tomllib.loads(text)
        except ValueError as error:
            raise PolicyError(f"not valid TOML: {error}", line=1, column=1, path=str(path), way_out="see https://toml.io") from None
        self._places = locate(text)
        self._path = path
        self._environment = environment

    def entries(self, section: str) -> list[Mapping[str, Any]]:
        """The tables of this name, in order."""
        given = self._tables.get(section, [])
        if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
            raise self.wrong("one table for each", (section,), None, f"write it as [[{section}]]")
        return given

    def check(self, entry: Mapping[str, Any], where: tuple[str, ...], known: Keys, needed: tuple[str, ...], positive: tuple[str, ...] = ()) -> None:
        """Nothing unknown, everything of its type, nothing missing; `positive` are numbers of seconds above 0."""
        for key, value in entry.items():
            if key not in known:
                raise self.wrong("unknown key", (*where, key), None, "one of " + ", ".join(known))
            wanted = known[key]
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                raise self.wrong("of the wrong type", (*where, key), value, f"{key} is {_words(wanted)}")
            if key in positive and isinstance(value, (int, float)) and not 0.0 < value < 1e6:
                raise self.wrong("not a number of seconds", (*where, key), value, "above 0")
        for key in needed:
            if not entry.get(key):
                raise self.wrong(f"{key} is missing", where, None, f"give {key} = …")

    def texts(self, given: list[Any], where: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts that are not empty."""
        if not all(isinstance(one, str) and one for one in given):
            raise self.wrong("a list of texts", where, None, 'for example ["python", "agent.py"]')
        return tuple(given)

    def secret(self, entry: Mapping[str, Any], where: tuple[str, ...], name: str = "secret") -> bytes:
        """What ``NAME_env`` or ``NAME_file`` leads to: a secret never stands in the file itself."""
        by_env, by_file = f"{name}_env", f"{name}_file"
        if (by_env in entry) == (by_file in entry):
            raise self.wrong(f"one source of the {name}", where, None, f"give either {by_env} or {by_file}")
        if by_env in entry:
            variable = entry[by_env]
            if not self._environment.get(variable):
                raise self.wrong("this variable is not set", (*where, by_env), variable, f"export {variable}=…")
            return self._environment[variable].encode()
        file = self.file(entry[by_file])
        try:
            return file.read_bytes().strip() if file else b""
        except OSError as error:
            raise self.wrong(f"cannot be read: {error.strerror}", (*where, by_file), entry[by_file], "give a readable file") from None

    def file(self, given: str | None) -> Path | None:
        """A path as the file means it; None for none."""
        return self._path.parent / given if given else None

    def wrong(self, what: str, where: tuple[str, ...], value: object, way_out: str) -> PolicyError:
        """An error that names line and column."""
        place = self._places.get(where)
        line, column = (place.value_line, place.value_column) if place else (1, 1)
        return PolicyError(what, line=line, column=column, path=str(self._path), field=".".join(where), value=value, way_out=way_out)


def _words(wanted: type | tuple[type, ...]) -> str:
    names = {str: "text", list: "a list", dict: "a table", bool: "true or false"}
    return names[wanted] if isinstance(wanted, type) else "a number"
