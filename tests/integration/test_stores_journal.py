"""The journal's file against tampering, crashes, full disks and second processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from immune.core.events import Draft, RunEnded
from immune.errors import FencedError, InputError, JournalBrokenError, RefusedError, SchemaTooNewError, StoreUnavailableError, WriterHeldError
from immune.stores import journal_sqlite, telemetry_sqlite
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.lock import LOCK_NAME
from immune.stores.telemetry_sqlite import SqliteTelemetry

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_767_225_600_000_000
EVENTS = 20


def drafts(count: int) -> list[Draft]:
    return [Draft(at_us=NOW + n, subject=f"agent-{n}", actor="system", event=RunEnded(reason="x" * 40, ticks=n)) for n in range(count)]


@pytest.fixture
def data_dir(tmp_path) -> Path:
    """A data directory with a journal of one run of twenty events, closed."""
    with SqliteJournal(tmp_path / "data") as journal:
        epoch = journal.acquire("r", "daemon", NOW)
        journal.append("r", drafts(EVENTS), expected_seq=0, epoch=epoch)
    return tmp_path / "data"


def tamper(data_dir: Path, *statements: str) -> None:
    """Edit the file behind the journal's back, with its triggers out of the way."""
    with closing(sqlite3.connect(data_dir / "journal.db")) as connection:
        connection.execute("DROP TRIGGER events_are_not_edited")
        connection.execute("DROP TRIGGER events_are_not_deleted")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def broken_at(data_dir: Path) -> int:
    with SqliteJournal.open_read_only(data_dir) as journal, pytest.raises(JournalBrokenError) as caught:
        journal.verify("r")
    assert caught.value.run_id == "r"
    return caught.value.seq


