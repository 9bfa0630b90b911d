"""Samples that agents report themselves: parsed at the door, queued, handed over at the next tick.

The queue is bounded and the account exact: offered = accepted + rejected, accepted = delivered + waiting. Unknown ids
are enrolled, as many as the policy allows and as fast; what does not fit is turned away with a reason, never silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from immune.core.policy import LimitsPolicy
from immune.core.vitals import MISSING, AgentIdentity, SampleBatch, task_key
from immune.errors import EnrolmentRefusedError
from immune.ports import Bound, Desk
from immune.sources.otlp import OtlpTranslator
from immune.sources.parse import ParsedRow, Rejection, RowParser, show

US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """One sample that was not taken; `index` counts from 0 in its request."""

    index: int
    field: str
    value: str
    reason: str


@dataclass(slots=True, kw_only=True)
class IngestCounts:
    """The account since the start, in samples; `rejected` by reason."""

    offered: int = 0
    accepted: int = 0
    delivered: int = 0
    enrolled: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


class IngestSource:
    """An `AgentSource` that is filled from outside by `offer`, from the same loop that calls `collect`."""

    name = "ingest"

    def __init__(self, limits: LimitsPolicy) -> None:
        self.limits = limits
        self.counts = IngestCounts()
        self.otlp = OtlpTranslator()
        self._desk: Desk | None = None
        self._parser: RowParser | None = None
        self._queue: list[SampleBatch] = []
        self._waiting = 0
        self._last_given_us: dict[int, int] = {}
        self._may_enroll = float(limits.enrolments_at_once)
        self._refilled_us: int | None = None

    def open(self, desk: Desk) -> None:
        """Enroll into this desk's roster from now on."""
        self._desk = desk
        self._parser = RowParser(desk.schema)

    async def collect(self, now_us: int) -> SampleBatch:
        """Everything that waits, in order of time."""
        width = len(self._desk.schema) if self._desk else len(SampleBatch.empty().values.T)
        batch = SampleBatch.concatenate(self._queue, width)
        self._queue = []
        self._waiting = 0
        self.counts.delivered += len(batch)
        if len(batch) and bool((batch.at_us[1:] < batch.at_us[:-1]).any()):
            batch = batch.take(np.argsort(batch.at_us, kind="stable"))
        return batch

    async def close(self) -> None:
        """Nothing to let go of; what still waits is not scored any more."""

    def bounds(self) -> Sequence[Bound]:
        """The queue, how many strangers may still come in at once, and what OTLP leaves in memory."""
        lost, limit = self.counts.rejected, self.limits
        return (
            Bound(name="ingest.queue_samples", size=self._waiting, limit=limit.ingest_queue_samples, lost=lost.get("queue_full", 0)),
            Bound(
                name="ingest.enrolments",
                size=limit.enrolments_at_once - int(self._may_enroll),
                limit=limit.enrolments_at_once,
                lost=lost.get("enrolling_too_fast", 0) + lost.get("fleet_full", 0),
            ),
            *self.otlp.bounds(),
        )

    @property
    def waiting(self) -> int:
        """Samples in the queue."""
        return self._waiting

    @property
    def room(self) -> int:
        """Samples that still fit into the queue."""
        return self.limits.ingest_queue_samples - self._waiting

    def offer(self, rows: Sequence[object], now_us: int, *, first_index: int = 0) -> list[TurnedAway]:
        """Take these samples, fields as in replay files, at most a few hundred at a time; what was turned away.

        A sample without a time is of now. `first_index` is the index of the first row in its request.
        """
        self._refill(now_us)
        taken: list[tuple[int, int, ParsedRow]] = []
        away: list[TurnedAway] = []
        room = self.room
        for index, row in enumerate(rows, first_index):
            found = self._take(row, now_us, len(taken) < room)
            if isinstance(found, Rejection):
                away.append(TurnedAway(index=index, field=found.field, value=found.value, reason=found.reason))
                self.counts.rejected[found.reason] = self.counts.rejected.get(found.reason, 0) + 1
            else:
                taken.append(found)
        self.counts.offered += len(rows)
        self.counts.accepted += len(taken)
        if taken:
            self._queue.append(self._batch(taken))
            self._waiting += len(taken)
        return away

    def _take(self, row: object, now_us: int, fits: bool) -> tuple[int, int, ParsedRow] | Rejection:
        if self._parser is None:
            return Rejection(field="", value="", reason="not_open")
        if not isinstance(row, Mapping):
            return Rejection(field="", value=show(row), reason="not_an_object")
        parsed = self._parser.parse_sample(row)
        if isinstance(parsed, Rejection):
            return parsed
        if parsed.at_us is not None and parsed.at_us > now_us + round(self.limits.max_clock_skew_s * US):
            return Rejection(field="at", value=show(row.get("at")), reason="future")
        if not fits:
            return Rejection(field="", value="", reason="queue_full")
        index = self._enroll(parsed)
        if isinstance(index, Rejection):
            return index
        return index, self._time_of(index, parsed, now_us), parsed

    def _time_of(self, index: int, parsed: ParsedRow, now_us: int) -> int:
        if parsed.at_us is not None:
            return parsed.at_us
        # several in one request without a time are one after the other, not one sample again and again
        at_us = max(now_us, self._last_given_us.get(index, 0) + 1)
        self._last_given_us[index] = at_us
        return at_us

    def _enroll(self, parsed: ParsedRow) -> int | Rejection:
        roster = self._desk.roster if self._desk else None
        if roster is None:
            return Rejection(field="", value="", reason="not_open")
        known = roster.find(parsed.agent_id)
        if known is not None:
            return known
        if self._may_enroll < 1:
            return Rejection(field="agent", value=show(parsed.agent_id), reason="enrolling_too_fast")
        try:
            index = roster.enroll(AgentIdentity(agent_id=parsed.agent_id, type=parsed.type, service=parsed.service))
        except EnrolmentRefusedError:
            return Rejection(field="agent", value=show(parsed.agent_id), reason="fleet_full")
        self._may_enroll -= 1
        self.counts.enrolled += 1
        return index

    def _refill(self, now_us: int) -> None:
        passed_us = now_us - (now_us if self._refilled_us is None else self._refilled_us)
        self._may_enroll = min(self.limits.enrolments_at_once, self._may_enroll + max(0, passed_us) / US * self.limits.enrolments_per_s)
        self._refilled_us = now_us

    def _batch(self, taken: Sequence[tuple[int, int, ParsedRow]]) -> SampleBatch:
        code = self._desk.lexicon.code if self._desk else lambda _: MISSING
        batch = SampleBatch.blank(len(taken), len(taken[0][2].values))
        batch.agent[:] = [index for index, _, _ in taken]
        batch.at_us[:] = [at_us for _, at_us, _ in taken]
        batch.values[:] = [row.values for _, _, row in taken]
        batch.step[:] = [row.step for _, _, row in taken]
        batch.status[:] = [int(row.status) for _, _, row in taken]
        batch.task_id[:] = [task_key(row.task_id) for _, _, row in taken]
        batch.codes[:] = [[code(word) for word in row.context] for _, _, row in taken]
        return batch
