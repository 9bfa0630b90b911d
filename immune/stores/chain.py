"""Walking a run's hash chain over plain rows, and who may write to it: the same for every journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from immune.core.events import Envelope, chain_hash
from immune.core.forms import maker
from immune.errors import AppendConflictError, FencedError, JournalBrokenError

Row = tuple[int, int, str, int, str, str, str, str, bytes, str, str]
"""seq, at_us, kind, schema, subject, correlation_id, causation_id, actor, body, prev_hash, hash"""
envelope_of: Callable[..., Envelope] = maker(Envelope)
"""The envelope of stored columns: ``envelope_of(run_id, *row)``."""


def row_of(envelope: Envelope) -> Row:
    """The stored columns of an envelope, its run apart."""
    return (
        envelope.seq,
        envelope.at_us,
        envelope.kind,
        envelope.schema,
        envelope.subject,
        envelope.correlation_id,
        envelope.causation_id,
        envelope.actor,
        envelope.body,
        envelope.prev_hash,
        envelope.hash,
    )


def follow(run_id: str, rows: Iterable[Row], seq: int, prev_hash: str) -> tuple[int, str]:
    """Check rows that ought to come right after (seq, prev_hash); the new end of the chain.

    Raises JournalBrokenError naming the first seq that is missing, altered or out of place.
    """
    for row in rows:
        if row[0] != seq + 1:
            raise JournalBrokenError(f"event {seq + 1} is missing", run_id=run_id, seq=seq + 1)
        seq += 1
        if row[9] != prev_hash:
            raise JournalBrokenError("the event does not follow the one before it", run_id=run_id, seq=seq)
        try:
            computed = chain_hash(prev_hash, run_id, *row[:9])
        except (AttributeError, TypeError, ValueError):  # a column that no longer holds text, a number or bytes
            computed = ""
        if row[10] != computed:
            raise JournalBrokenError("the event was altered after it was written", run_id=run_id, seq=seq)
        prev_hash = computed
    return seq, prev_hash


def check_end(run_id: str, found: tuple[int, str], recorded: tuple[int, str]) -> int:
    """Compare where the chain ends with where the journal says it ended last; the number of events.

    Raises JournalBrokenError for a chain that was cut short, or made longer by someone else.
    """
    (seq, own_hash), (recorded_seq, recorded_hash) = found, recorded
    if seq < recorded_seq:
        raise JournalBrokenError(f"the journal was cut: it once had {recorded_seq} events", run_id=run_id, seq=seq + 1)
    if seq > recorded_seq:
        raise JournalBrokenError("the event was not written by this journal", run_id=run_id, seq=recorded_seq + 1)
    if own_hash != recorded_hash:
        raise JournalBrokenError("the last event is not the one that was written", run_id=run_id, seq=seq)
    return seq


def check_writer(run_id: str, epoch: int, *, current: int, held: int | None, holder: str) -> None:
    """Raises FencedError unless `epoch` is the run's current one and this handle still holds it."""
    if epoch == current == held:
        return
    newer = f"{holder} took over with epoch {current}" if epoch < current else f"epoch {epoch} is not being held"
    raise FencedError(
        f"this writer may not write to run {run_id} any more: {newer}", field="epoch", value=epoch, way_out="stop this one, or acquire the run again"
    )


def check_expected(run_id: str, seq: int, expected_seq: int) -> None:
    """Raises AppendConflictError unless the journal ends where the caller believes."""
    if seq != expected_seq:
        raise AppendConflictError(
            f"run {run_id} is at seq {seq}", field="expected_seq", value=expected_seq, way_out="read what was appended meanwhile, and decide again"
        )


def check_reached(run_id: str, seq: int, head_seq: int) -> None:
    """Raises AppendConflictError for a snapshot of events that are not in the journal."""
    if not 0 <= seq <= head_seq:
        raise AppendConflictError(
            f"a snapshot stands for events that are there, and run {run_id} is at seq {head_seq}", field="seq", value=seq, way_out="append them first"
        )
