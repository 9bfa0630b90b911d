"""A run that was recorded elsewhere is taken over byte for byte, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from immune.core.acts import SicknessReported
from immune.core.events import GENESIS, Draft, seal
from immune.errors import JournalBrokenError, RefusedError
from immune.stores.journal_sqlite import SqliteJournal

ENVELOPES = seal("r", [Draft(at_us=n, subject="a", event=SicknessReported(reason=str(n))) for n in range(20)], 0, GENESIS)


def test_a_run_taken_over_is_the_same_and_can_be_gone_on_with(tmp_path):
    with SqliteJournal(tmp_path) as journal:
        assert journal.adopt("r", ENVELOPES, "test", 0) == 20
        assert list(journal.read("r")) == ENVELOPES
        assert journal.verify("r") == 20
        epoch = journal.acquire("r", "test", 0)
        journal.append("r", [Draft(at_us=99, subject="a", event=SicknessReported(reason="more"))], expected_seq=20, epoch=epoch)
        assert journal.verify("r") == 21


@pytest.mark.parametrize("place", [0, 7, 19])
def test_a_broken_chain_is_not_taken_over(tmp_path, place):
    altered = [*ENVELOPES[:place], replace(ENVELOPES[place], subject="b"), *ENVELOPES[place + 1 :]]
    with SqliteJournal(tmp_path) as journal:
        with pytest.raises(JournalBrokenError):
            journal.adopt("r", altered, "test", 0)
        assert journal.runs() == []


def test_a_run_that_is_here_is_not_written_over(tmp_path):
    with SqliteJournal(tmp_path) as journal:
        journal.adopt("r", ENVELOPES[:5], "test", 0)
        with pytest.raises(RefusedError):
            journal.adopt("r", ENVELOPES, "test", 0)
        assert journal.head("r")[0] == 5
