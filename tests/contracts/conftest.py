"""Every adapter of a port, opened twice over the same content: what one suite asks of all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from immune.ports import Journal, Telemetry
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.memory import MemoryJournal, MemoryTelemetry
from immune.stores.telemetry_sqlite import SqliteTelemetry


@dataclass(frozen=True, kw_only=True)
class JournalKind:
    """``fresh()`` is an empty journal, ``again(journal)`` a second handle on the same content."""

    fresh: Callable[[], Journal]
    again: Callable[[Journal], Journal]


@pytest.fixture(params=["memory", "sqlite"])
def journals(request, tmp_path) -> Iterator[JournalKind]:
    opened: list[Journal] = []

    def keep(journal: Journal) -> Journal:
        opened.append(journal)
        return journal

    number = itertools.count()
    if request.param == "memory":
        yield JournalKind(fresh=MemoryJournal, again=lambda journal: journal.another())
    else:
        yield JournalKind(
            fresh=lambda: keep(SqliteJournal(tmp_path / f"j{next(number)}")), again=lambda journal: keep(SqliteJournal(journal.path.parent))
        )
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(journals) -> Journal:
    return journals.fresh()


@pytest.fixture(params=["memory", "sqlite"])
def fresh_telemetry(request, tmp_path) -> Iterator[Callable[[], Telemetry]]:
    opened: list[Telemetry] = []
    number = itertools.count()

    def fresh() -> Telemetry:
        opened.append(MemoryTelemetry() if request.param == "memory" else SqliteTelemetry(tmp_path / f"t{next(number)}"))
        return opened[-1]

    yield fresh
    for telemetry in opened:
        telemetry.close()


@pytest.fixture
def telemetry(fresh_telemetry) -> Telemetry:
    return fresh_telemetry()
