"""Answers as finished bytes: made once per version, packed once, handed out to everybody who asks."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

PACK_FROM_BYTES = 1024
KEPT_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One answer: its bytes, the same packed (None where packing does not pay), and its ETag."""

    version: str
    etag: str
    raw: bytes
    packed: bytes | None


class Shelf:
    """At most `KEPT_MAX` answers, the newest version of each. Who asks while one is being made waits for it."""

    def __init__(self) -> None:
        self.evicted = 0
        self._sheets: OrderedDict[str, Sheet] = OrderedDict()
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return max(len(self._sheets), len(self._making))

    def get(self, name: str, version: str, make: Callable[[], bytes]) -> Sheet:
        """The answer of this name in this version."""
        known = self._sheets.get(name)
        if known is not None and known.version == version:
            return known
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        with making:
            known = self._sheets.get(name)
            if known is not None and known.version == version:
                return known
            try:
                sheet = sheet_of(make(), version)
            except BaseException:
                with self._lock:
                    self._making.pop(name, None)  # nothing is kept of what could not be made
                raise
            with self._lock:
                self._sheets[name] = sheet
                self._sheets.move_to_end(name)
                while len(self._sheets) > KEPT_MAX:
                    gone, _ = self._sheets.popitem(last=False)
                    self.evicted += 1
                    self._making.pop(gone, None)
            return sheet


def sheet_of(raw: bytes, version: str, *, level: int = 1) -> Sheet:
    """Bytes as an answer. The ETag is weak, because packed and plain bytes share it."""
    etag = 'W/"' + hashlib.blake2b(raw, digest_size=12).hexdigest() + '"'
    packed = gzip.compress(raw, compresslevel=level, mtime=0) if len(raw) >= PACK_FROM_BYTES else None
    return Sheet(version=version, etag=etag, raw=raw, packed=packed)
