"""Lines that the server refuses for good, kept with the reason: nothing disappears, and nobody else's line is held up by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from immune.errors import StoreUnavailableError
from immune.stores.influx.escape import one_line
from immune.stores.sqlite import FILE_MODE, make_directory, unavailable

FILE_NAME = "dead-letter.lp"
LIMIT_BYTES = 64 * 1024 * 1024


class DeadLetters:
    """One file of line protocol; the reason stands before each line as a comment. Full, it takes no more."""

    def __init__(self, directory: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = directory / FILE_NAME
        self.limit_bytes = limit_bytes
        self.trouble = ""

    def add(self, letters: Sequence[tuple[str, bytes]]) -> int:
        """Keep (reason, line); how many were kept, the others must be counted as dropped."""
        try:
            return self._add(letters)
        except StoreUnavailableError as error:
            self.trouble = str(error)
            return 0

    def _add(self, letters: Sequence[tuple[str, bytes]]) -> int:
        make_directory(self.path.parent)
        kept = 0
        try:
            self.path.touch(FILE_MODE)
            room = self.limit_bytes - self.path.stat().st_size
            with self.path.open("ab") as file:
                for reason, line in letters:
                    text = f"# {one_line(reason)[:300]}\n".encode() + line
                    room -= len(text)
                    if room < 0:
                        self.trouble = f"{self.path} is full"
                        break
                    file.write(text)
                    kept += 1
        except OSError as error:
            raise unavailable(error, self.path) from error
        return kept
