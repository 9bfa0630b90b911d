"""How far a run has been brought to one bucket: a small file that survives crashes.

It may say less than is true, never more: what lies after it is brought again, and twice is once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from immune.settings import InfluxSettings
from immune.stores.sqlite import FILE_MODE, make_directory


class Mark:
    """One number for one run and bucket, 0 until something was brought there."""

    def __init__(self, path: Path, target: InfluxSettings) -> None:
        self.path = path
        self.target = f"{target.url} {target.org} {target.bucket}"
        self.trouble = ""
        self.value = self._load()

    def _load(self) -> int:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0
        value = known.get(self.target) if isinstance(known, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def move(self, value: int) -> None:
        """Remember this number. A disk that refuses costs nothing but bringing the same again."""
        self.value = value
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            make_directory(self.path.parent)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps({self.target: value}))
            draft.replace(self.path)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self.path}: {error.strerror}"
