"""A snapshot of the state stands for the fold of what came before it, or it is not used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from immune.core import snapshot
from immune.core.events import GENESIS, follow
from immune.core.fold import canonical_hash, fold
from immune.core.snapshot import freeze, thaw
from immune.core.state import RunState
from immune.errors import JournalBrokenError
from immune.stores.archive import read_archive
from immune.stores.memory import MemoryJournal
from tests.doubles import START_US, US, World, engine_over, live

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "journal-0.1.jsonl.gz"
ENVELOPES = list(read_archive(GOLDEN))


@pytest.mark.parametrize("keep", [0, 3])
def test_a_snapshot_at_any_seq_and_the_tail_are_the_whole_fold(keep):
    """I4."""
    whole = canonical_hash(fold(RunState(keep=keep), ENVELOPES))
    state = RunState(keep=keep)
    for k, envelope in enumerate(ENVELOPES, 1):
        state = fold(state, [envelope])
        if k % 2 == keep % 2:
            continue  # one of the two looks at every odd seq, the other at every even one
        again = thaw(freeze(state))
        assert again == state
        assert list(again.plans) == list(state.plans), "the order of things is part of a state"
        if k % 10 < 2:
            assert canonical_hash(fold(again, ENVELOPES[k:])) == whole


def test_equal_states_have_equal_bytes():
    assert freeze(fold(RunState(), ENVELOPES)) == freeze(fold(fold(RunState(), ENVELOPES[:50]), ENVELOPES[50:]))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"made_by": "x", "state": {}}'])
def test_what_is_no_snapshot_is_not_used(content):
    assert thaw(content) is None


def test_a_snapshot_of_other_rules_or_another_shape_is_not_used(monkeypatch):
    content = freeze(fold(RunState(), ENVELOPES))
    document = json.loads(content)
    del document["state"]["seq"]
    document["state"]["agents"] = [1]
    assert thaw(json.dumps(document).encode()) is None
    monkeypatch.setattr(snapshot, "RULES", snapshot.RULES + 1)
    snapshot.made_by.cache_clear()
    assert thaw(content) is None
    monkeypatch.undo()
    snapshot.made_by.cache_clear()
    assert thaw(content) is not None


def test_a_chain_is_followed_to_the_first_event_that_does_not_hold():
    """I8."""
    assert list(follow(ENVELOPES, 0, GENESIS)) == ENVELOPES
    for harmed in (
        [*ENVELOPES[:9], replace(ENVELOPES[9], actor="person:eve"), *ENVELOPES[10:]],
        [*ENVELOPES[:9], *ENVELOPES[10:]],
        [*ENVELOPES[:9], ENVELOPES[10], ENVELOPES[9], *ENVELOPES[11:]],
        [*ENVELOPES[:10], ENVELOPES[9], *ENVELOPES[10:]],
    ):
        with pytest.raises(JournalBrokenError) as caught:
            list(follow(harmed, 0, GENESIS))
        assert caught.value.seq in {10, 11}


class Counting(MemoryJournal):
    """Knows from where it was read."""

    def __init__(self):
        super().__init__()
        self.read_from = []

    def read(self, run_id, *, after_seq=0, limit=None):
        if limit is None:
            self.read_from.append(after_seq)
        return super().read(run_id, after_seq=after_seq, limit=limit)


def a_life():
    world = World()
    world.patients[0].ratio = 8.0
    journal = Counting()
    engine = live(world, ticks=60, journal=journal)
    engine.save_state()
    journal.release("r-1", engine._epoch)
    return world, journal, engine


def restarted(world, journal):
    journal.read_from.clear()
    engine = engine_over(world, journal=journal)
    engine.open(START_US + 100 * US)
    return engine


def test_a_restart_reads_only_what_came_after_the_snapshot():
    world, journal, engine = a_life()
    again = restarted(world, journal)
    assert journal.read_from == [engine.state.seq]
    assert canonical_hash(again.state) == canonical_hash(engine.state)
    assert again.broken is None


def test_a_snapshot_that_does_not_continue_into_this_journal_is_not_used():
    """An older copy was put back, or the snapshot is of another chain."""
    world, journal, engine = a_life()
    chain = journal._shelf.chains["r-1"]
    del chain.envelopes[-3:]
    again = restarted(world, journal)
    assert journal.read_from == [0]
    assert again.state.seq == engine.state.seq - 3
    chain.snapshots["state"][again.state.seq] = chain.snapshots["state"].pop(engine.state.seq)[:-40] + b"}}"
    journal.release("r-1", again._epoch)
    assert restarted(world, journal).state.seq == again.state.seq


def test_a_tail_that_was_altered_is_said_and_what_it_contains_is_enforced_all_the_same():
    world, journal, engine = a_life()
    journal.release("r-1", engine._epoch)
    chain = journal._shelf.chains["r-1"]
    chain.snapshots["state"] = {}
    chain.envelopes[4] = replace(chain.envelopes[4], actor="person:eve")
    again = restarted(world, journal)
    assert again.broken.seq == 5
    assert again.state.agents.keys() == engine.state.agents.keys()
    assert again.state.seq == engine.state.seq
