"""What every journal promises."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immune.core.events import GENESIS, AgentEnrolled, Draft, RunEnded, RunStarted
from immune.errors import AppendConflictError, FencedError, InputError, WriterHeldError
from immune.ports import Journal

NOW = 1_767_225_600_000_000
HOSTILE = "'; DROP TABLE events; -- \x00 \u202e <script>"


def draft(n: int = 0, subject: str = "a-1", **named) -> Draft:
    return Draft(at_us=NOW + n, subject=subject, event=RunEnded(reason="done", ticks=n), **named)


def drafts(count: int) -> list[Draft]:
    return [draft(n) for n in range(count)]


def test_it_is_a_journal(journal):
    assert isinstance(journal, Journal)


def test_an_unknown_run_is_empty(journal):
    assert journal.head("r") == (0, GENESIS)
    assert list(journal.read("r")) == []
    assert journal.verify("r") == 0
    assert journal.runs() == []
    assert journal.load_snapshot("r", "state") is None


def test_what_was_appended_is_read_back_whole_and_in_order(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    first = journal.append("r", [draft(1, "a"), draft(2, HOSTILE)], expected_seq=0, epoch=epoch)
    second = journal.append("r", [draft(3, "ü", correlation_id="e1", causation_id="e2", actor="person:kim")], expected_seq=2, epoch=epoch)
    assert list(journal.read("r")) == [*first, *second]
    assert [envelope.seq for envelope in first + second] == [1, 2, 3]
    assert journal.head("r") == (3, second[0].hash)
    assert journal.verify("r") == 3


def test_bodies_come_back_as_the_bytes_that_were_hashed(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    started = RunStarted(version="0", epoch=epoch, period_us=1, policy_version="p", policy="[x]\n# ∞", source="test")
    (sealed,) = journal.append("r", [Draft(at_us=NOW, subject="r", event=started)], expected_seq=0, epoch=epoch)
    (read,) = journal.read("r")
    assert read.body == sealed.body
    assert read.computed_hash() == read.hash
    assert read.event() == started


def test_reading_starts_after_a_seq_and_stops_at_a_limit(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    journal.append("r", drafts(10), expected_seq=0, epoch=epoch)
    assert [envelope.seq for envelope in journal.read("r", after_seq=4, limit=3)] == [5, 6, 7]
    assert [envelope.seq for envelope in journal.read("r", after_seq=8, limit=30)] == [9, 10]
    assert list(journal.read("r", after_seq=10)) == []
    assert list(journal.read("r", limit=0)) == []


def test_reading_goes_on_while_events_are_appended(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    journal.append("r", drafts(3000), expected_seq=0, epoch=epoch)
    reading = journal.read("r")
    assert next(reading).seq == 1
    journal.append("r", drafts(1), expected_seq=3000, epoch=epoch)
    assert [envelope.seq for envelope in reading] == list(range(2, 3002))


def test_an_empty_append_writes_nothing(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    assert journal.append("r", [], expected_seq=0, epoch=epoch) == []
    assert journal.head("r") == (0, GENESIS)


def test_an_append_at_another_place_than_the_end_is_refused(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    journal.append("r", drafts(2), expected_seq=0, epoch=epoch)
    for believed in (0, 1, 3):
        with pytest.raises(AppendConflictError, match="expected_seq"):
            journal.append("r", drafts(1), expected_seq=believed, epoch=epoch)
    assert journal.head("r")[0] == journal.verify("r") == 2


def test_runs_have_chains_of_their_own(journal):
    for run, count in (("one", 2), ("two", 3)):
        epoch = journal.acquire(run, "daemon", NOW)
        journal.append(run, drafts(count), expected_seq=0, epoch=epoch)
    assert [(info.run_id, info.events, info.first_at_us, info.last_at_us) for info in journal.runs()] == [
        ("two", 3, NOW, NOW + 2),
        ("one", 2, NOW, NOW + 1),
    ]
    assert journal.runs()[1].head == journal.head("one")[1] != journal.head("two")[1]
    assert journal.verify("one") == 2


def test_equal_drafts_give_equal_heads_everywhere(journals):
    heads = set()
    for chunk in (1, 2, 7):
        journal = journals.fresh()
        epoch = journal.acquire("r", "daemon", NOW)
        for start in range(0, 14, chunk):
            journal.append("r", drafts(14)[start : start + chunk], expected_seq=start, epoch=epoch)
        heads.add(journal.head("r"))
    assert len(heads) == 1


def test_nobody_appends_without_being_the_writer(journal):
    with pytest.raises(FencedError):
        journal.append("r", drafts(1), expected_seq=0, epoch=1)
    epoch = journal.acquire("r", "daemon", NOW)
    with pytest.raises(FencedError):
        journal.append("other", drafts(1), expected_seq=0, epoch=epoch)
    with pytest.raises(FencedError):
        journal.append("r", drafts(1), expected_seq=0, epoch=epoch + 1)


def test_a_writer_that_was_overtaken_is_refused(journal):
    old = journal.acquire("r", "paused", NOW)
    journal.append("r", drafts(1), expected_seq=0, epoch=old)
    new = journal.acquire("r", "successor", NOW)
    assert new > old
    with pytest.raises(FencedError, match="successor"):
        journal.append("r", drafts(1), expected_seq=1, epoch=old)
    with pytest.raises(FencedError):
        journal.save_snapshot("r", 1, "state", b"old", epoch=old)
    journal.release("r", old)
    assert len(journal.append("r", drafts(1), expected_seq=1, epoch=new)) == 1


def test_a_writer_that_let_go_is_refused(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    journal.release("r", epoch)
    with pytest.raises(FencedError):
        journal.append("r", drafts(1), expected_seq=0, epoch=epoch)


def test_a_second_writer_is_refused_and_told_who_writes(journals):
    first = journals.fresh()
    second = journals.again(first)
    epoch = first.acquire("r", "daemon-7", NOW)
    for run in ("r", "another run"):
        with pytest.raises(WriterHeldError, match="daemon-7") as caught:
            second.acquire(run, "intruder", NOW)
        assert caught.value.way_out
        assert "2026-01-01" in caught.value.what
    first.append("r", drafts(1), expected_seq=0, epoch=epoch)
    assert [envelope.seq for envelope in second.read("r")] == [1]


@pytest.mark.fault("F57")
def test_whoever_takes_over_writes_and_the_one_before_is_fenced_off_in_every_run(journals):
    first = journals.fresh()
    second = journals.again(first)
    old = {run: first.acquire(run, "daemon-7", NOW) for run in ("r", "another run")}
    for run, epoch in old.items():
        first.append(run, drafts(2), expected_seq=0, epoch=epoch)
    new = second.acquire("r", "successor", NOW, take_over=True)
    assert new == old["r"] + 1
    for run, epoch in old.items():
        with pytest.raises(FencedError):
            first.append(run, drafts(1), expected_seq=2, epoch=epoch)
        with pytest.raises(FencedError):
            first.confirm(run, epoch)
        with pytest.raises(FencedError):
            first.save_snapshot(run, 1, "state", b"old", epoch=epoch)
        first.release(run, epoch)  # the loser's farewell takes nothing from the winner
    second.confirm("r", new)
    assert [one.seq for one in second.append("r", drafts(1), expected_seq=2, epoch=new)] == [3]
    with pytest.raises(WriterHeldError, match="successor"):
        first.acquire("r", "daemon-7", NOW)
    assert first.verify("r") == 3
    assert first.verify("another run") == 2


def test_taking_over_where_nobody_writes_is_coming_in(journal):
    epoch = journal.acquire("r", "daemon", NOW, take_over=True)
    assert len(journal.append("r", drafts(1), expected_seq=0, epoch=epoch)) == 1


@pytest.mark.parametrize("how", ["release", "close"])
def test_the_next_writer_comes_in_when_the_first_lets_go(journals, how):
    first = journals.fresh()
    second = journals.again(first)
    epoch = first.acquire("r", "daemon", NOW)
    first.append("r", drafts(2), expected_seq=0, epoch=epoch)
    if how == "release":
        first.release("r", epoch)
    else:
        first.close()
    later = second.acquire("r", "next", NOW)
    assert later == epoch + 1
    assert second.append("r", drafts(1), expected_seq=2, epoch=later)[0].seq == 3
    assert second.verify("r") == 3


def test_the_writer_of_two_runs_lets_go_with_the_last(journals):
    first = journals.fresh()
    second = journals.again(first)
    one, two = first.acquire("one", "daemon", NOW), first.acquire("two", "daemon", NOW)
    first.release("one", one)
    with pytest.raises(WriterHeldError):
        second.acquire("one", "next", NOW)
    first.release("two", two)
    assert second.acquire("one", "next", NOW) == one + 1


def test_an_event_that_cannot_be_stored_leaves_nothing_behind(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    for bad in (draft(0, "lone \ud800 surrogate"), draft(2**64)):
        with pytest.raises(InputError):
            journal.append("r", [draft(1), bad], expected_seq=0, epoch=epoch)
    assert journal.head("r") == (0, GENESIS)
    assert len(journal.append("r", drafts(1), expected_seq=0, epoch=epoch)) == 1


def test_the_newest_snapshot_of_a_name_is_loaded(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    journal.append("r", drafts(9), expected_seq=0, epoch=epoch)
    for seq in (3, 9, 5, 7, 1):
        journal.save_snapshot("r", seq, "state", b"\x00%d" % seq, epoch=epoch)
    journal.save_snapshot("r", 2, "baselines", b"b", epoch=epoch)
    assert journal.load_snapshot("r", "state") == (9, b"\x009")
    assert journal.load_snapshot("r", "baselines") == (2, b"b")
    journal.save_snapshot("r", 9, "state", b"again", epoch=epoch)
    assert journal.load_snapshot("r", "state") == (9, b"again")


def test_a_snapshot_of_events_to_come_is_refused(journal):
    epoch = journal.acquire("r", "daemon", NOW)
    with pytest.raises(AppendConflictError):
        journal.save_snapshot("r", 1, "state", b"", epoch=epoch)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DRAFTS = st.builds(
    Draft,
    at_us=st.integers(-(2**63), 2**63 - 1),
    subject=TEXTS,
    correlation_id=TEXTS,
    causation_id=TEXTS,
    actor=TEXTS,
    event=st.builds(AgentEnrolled, index=st.integers(0, 9), type=TEXTS, service=TEXTS),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(DRAFTS, max_size=4), max_size=5), after_seq=st.integers(0, 20))
def test_any_batches_are_read_back_as_one_gap_free_chain(journals, batches, after_seq):
    journal = journals.fresh()
    epoch = journal.acquire("r", "daemon", NOW)
    kept = []
    for batch in batches:
        kept += journal.append("r", batch, expected_seq=len(kept), epoch=epoch)
    assert list(journal.read("r")) == kept
    assert list(journal.read("r", after_seq=after_seq)) == kept[after_seq:]
    assert [envelope.event() for envelope in kept] == [one.event for batch in batches for one in batch]
    assert journal.verify("r") == len(kept)
    journal.close()
