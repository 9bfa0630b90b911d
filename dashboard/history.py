"""Any moment of a run: states kept at intervals, and the few events from there folded again."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from dashboard.places import Places
from immune.core.events import Envelope, RunStarted
from immune.core.fold import fold
from immune.core.state import RunState

EVERY = 256
KEPT_MAX = 64

Read = Callable[[int, int], Iterable[Envelope]]
"""(after seq, how many) -> events of the run, in order."""


class History:
    """States of one run at intervals. When `KEPT_MAX` are kept, every other one goes and the interval doubles.

    `times_us` holds the time of every event, by seq - 1: what a slider over time needs. `places` knows where something is told of.
    """

    def __init__(self) -> None:
        self.every = EVERY
        self.times_us = array("q")
        self.places = Places()
        self.starts = array("q")
        """Seqs of the events that name a policy: the run's start, and every start of a daemon that took it over."""
        self._seqs: list[int] = [0]
        self._states: list[RunState] = [RunState()]

    def note(self, state: RunState, envelopes: Sequence[Envelope]) -> None:
        """Remember what was just folded into `state`; batches should not be much longer than `EVERY`."""
        self.times_us.extend(envelope.at_us for envelope in envelopes)
        self.places.note(envelopes)
        self.starts.extend(one.seq for one in envelopes if one.kind == RunStarted.kind)
        if state.seq - self._seqs[-1] >= self.every:
            self._seqs.append(state.seq)
            self._states.append(state)
        if len(self._seqs) > KEPT_MAX:
            self.every *= 2
            self._seqs = self._seqs[::2]
            self._states = self._states[::2]

    def seq_at(self, at_us: int) -> int:
        """The last seq that had happened by a time; 0 before the first event."""
        return bisect_right(self.times_us, at_us)

    def state_at(self, seq: int, read: Read) -> RunState:
        """The state right after a seq."""
        place = bisect_right(self._seqs, seq) - 1
        state = self._states[place]
        return fold(state, read(state.seq, seq - state.seq)) if seq > state.seq else state


def in_batches(envelopes: Iterable[Envelope], size: int = EVERY) -> Iterator[list[Envelope]]:
    """The same events, `size` at a time."""
    batch: list[Envelope] = []
    for envelope in envelopes:
        batch.append(envelope)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
