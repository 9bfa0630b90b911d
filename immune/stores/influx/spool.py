"""What waits for the server: parcels of lines in order, in memory while it is well, on the disk while it is not.

A parcel on the disk is a file of gzipped line protocol whose name says its place and how many points it holds; it was
synced and renamed into place, so a crash leaves it whole or not at all. The oldest goes when there is no more room, and
is counted. A small fleet leaves one small parcel a second for as long as the server is away, so nothing here looks at all
of them: what the tick and the status page ask is counted as it changes.
"""

from __future__ import annotations

import errno
import os
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from immune.errors import StoreUnavailableError
from immune.stores.sqlite import FILE_MODE, make_directory, unavailable

MEMORY_SHARE = 16
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
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
    """Parcels that are not brought yet, oldest first. `spooled` and `in_memory` are points, `size_bytes` and `in_memory_bytes` their bytes."""

    def __init__(self, directory: Path, cap_bytes: int) -> None:
        """Takes up what an earlier process left. Raises StoreUnavailableError."""
        self.directory = directory
        self.cap_bytes = cap_bytes
        self.dropped = 0
        self.disk_trouble = ""
        self.spooled = self.size_bytes = 0
        self.in_memory = self.in_memory_bytes = 0
        self._parcels: OrderedDict[int, Parcel] = OrderedDict()
        self._unwritten: OrderedDict[int, Parcel] = OrderedDict()
        make_directory(directory)
        try:
            self._take_up()
        except OSError as error:
            raise unavailable(error, directory) from error
        self.inherited = self.spooled
        self._next = next(reversed(self._parcels), 0) + 1

    def _take_up(self) -> None:
        for path in sorted(self.directory.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match:
                number, points = int(match[1]), int(match[2])
                self._put(Parcel(number=number, points=points, through_us=0, size_bytes=path.stat().st_size, content=None))
            elif path.name.endswith(".part"):
                path.unlink()  # torn by a crash: its ticks were not ticked off, and are read from the telemetry store again

    def _put(self, parcel: Parcel) -> None:
        """A parcel at its place, counted where it is."""
        self._parcels[parcel.number] = parcel
        if parcel.content is None:
            self.spooled += parcel.points
            self.size_bytes += parcel.size_bytes
        else:
            self._unwritten[parcel.number] = parcel
            self.in_memory += parcel.points
            self.in_memory_bytes += parcel.size_bytes

    def _strike(self, number: int) -> Parcel | None:
        """A parcel taken out, no longer counted; None for one that is gone already."""
        parcel = self._parcels.pop(number, None)
        if parcel is not None:
            self._uncount(parcel)
        return parcel

    def _uncount(self, parcel: Parcel) -> None:
        if parcel.content is None:
            self.spooled -= parcel.points
            self.size_bytes -= parcel.size_bytes
        else:
            del self._unwritten[parcel.number]
            self.in_memory -= parcel.points
            self.in_memory_bytes -= parcel.size_bytes

    @property
    def parcels_in_memory(self) -> int:
        """Parcels in memory only."""
        return len(self._unwritten)

    @property
    def spooled_through_us(self) -> int:
        """Time of the newest tick that is on the disk as a whole, with all that came before it; 0 for none."""
        first_unwritten = next(iter(self._unwritten), self._next)
        if first_unwritten == next(iter(self._parcels), first_unwritten):
            return 0
        written = (parcel for number, parcel in reversed(self._parcels.items()) if number < first_unwritten)
        return next((parcel.through_us for parcel in written if parcel.through_us), 0)

    def __len__(self) -> int:
        return len(self._parcels)

    def add(self, points: int, through_us: int, content: bytes) -> None:
        """A new parcel at the end."""
        self._put(Parcel(number=self._next, points=points, through_us=through_us, size_bytes=len(content), content=content))
        self._next += 1

    def oldest(self) -> Parcel | None:
        """The parcel that is to be brought next."""
        return next(iter(self._parcels.values()), None)

    def next_load(self, points: int) -> list[Parcel]:
        """The oldest parcels, as many as hold so many points together, and one at least: gzip after gzip is gzip."""
        load: list[Parcel] = []
        for parcel in self._parcels.values():
            points -= parcel.points
            if load and points < 0:
                break
            load.append(parcel)
        return load

    def content(self, parcel: Parcel) -> bytes | None:
        """Its lines, gzipped; None for a file that is gone or damaged, which cannot be brought.

        Raises StoreUnavailableError where it is the process that is short of something, and the file is well.
        """
        if parcel.content is not None:
            return parcel.content
        path = self._path(parcel)
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno in _SHORT:
                raise unavailable(error, path) from error
            return None

    def done(self, parcel: Parcel) -> bool:
        """Strike a parcel off; whether it was still waiting, and had not gone to make room."""
        struck = self._strike(parcel.number)
        if struck is not None and struck.content is None:
            self._path(parcel).unlink(missing_ok=True)
        return struck is not None

    def unwritten(self, *, keep_first: bool = False) -> list[Parcel]:
        """Parcels in memory only, but for the oldest of all if that is to be kept there."""
        kept = self.oldest() if keep_first else None
        return [parcel for parcel in self._unwritten.values() if parcel is not kept]

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
        if parcel.number not in self._parcels:
            self._path(parcel).unlink(missing_ok=True)  # brought, or dropped, while it was being written
            return
        self._uncount(parcel)
        self._put(replace(parcel, content=None))
        self._make_room()

    def unwritable(self, error: StoreUnavailableError) -> None:
        """The disk refused: memory holds a part of the cap, and then the oldest go, and are counted."""
        self.disk_trouble = str(error)
        while self._parcels and self.in_memory_bytes > self.cap_bytes // MEMORY_SHARE:
            self._let_go()

    def _make_room(self) -> None:
        while self._parcels and self.size_bytes > self.cap_bytes:
            self._let_go()

    def _let_go(self) -> None:
        gone = self._strike(next(iter(self._parcels)))
        if gone is None:
            return
        if gone.content is None:
            self._path(gone).unlink(missing_ok=True)
        self.dropped += gone.points

    def _path(self, parcel: Parcel) -> Path:
        return self.directory / f"{parcel.number:012d}-{parcel.points}.lp.gz"