COLUMNS = {
    "at_us": "at_us + 1",
    "kind": "'agent_enrolled'",
    "schema": "2",
    "subject": "'agent-x'",
    "correlation_id": "'e1'",
    "causation_id": "'e1'",
    "actor": "'person:eve'",
    "body": "CAST('{}' AS BLOB)",
    "prev_hash": "hash",
    "hash": "prev_hash",
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("seq", [1, 7, EVENTS])
def test_an_edited_column_is_found_at_its_seq(data_dir, column, seq):
    tamper(data_dir, f"UPDATE events SET {column} = {COLUMNS[column]} WHERE seq = {seq}")
    assert broken_at(data_dir) == seq


@pytest.mark.parametrize("value", ["NULL", "'text'", "7", "x'ff'"])
@pytest.mark.parametrize("column", ["body", "subject", "hash", "at_us"])
def test_a_column_of_another_type_is_found_and_not_a_crash(data_dir, column, value):
    tamper(
        data_dir,
        "CREATE TABLE loose AS SELECT * FROM events",
        "DROP TABLE events",
        "ALTER TABLE loose RENAME TO events",
        f"UPDATE events SET {column} = {value} WHERE seq = 7",
    )
    assert broken_at(data_dir) == 7


def test_text_that_is_no_text_is_found_at_its_seq(data_dir):
    tamper(data_dir, "UPDATE events SET subject = CAST(x'c3' AS TEXT) WHERE seq = 9")
    assert broken_at(data_dir) == 9


@pytest.mark.parametrize("gone", [1, 7, EVENTS])
def test_a_deleted_event_is_found_at_its_seq(data_dir, gone):
    tamper(data_dir, f"DELETE FROM events WHERE seq = {gone}")
    assert broken_at(data_dir) == gone


def test_a_journal_cut_at_its_end_is_found(data_dir):
    tamper(data_dir, "DELETE FROM events WHERE seq > 15")
    assert broken_at(data_dir) == 16


def test_swapped_events_are_found(data_dir):
    tamper(
        data_dir,
        "UPDATE events SET seq = -1 WHERE seq = 7",
        "UPDATE events SET seq = 7 WHERE seq = 12",
        "UPDATE events SET seq = 12 WHERE seq = -1",
    )
    assert broken_at(data_dir) == 7


@pytest.mark.parametrize(("seq", "found"), [(8, 8), (EVENTS + 1, EVENTS + 1), (0, 1), (-3, 1)])
def test_an_inserted_event_is_found(data_dir, seq, found):
    shifts = [f"UPDATE events SET seq = {n + 1} WHERE seq = {n}" for n in range(EVENTS, 7, -1)] if seq == 8 else []
    copied = "at_us, kind, schema, subject, correlation_id, causation_id, actor, body, prev_hash, hash"
    tamper(data_dir, *shifts, f"INSERT INTO events (run_id, seq, {copied}) SELECT run_id, {seq}, {copied} FROM events WHERE seq = 7")
    assert broken_at(data_dir) == found


def test_an_event_appended_with_a_good_hash_by_someone_else_is_found(data_dir):
    with SqliteJournal(data_dir) as journal:
        epoch = journal.acquire("r", "daemon", NOW)
        journal.append("r", drafts(1), expected_seq=EVENTS, epoch=epoch)
    tamper(data_dir, f"UPDATE runs SET events = {EVENTS}, head = (SELECT hash FROM events WHERE seq = {EVENTS})")
    assert broken_at(data_dir) == EVENTS + 1


def test_a_rewritten_tail_is_found_by_the_recorded_head(data_dir):
    with SqliteJournal(data_dir.parent / "forged") as forger:
        epoch = forger.acquire("r", "eve", NOW)
        forger.append("r", [*drafts(EVENTS - 1), Draft(at_us=NOW, subject="eve", event=RunEnded(reason="", ticks=0))], expected_seq=0, epoch=epoch)
        (forged,) = forger.read("r", after_seq=EVENTS - 1)
    body = forged.body.hex()
    tamper(data_dir, f"UPDATE events SET at_us = {NOW}, subject = 'eve', body = x'{body}', hash = '{forged.hash}' WHERE seq = {EVENTS}")
    assert broken_at(data_dir) == EVENTS


@pytest.mark.fault("F5")
def test_a_flipped_byte_in_the_file_is_found(data_dir):
    """F5."""
    path = data_dir / "journal.db"
    content = bytearray(path.read_bytes())
    content[content.index(b"agent-11")] ^= 0x20
    path.write_bytes(content)
    assert broken_at(data_dir) == 12


def test_triggers_refuse_edits_and_deletions(data_dir):
    with closing(sqlite3.connect(data_dir / "journal.db")) as connection:
        for statement in ("UPDATE events SET actor = 'eve'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(statement)


def test_the_data_directory_is_its_owners_alone(tmp_path):
    with SqliteJournal(tmp_path / "deep" / "data") as journal:
        assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("store", [SqliteJournal, SqliteTelemetry])
class TestFilesThatCannotBeUsed:
    def file(self, store) -> str:
        return journal_sqlite.FILE_NAME if store is SqliteJournal else telemetry_sqlite.FILE_NAME

    def test_a_newer_format_is_refused_and_left_alone(self, store, tmp_path):
        store(tmp_path).close()
        with closing(sqlite3.connect(tmp_path / self.file(store))) as connection:
            connection.execute("PRAGMA user_version = 99")
        for open_it in (store, store.open_read_only):
            with pytest.raises(SchemaTooNewError, match="upgrade") as caught:
                open_it(tmp_path)
            assert caught.value.exit_code == 2

    @pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 100, b"SQLite format 3\x00" + b"\xff" * 4000])
    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, store, tmp_path, content):
        path = tmp_path / self.file(store)
        path.write_bytes(content)
        for open_it in (store, store.open_read_only):
            with pytest.raises(StoreUnavailableError) as caught:
                open_it(tmp_path)
            assert caught.value.way_out
        assert path.read_bytes() == content

    def test_a_database_of_something_else_is_refused_and_left_alone(self, store, tmp_path):
        path = tmp_path / self.file(store)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE recipes (name TEXT)")
        content = path.read_bytes()
        with pytest.raises(StoreUnavailableError, match="not an immune"):
            store(tmp_path)
        assert path.read_bytes()[28:] == content[28:]  # but for a change counter, opening left it as it was

    def test_a_data_directory_that_is_a_file_is_refused(self, store, tmp_path):
        (tmp_path / "data").write_text("")
        with pytest.raises(StoreUnavailableError, match="--data-dir"):
            store(tmp_path / "data")

    def test_a_data_directory_without_rights_is_refused(self, store, tmp_path):
        """F7; root may write anywhere but into the kernel's own file system."""
        with pytest.raises(StoreUnavailableError, match="--data-dir"):
            store(Path("/proc") / "immune")

    def test_reading_where_nothing_was_written_is_refused(self, store, tmp_path):
        with pytest.raises(StoreUnavailableError, match="--data-dir"):
            store.open_read_only(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_closing_twice_is_fine_and_using_it_afterwards_is_an_error_of_ours(self, store, tmp_path):
        opened = store(tmp_path)
        opened.close()
        opened.close()
        with pytest.raises(StoreUnavailableError):
            opened.head("r") if store is SqliteJournal else opened.counts("r")

    def test_paths_with_odd_characters_work(self, store, tmp_path):
        odd = tmp_path / "a ?mode=rw#b%20ü"
        store(odd).close()
        store.open_read_only(odd).close()
        assert (odd / self.file(store)).exists()


def test_a_truncated_file_is_an_error_that_says_so(data_dir):
    path = data_dir / "journal.db"
    content = path.read_bytes()
    for size in (len(content) // 2, 5000, 100):
        path.write_bytes(content[:size])
        with pytest.raises((StoreUnavailableError, JournalBrokenError)) as caught, SqliteJournal.open_read_only(data_dir) as journal:
            journal.verify("r")
        assert caught.value.way_out


def test_a_handle_for_reading_sees_what_is_appended_and_cannot_write(data_dir):
    with SqliteJournal(data_dir) as writer, SqliteJournal.open_read_only(data_dir) as reader:
        epoch = writer.acquire("r", "daemon", NOW)
        writer.append("r", drafts(2), expected_seq=EVENTS, epoch=epoch)
        assert reader.head("r") == writer.head("r")
        assert reader.verify("r") == EVENTS + 2
        for attempt in (
            lambda: reader.acquire("r", "eve", NOW),
            lambda: reader.append("r", drafts(1), expected_seq=EVENTS + 2, epoch=epoch),
            lambda: reader.save_snapshot("r", 1, "state", b"", epoch=epoch),
        ):
            with pytest.raises(RefusedError, match="only reads") as caught:
                attempt()
            assert caught.value.exit_code == 4
        reader.release("r", epoch)
        writer.append("r", drafts(1), expected_seq=EVENTS + 2, epoch=epoch)


@pytest.mark.fault("F7")
def test_a_journal_beside_which_no_log_can_be_made_is_read_and_not_written(data_dir):
    """F7: what a mount without write permission does, for root too."""
    (data_dir / "journal.db-shm").mkdir()
    with SqliteJournal.open_read_only(data_dir) as journal:
        assert journal.verify("r") == EVENTS
    with pytest.raises(StoreUnavailableError, match="data directory"):
        SqliteJournal(data_dir)


@pytest.mark.fault("F57")
def test_a_writer_whose_lock_file_was_lost_is_fenced(data_dir):
    """F57: the operating system's lock does not help here, the epoch in the journal does."""
    with SqliteJournal(data_dir) as paused, SqliteJournal(data_dir) as successor:
        old = paused.acquire("r", "paused", NOW)
        (data_dir / LOCK_NAME).unlink()
        new = successor.acquire("r", "successor", NOW)
        successor.append("r", drafts(1), expected_seq=EVENTS, epoch=new)
        with pytest.raises(FencedError, match="successor"):
            paused.append("r", drafts(1), expected_seq=EVENTS + 1, epoch=old)
        with pytest.raises(FencedError):
            paused.save_snapshot("r", 1, "state", b"", epoch=old)
        assert successor.verify("r") == EVENTS + 1


@contextmanager
def no_file_may_grow_beyond(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("how", ["no more pages", "failing writes"])
@pytest.mark.fault("F6")
def test_a_full_disk_is_an_error_that_leaves_nothing_half_written_and_passes(data_dir, how):
    """F6, F8."""
    with SqliteJournal(data_dir) as journal:
        epoch = journal.acquire("r", "daemon", NOW)
        journal.append("r", drafts(1), expected_seq=EVENTS, epoch=epoch)
        many = drafts(2000)
        if how == "no more pages":
            pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
            journal._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
            with pytest.raises(StoreUnavailableError, match="full") as caught:
                journal.append("r", many, expected_seq=EVENTS + 1, epoch=epoch)
            journal._connection.execute("PRAGMA max_page_count = 1000000")
        else:
            room = (data_dir / "journal.db-wal").stat().st_size + 50_000
            with no_file_may_grow_beyond(room), pytest.raises(StoreUnavailableError, match="disk") as caught:
                journal.append("r", many, expected_seq=EVENTS + 1, epoch=epoch)
        assert caught.value.way_out
        assert caught.value.exit_code == 3
        assert journal.verify("r") == EVENTS + 1
        assert len(journal.append("r", many, expected_seq=EVENTS + 1, epoch=epoch)) == 2000
    with SqliteJournal.open_read_only(data_dir) as reader:
        assert reader.verify("r") == EVENTS + 2001


def test_being_refused_by_the_disk_while_acquiring_leaves_the_lock_free(data_dir):
    with SqliteJournal(data_dir) as first, SqliteJournal(data_dir) as second:
        first._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreUnavailableError):
            first.acquire("r", "daemon", NOW)
        assert second.acquire("r", "next", NOW) == 2


def test_a_damaged_snapshot_is_passed_over(data_dir):
    with SqliteJournal(data_dir) as journal:
        epoch = journal.acquire("r", "daemon", NOW)
        for seq in (1, 2, 3, 4, 5):
            journal.save_snapshot("r", seq, "state", b"%d" % seq, epoch=epoch)
        kept = journal._connection.execute("SELECT seq FROM snapshots ORDER BY seq").fetchall()
        assert kept == [(3,), (4,), (5,)]
        journal._connection.execute("UPDATE snapshots SET content = x'00' WHERE seq = 5")
        assert journal.load_snapshot("r", "state") == (4, b"4")


@pytest.mark.fault("F60")
def test_a_backup_under_way_is_whole(data_dir, tmp_path):
    """F60."""
    with SqliteJournal(data_dir) as journal:
        epoch = journal.acquire("r", "daemon", NOW)
        journal.backup(tmp_path / "copy.db")
        journal.append("r", drafts(1), expected_seq=EVENTS, epoch=epoch)
        with pytest.raises(InputError, match="exists"):
            journal.backup(tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy.db-*"))
    with SqliteJournal.open_read_only(tmp_path / "copy.db") as copy:
        assert copy.verify("r") == EVENTS


RIVAL = """
import sys, json
from pathlib import Path
from immune.errors import ImmuneError
from immune.stores.journal_sqlite import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
for line in sys.stdin:
    try:
        print(json.dumps({"epoch": journal.acquire("r", "rival", 1767225600000000)}), flush=True)
    except ImmuneError as error:
        print(json.dumps(error.as_json()), flush=True)
"""

APPENDER = """
import sys
from pathlib import Path
from immune.core.events import Draft, RunEnded
from immune.stores.journal_sqlite import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
epoch = journal.acquire("r", "appender", 0)
seq = journal.head("r")[0]
while True:
    drafts = [Draft(at_us=seq + n, subject="a", event=RunEnded(reason="y" * 300, ticks=seq + n)) for n in range(3)]
    seq = journal.append("r", drafts, expected_seq=seq, epoch=epoch)[-1].seq
    print(seq, flush=True)
"""


@contextmanager
def process_of(source: str, data_dir: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(data_dir)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)


def asked(process) -> dict:
    process.stdin.write("acquire\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@pytest.mark.crash
@pytest.mark.fault("F57")
def test_of_two_processes_one_writes(data_dir):
    """F57."""
    with SqliteJournal(data_dir) as journal, process_of(RIVAL, data_dir) as rival:
        epoch = journal.acquire("r", "daemon", NOW)
        refused = asked(rival)
        assert refused["error"] == "WriterHeldError"
        assert f"daemon (pid {os.getpid()}, since 2026-01-01T00:00:00.000000Z)" in refused["what"]
        journal.release("r", epoch)
        assert asked(rival) == {"epoch": epoch + 1}
        with pytest.raises(WriterHeldError, match=f"rival .pid {rival.pid}"):
            journal.acquire("r", "daemon", NOW)
        with pytest.raises(FencedError):
            journal.append("r", drafts(1), expected_seq=EVENTS, epoch=epoch)


@pytest.mark.crash
@pytest.mark.fault("F1")
def test_what_was_acknowledged_survives_kill_9_and_the_lock_does_not(tmp_path):
    """F1, F4."""
    last = 0
    for lines in (3, 40, 200):
        with process_of(APPENDER, tmp_path) as process:
            acknowledged = [int(process.stdout.readline()) for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        assert acknowledged[0] == last + 3
        with SqliteJournal(tmp_path) as journal:
            last = journal.verify("r")
            assert last >= acknowledged[-1]
            assert last % 3 == 0, "a transaction is whole or not there"
            assert [envelope.seq for envelope in journal.read("r")] == list(range(1, last + 1))
            journal.release("r", journal.acquire("r", "check", NOW))


@pytest.mark.fault("F4")
def test_a_torn_log_leaves_a_journal_that_ends_earlier(tmp_path):
    """F4: the crash cut the last record of the write-ahead log."""
    journal = SqliteJournal(tmp_path / "data")
    epoch = journal.acquire("r", "daemon", NOW)
    for seq in range(5):
        journal.append("r", drafts(1), expected_seq=seq, epoch=epoch)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        (copy / name).write_bytes((tmp_path / "data" / name).read_bytes())
    journal.close()
    log = copy / "journal.db-wal"
    log.write_bytes(log.read_bytes()[:-100])
    with SqliteJournal(copy) as torn:
        assert torn.verify("r") == 4
        later = torn.acquire("r", "daemon", NOW)
        assert torn.append("r", drafts(1), expected_seq=4, epoch=later)[0].seq == 5
