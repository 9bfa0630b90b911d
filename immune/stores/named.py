"""A private file of records by name, shared among processes: written whole under a lock, read again when it has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from immune.errors import ImmuneError, StoreUnavailableError
from immune.stores.private import Stamp, file_lock, replace_private, stamp_of
from immune.stores.sqlite import make_directory, unavailable

R = TypeVar("R")
Entry = dict[str, str]


class NamedRecords(Generic[R]):
    """The records of one file, a JSON object under the key `what`.

    `read` makes a record of a name and its entry, and raises ValueError, KeyError, TypeError or AttributeError for what is none;
    `write` makes an entry of a record. `records` and `broken` are as they were at the last `refresh`.
    """

    def __init__(self, path: Path, lock: Path, what: str, read: Callable[[str, Mapping[str, str]], R], write: Callable[[R], Entry]) -> None:
        self.path, self.lock = path, lock
        self.records: dict[str, R] = {}
        self.broken = ""
        """Why the file cannot be used at this moment; then there are no records."""
        self._what, self._read_entry, self._write_entry = what, read, write
        self._stamp: Stamp | None = None

    def refresh(self) -> bool:
        """Look at the file if it has changed; whether it had."""
        stamp = stamp_of(self.path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.records, self.broken = self.read(), ""
        except ImmuneError as error:
            # whoever cannot be checked is not let in
            self.records, self.broken = {}, str(error)
        return True

    def read(self) -> dict[str, R]:
        """What the file holds; nothing where there is none. Raises StoreUnavailableError."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: self._read_entry(name, entry) for name, entry in content[self._what].items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise unavailable(error, self.path) from error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreUnavailableError(
                f"the file of {self._what} is damaged",
                field=self.path.name,
                value=str(self.path),
                way_out=f"restore it, or move it away and make the {self._what} anew",
            ) from None

    @contextmanager
    def changing(self) -> Iterator[dict[str, R]]:
        """The records, alone among all processes; what they are at the end is written. Raises StoreUnavailableError."""
        make_directory(self.path.parent)
        try:
            with file_lock(self.lock):
                records = self.read()
                yield records
                content = {"version": 1, self._what: {name: self._write_entry(record) for name, record in sorted(records.items())}}
                replace_private(self.path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        except OSError as error:
            raise unavailable(error, self.path) from error
        self._stamp = None
