"""Where in a run something is told of: the seqs of every subject, incident, plan, request, containment and task.

A page about one agent reads its few hundred events and not the hundred thousand of its run.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from immune.core.events import Envelope
from immune.ports import Journal

ENTRIES_MAX = 4_000_000
"""32 MB of seqs; then the older half goes, and what lies so far back is searched for in the journal again."""
APART = 32
SCAN_STEP = 2_000
"""Seqs closer than this are read in one go, with what lies between."""
_CARRIED = re.compile(rb'"(?:plan_id|request_id|containment_id|task_id)":"([^"]+)"')


class Places:
    """Grows with a run; may be read from any thread while one adds to it."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self.from_seq = 0
        """Events up to here are not known any more."""
        self._entries_max = entries_max
        self._entries = 0
        self._last = 0
        self._seqs: dict[str, array[int]] = {}

    def note(self, envelopes: Iterable[Envelope]) -> None:
        """Remember where these events are."""
        for one in envelopes:
            self._last = one.seq
            for key in {one.subject, one.correlation_id, *(found.decode() for found in _CARRIED.findall(one.body))}:
                if key:
                    self._entries += 1
                    known = self._seqs.get(key)
                    if known is None:
                        known = self._seqs[key] = array("q")
                    known.append(one.seq)
        if self._entries > self._entries_max:
            self._forget((self.from_seq + self._last) // 2)

    def of(self, keys: Iterable[str], *, last: int) -> list[int]:
        """Seqs up to `last` of the events that concern any of these, in order; perhaps a few more, for names that are used twice."""
        found: set[int] = set()
        for key in keys:
            known = self._seqs.get(key)
            if known is not None:
                seqs = known.tolist()
                found.update(seqs[: bisect_right(seqs, last)])
        return sorted(found)

    def _forget(self, seq: int) -> None:
        kept = {key: seqs[bisect_right(seqs, seq) :] for key, seqs in self._seqs.items()}
        self._seqs = {key: seqs for key, seqs in kept.items() if seqs}
        self._entries = sum(map(len, self._seqs.values()))
        self.from_seq = seq


class Concerning:
    """A journal of which only what concerns some subjects is read: whoever filters for these finds the same in it, sooner."""

    def __init__(self, journal: Journal, places: Places, keys: Iterable[str], *, last: int, apart: int = APART) -> None:
        self._journal = journal
        self._places = places
        self._keys = frozenset(keys)
        self._last = last
        self._apart = apart

    def read(self, run_id: str, *, after_seq: int = 0, limit: int | None = None) -> Iterator[Envelope]:
        """Without a limit: what concerns them, in order. With one: exactly those events, as the journal does."""
        if limit is not None:
            yield from self._journal.read(run_id, after_seq=after_seq, limit=limit)
            return
        known_from = self._places.from_seq
        if after_seq < known_from:
            yield from self._journal.read(run_id, after_seq=after_seq, limit=max(0, min(known_from, self._last) - after_seq))
        seqs = self._places.of(self._keys, last=self._last)
        yield from read_at(self._journal, run_id, seqs[bisect_right(seqs, max(after_seq, known_from)) :], self._apart)

    def newest(self, run_id: str, before: int, count: int) -> tuple[list[Envelope], int]:
        """The last of what concerns them before a seq, in order, about so many; and the seq from which on that is everything."""
        seqs = self._places.of(self._keys, last=min(self._last, before - 1))[-count:]
        known_from = self._places.from_seq
        if seqs and len(seqs) == count:
            return list(read_at(self._journal, run_id, seqs, self._apart)), seqs[0]
        if seqs or before > known_from + 1:
            return list(read_at(self._journal, run_id, seqs, self._apart)), known_from + 1
        low = max(1, before - SCAN_STEP)
        return list(self._journal.read(run_id, after_seq=low - 1, limit=before - low)), low


def read_at(journal: Journal, run_id: str, seqs: Sequence[int], apart: int = APART) -> Iterator[Envelope]:
    """The events with these seqs, which are in order."""
    for first, last in _stretches(seqs, apart):
        wanted = set(seqs[bisect_right(seqs, first - 1) : bisect_right(seqs, last)])
        yield from (one for one in journal.read(run_id, after_seq=first - 1, limit=last - first + 1) if one.seq in wanted)


def _stretches(seqs: Sequence[int], apart: int) -> Iterator[tuple[int, int]]:
    """(first, last) of seqs that lie near each other."""
    if not seqs:
        return
    first = last = seqs[0]
    for seq in seqs[1:]:
        if seq - last > apart:
            yield first, last
            first = seq
        last = seq
    yield first, last
