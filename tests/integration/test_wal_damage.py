"""F4, F5 in the write-ahead log: cut or flipped anywhere in its last frames, the journal is a prefix that holds, and it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from immune.core.events import Draft, RunEnded
from immune.errors import JournalBrokenError
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.witness import Witness, compare

NOW = 1_767_225_600_000_000
APPENDS = 6
HEADER, FRAME = 32, 24 + 4096
EDGES = (0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 25, 100, 2048, 4095, 4096, 4119)
"""Offsets within a frame: its header's fields (page, size, salts, checksums) and its page."""


class Log:
    """A journal of one event per append, with its log as a crash would leave it, and what was durable after each append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with SqliteJournal(folder / "data") as journal:
            epoch = journal.acquire("r", "daemon", NOW)
            log, ends, witness = folder / "data" / "journal.db-wal", [], Witness(folder / "witness.log")
            for seq in range(APPENDS):
                journal.append("r", [Draft(at_us=NOW, subject="a", event=RunEnded(reason="x" * 300, ticks=seq))], expected_seq=seq, epoch=epoch)
                ends.append(log.stat().st_size)
                witness.note(NOW, "r", *journal.head("r"), "running")
            self.database, self.log = (folder / "data" / "journal.db").read_bytes(), log.read_bytes()
            self.hashes = [envelope.hash for envelope in journal.read("r")]
        self.ends, self.witness, self.opened = ends, witness, 0

    def reopened(self, log: bytes, *, go_on: bool = True) -> int:
        """Open the journal over a damaged log, check everything that must hold, append once; how many events had survived."""
        self.opened += 1
        copy = self.folder / f"copy-{self.opened}"
        copy.mkdir()
        (copy / "journal.db").write_bytes(self.database)
        (copy / "journal.db-wal").write_bytes(log)
        with SqliteJournal(copy) as journal:
            survived = journal.verify("r")
            assert [envelope.hash for envelope in journal.read("r")] == self.hashes[:survived], "a prefix of what was appended"
            self._is_told(journal, survived)
            if go_on:
                epoch = journal.acquire("r", "next", NOW)
                (fresh,) = journal.append(
                    "r", [Draft(at_us=NOW, subject="b", event=RunEnded(reason="", ticks=0))], expected_seq=survived, epoch=epoch
                )
                assert journal.verify("r") == fresh.seq == survived + 1
            journal._connection.execute("PRAGMA synchronous = OFF")  # what follows is thrown away
        for path in copy.iterdir():
            path.unlink()
        return survived

    def _is_told(self, journal: SqliteJournal, survived: int) -> None:
        if survived == APPENDS:
            compare(journal, "r", self.witness.sightings("r"))
            return
        with pytest.raises(JournalBrokenError, match="cut") as told:
            compare(journal, "r", self.witness.sightings("r"))
        assert told.value.seq == survived + 1

    def whole_before(self, offset: int) -> int:
        """Appends whose frames all lie before an offset of the log."""
        return sum(end <= offset for end in self.ends)


@pytest.fixture
def log(tmp_path) -> Log:
    return Log(tmp_path)


def last_frames(log: Log, count: int = 2) -> list[int]:
    frames = (len(log.log) - HEADER) // FRAME
    assert (len(log.log) - HEADER) % FRAME == 0
    return [HEADER + FRAME * n for n in range(frames - count, frames)]


def check(log: Log, offset: int, harm: str, *, go_on: bool = True) -> None:
    damaged = bytearray(log.log)
    if harm == "cut":
        del damaged[offset:]
    else:
        damaged[offset] ^= 0x41
    survived = log.reopened(bytes(damaged), go_on=go_on)
    assert survived >= log.whole_before(offset), f"{harm} at {offset}: an event acknowledged before it is gone"
    assert survived < APPENDS or harm == "flipped", f"cut at {offset}: where did the last one come from?"


def test_each_append_is_frames_of_its_own_and_a_whole_log_loses_nothing(log):
    assert log.ends == sorted(set(log.ends))
    assert log.reopened(log.log) == APPENDS


@pytest.mark.parametrize("harm", ["cut", "flipped"])
@pytest.mark.fault("F4")
def test_a_log_damaged_at_the_edges_of_its_last_frames_loses_nothing_acknowledged_before(log, harm):
    """F4, F5."""
    for start in last_frames(log):
        for edge in EDGES:
            check(log, start + edge, harm)


@pytest.mark.fault("F5")
def test_a_flipped_frame_is_never_taken_for_an_event(log):
    """F5: the log's own checksums, and the chain behind them."""
    start = log.ends[-2]
    flipped = [log.log[:at] + bytes([log.log[at] ^ 1]) + log.log[at + 1 :] for at in range(start + 30, start + 4000, 331)]
    assert {log.reopened(one) for one in flipped} == {APPENDS - 1}


@pytest.mark.parametrize("header_byte", [0, 8, 12, 16, 24, 31])
def test_a_damaged_head_of_the_log_leaves_what_was_in_the_file(log, header_byte):
    damaged = bytearray(log.log)
    damaged[header_byte] ^= 0x41
    (log.folder / "broken").mkdir()
    (log.folder / "broken" / "journal.db").write_bytes(log.database)
    (log.folder / "broken" / "journal.db-wal").write_bytes(damaged)
    with SqliteJournal(log.folder / "broken") as journal:
        survived = journal.verify("r")
        assert survived in {0, APPENDS}
        log._is_told(journal, survived)


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut", "flipped"])
@pytest.mark.parametrize("part", range(8))
@pytest.mark.fault("F4")
def test_a_log_damaged_at_every_offset_of_its_last_two_frames(log, harm, part):
    """F4, F5."""
    start = last_frames(log)[0]
    for offset in range(start + part, len(log.log), 8):
        check(log, offset, harm, go_on=False)
