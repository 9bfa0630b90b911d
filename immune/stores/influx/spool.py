"""What waits for the server: parcels of lines in order, in memory while it is well, on the disk while it is not.

A parcel on the disk is a file of gzipped line protocol whose name says its place and how many points it holds; it was
synced and renamed into place, so a crash leaves it whole or not at all. The oldest goes when there is no more room, and
is counted.
"""

from __future__ import annotations

import os
import re
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from immune.errors import StoreUnavailableError
from immune.stores.sqlite import FILE_MODE, make_directory, unavailable

MEMORY_SHARE = 16
_NAME = re.compile(r"(\d{12})-(\d+)\.lp\.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Gzipped lines, times in µs. `through_us` is the time of the newest tick that ends in it, 0 for none."""

    number: int
    points: int
    through_us: int
    size_bytes: int
    content: bytes | None
    """None while it lies on the disk."""


class Waiting:
    """Parcels that are not brought yet, oldest first. `spooled` and `in_memory` are points."""

    def __init__(self, directory: Path, cap_bytes: int) -> None:
        """Takes up what an earlier process left. Raises StoreUnavailableError."""
        self.directory = directory
        self.cap_bytes = cap_bytes
        self.dropped = 0
        self.disk_trouble = ""
        self._parcels: deque[Parcel] = deque()
        make_directory(directory)
        try:
            self._take_up()
        except OSError as error:
            raise unavailable(error, directory) from error
        self.inherited = self.spooled
        self._next = self._parcels[-1].number + 1 if self._parcels else 1

    def _take_up(self) -> None:
        for path in sorted(self.directory.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match:
                number, points = int(match[1]), int(match[2])
                self._parcels.append(Parcel(number=number, points=points, through_us=0, size_bytes=path.stat().st_size, content=None))
            elif path.name.endswith(".part"):
                path.unlink()  # torn by a crash: its ticks were not ticked off, and are read from the telemetry store again

    @property
    def spooled(self) -> int:
        """Points on the disk."""
        return sum(parcel.points for parcel in self._parcels if parcel.content is None)

    @property
    def in_memory(self) -> int:
        """Points in memory only."""
        return sum(parcel.points for parcel in self._parcels if parcel.content is not None)

    @property
    def parcels_in_memory(self) -> int:
        """Parcels in memory only."""
        return sum(parcel.content is not None for parcel in self._parcels)

    @property
    def spooled_through_us(self) -> int:
        """Time of the newest tick that is on the disk as a whole, with all that came before it; 0 for none."""
        through_us = 0
        for parcel in self._parcels:
            if parcel.content is not None:
                break
            through_us = parcel.through_us or through_us
        return through_us

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk."""
        return sum(parcel.size_bytes for parcel in self._parcels if parcel.content is None)

    def __len__(self) -> int:
        return len(self._parcels)

    def add(self, points: int, through_us: int, content: bytes) -> None:
        """A new parcel at the end."""
        self._parcels.append(Parcel(number=self._next, points=points, through_us=through_us, size_bytes=len(content), content=content))
        self._next += 1

    def oldest(self) -> Parcel | None:
        """The parcel that is to be brought next."""
        return self._parcels[0] if self._parcels else None

    def content(self, parcel: Parcel) -> bytes | None:
        """Its lines, gzipped; None for a file that is gone or damaged, which cannot be brought."""
        if parcel.content is not None:
            return parcel.content
        try:
            return self._path(parcel).read_bytes()
        except OSError:
            return None

    def done(self, parcel: Parcel) -> bool:
        """Strike a parcel off; whether it was still waiting, and had not gone to make room."""
        if not self._parcels or self._parcels[0].number != parcel.number:
            return False
        if self._parcels.popleft().content is None:
            self._path(parcel).unlink(missing_ok=True)
        return True

    def unwritten(self, *, keep: int = 0) -> list[Parcel]:
        """Parcels in memory only, but for the `keep` oldest of all."""
        return [parcel for place, parcel in enumerate(self._parcels) if place >= keep and parcel.content is not None]

    def write(self, parcel: Parcel) -> None:
        """Bring a parcel's file onto the disk; touches nothing else, so that a thread may do it. Raises StoreUnavailableError."""
        path = self._path(parcel)
        draft = path.with_suffix(".part")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            with os.fdopen(handle, "wb") as file:
                file.write(parcel.content or b"")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise unavailable(error, path) from error

    def written(self, parcel: Parcel) -> None:
        """Its file is there: memory lets go of it. Beyond the cap the oldest go, and are counted."""
        self.disk_trouble = ""
        place = next((place for place, one in enumerate(self._parcels) if one.number == parcel.number), None)
        if place is None:
            self._path(parcel).unlink(missing_ok=True)  # brought, or dropped, while it was being written
            return
        self._parcels[place] = replace(parcel, content=None)
        self._make_room()

    def unwritable(self, error: StoreUnavailableError) -> None:
        """The disk refused: memory holds a part of the cap, and then the oldest go, and are counted."""
        self.disk_trouble = str(error)
        while self._parcels and self.in_memory_bytes > self.cap_bytes // MEMORY_SHARE:
            self._let_go()

    @property
    def in_memory_bytes(self) -> int:
        """Bytes in memory only."""
        return sum(parcel.size_bytes for parcel in self._parcels if parcel.content is not None)

    def _make_room(self) -> None:
        while self._parcels and self.size_bytes > self.cap_bytes:
            self._let_go()

    def _let_go(self) -> None:
        gone = self._parcels.popleft()
        if gone.content is None:
            self._path(gone).unlink(missing_ok=True)
        self.dropped += gone.points

    def _path(self, parcel: Parcel) -> Path:
        return self.directory / f"{parcel.number:012d}-{parcel.points}.lp.gz"
