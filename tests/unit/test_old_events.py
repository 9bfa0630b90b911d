"""What an older or a newer version wrote, in a journal on disk: the bytes stay as they were hashed, only the reading grows up."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest

from immune.core import events as ev
from immune.core.events import Draft
from immune.core.fold import fold
from immune.core.state import RunState
from immune.errors import SchemaTooNewError
from immune.stores.journal_sqlite import SqliteJournal

NOW = 1_767_225_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthOfOld(ev.Event):
    kind = "length"
    feet: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthOfToday(ev.Event):
    kind = "length"
    schema = 2
    metres: float
    basis: str = "measured"


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journal with one event of an old schema between two of today."""
    monkeypatch.setitem(ev.KINDS, "length", LengthOfOld)
    with SqliteJournal(tmp_path) as journal:
        epoch = journal.acquire("r", "old", NOW)
        enrolled = [Draft(at_us=NOW, subject=name, event=ev.AgentEnrolled(index=n, type="", service="")) for n, name in enumerate("ab")]
        journal.append("r", [enrolled[0], Draft(at_us=NOW, subject="a", event=LengthOfOld(feet=10.0)), enrolled[1]], expected_seq=0, epoch=epoch)
        monkeypatch.setitem(ev.KINDS, "length", LengthOfToday)
        yield journal


@pytest.mark.fault("F58")
def test_an_old_event_schema_is_read_as_todays_and_the_chain_still_holds(journal, monkeypatch):
    """F58."""
    monkeypatch.setitem(ev.UPCASTERS, ("length", 1), lambda body: {"metres": round(body["feet"] * 0.3048, 3)})
    old = list(journal.read("r"))[1]
    assert (old.schema, old.body) == (1, b'{"feet":10.0}')
    assert old.event() == LengthOfToday(metres=3.048)
    assert journal.verify("r") == 3
    assert sorted(fold(RunState(), journal.read("r")).agents) == ["a", "b"]


@pytest.mark.parametrize("column", ["schema = 7", "kind = 'of_tomorrow'"])
@pytest.mark.fault("F59")
def test_an_unknown_event_schema_is_refused_with_a_way_out_and_nothing_is_folded_past_it(journal, monkeypatch, column):
    """F59."""
    monkeypatch.setitem(ev.UPCASTERS, ("length", 1), lambda body: {"metres": 1.0})
    with closing(sqlite3.connect(journal.path)) as connection:
        connection.execute("DROP TRIGGER events_are_not_edited")
        connection.execute(f"UPDATE events SET {column} WHERE seq = 2")
        connection.commit()
    with pytest.raises(SchemaTooNewError, match="upgrade"):
        fold(RunState(), journal.read("r"))


def test_every_old_schema_of_every_kind_has_a_way_up():
    missing = [(kind, schema) for kind, cls in ev.KINDS.items() for schema in range(1, cls.schema) if (kind, schema) not in ev.UPCASTERS]
    assert missing == []
