"""Backups, restores, witnessed heads, archives: what a journal's owner does with it, and what is found out."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from immune.cli import app
from immune.cli.output import run_guarded
from immune.core.events import Draft, RunEnded, iso
from immune.core.vitals import SampleBatch, VitalSchema
from immune.errors import AppendConflictError, InputError, JournalBrokenError, WriterHeldError
from immune.settings import load_settings
from immune.stores.archive import check_archive, put_away, read_archive, write_archive
from immune.stores.care import back_up, restore
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.telemetry_sqlite import SqliteTelemetry
from immune.stores.witness import Witness, compare

NOW = 1_767_225_600_000_000
DAY_US = 86_400_000_000


def drafts(count: int, at_us: int = NOW) -> list[Draft]:
    return [Draft(at_us=at_us + n, subject=f"agent-{n}", event=RunEnded(reason="ü" * 40, ticks=n)) for n in range(count)]


def write(data_dir: Path, run_id: str, count: int, at_us: int = NOW) -> None:
    """Append events to a run, and leave a sample of it in the telemetry."""
    with SqliteJournal(data_dir) as journal, SqliteTelemetry(data_dir) as telemetry:
        epoch = journal.acquire(run_id, f"daemon of {run_id}", at_us)
        journal.append(run_id, drafts(count, at_us), expected_seq=journal.head(run_id)[0], epoch=epoch)
        journal.save_snapshot(run_id, 1, "baselines", b"x", epoch=epoch)
        telemetry.begin(run_id, VitalSchema())
        batch = SampleBatch.blank(1)
        batch.at_us[:] = at_us
        telemetry.write(run_id, 1, at_us, batch)


def witnessed(data_dir: Path, run_id: str = "r") -> None:
    with SqliteJournal.open_read_only(data_dir) as journal:
        Witness(data_dir / "witness.log").note(NOW, run_id, *journal.head(run_id), "running")


def cut(data_dir: Path, after_seq: int, run_id: str = "r") -> None:
    """Take the tail off and mend the row that says where the chain ends: what is left holds by itself."""
    with closing(sqlite3.connect(data_dir / "journal.db")) as connection:
        connection.execute("DROP TRIGGER events_are_not_deleted")
        connection.execute("DELETE FROM events WHERE run_id = ? AND seq > ?", (run_id, after_seq))
        head = connection.execute("SELECT hash FROM events WHERE run_id = ? AND seq = ?", (run_id, after_seq)).fetchone()[0]
        connection.execute("UPDATE runs SET events = ?, head = ? WHERE run_id = ?", (after_seq, head, run_id))
        connection.commit()


@pytest.fixture
def data_dir(tmp_path) -> Path:
    write(tmp_path / "data", "r", 20)
    return tmp_path / "data"


@pytest.fixture
def ask(data_dir, capsys):
    """Runs a command on the data directory: (exit code, document)."""

    def run(*words: str) -> tuple[int, dict]:
        code = run_guarded(app, [*words, "--data-dir", str(data_dir), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


# -- heads witnessed outside


def test_a_cut_tail_with_a_mended_end_is_found_by_the_witness_at_its_seq(data_dir, ask):
    witnessed(data_dir)
    assert ask("journal", "verify")[1]["witnessed"]["seq"] == 20
    cut(data_dir, 14)
    with SqliteJournal.open_read_only(data_dir) as journal:
        assert journal.verify("r") == 14, "by itself it holds"
    code, document = ask("journal", "verify")
    assert (code, document["verified"], document["first_broken_seq"]) == (1, False, 15)
    assert "cut" in document["what"]


def test_without_a_witness_the_check_says_that_there_is_none(data_dir, ask):
    code, document = ask("journal", "verify")
    assert (code, document["verified"], document["witnessed"]) == (0, True, None)


def test_a_rewritten_history_is_found_although_its_chain_holds(data_dir, ask):
    witnessed(data_dir)
    shutil.move(data_dir / "witness.log", data_dir.parent / "witness.log")
    shutil.rmtree(data_dir)
    with SqliteJournal(data_dir) as forger, SqliteTelemetry(data_dir):
        epoch = forger.acquire("r", "eve", NOW)
        forger.append("r", drafts(25, NOW + 7), expected_seq=0, epoch=epoch)
    code, document = ask("journal", "verify", "--witness", str(data_dir.parent / "witness.log"))
    assert (code, document["first_broken_seq"]) == (1, 20)


def test_a_witness_that_is_not_there_is_not_passed_over(ask, tmp_path):
    assert ask("journal", "verify", "--witness", str(tmp_path / "gone.log"))[0] == 2


def test_events_after_the_witnessed_head_are_no_fault(data_dir, ask):
    witnessed(data_dir)
    write(data_dir, "r", 3)
    assert ask("journal", "verify")[0] == 0


def test_the_witness_is_bounded_keeps_the_newest_head_of_each_run_and_is_its_owners_alone(tmp_path):
    witness = Witness(tmp_path / "witness.log", limit_bytes=2000)
    witness.note(NOW, "quiet", 7, "a" * 64, "stopped")
    for seq in range(1, 200):
        witness.note(NOW + seq, "busy", seq, "b" * 64, "running")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    assert witness.sightings("quiet")[-1].seq == 7
    assert [seen.seq for seen in witness.sightings("busy")][-3:] == [197, 198, 199]
    assert stat.S_IMODE(witness.path.stat().st_mode) == 0o600


def test_a_line_that_a_crash_tore_costs_that_line_alone(tmp_path):
    witness = Witness(tmp_path / "witness.log")
    witness.note(NOW, "r", 1, "a" * 64, "started")
    with witness.path.open("a") as file:
        file.write(f"{iso(NOW)} r 2 bbbb")
    witness.note(NOW, "r", 3, "c" * 64, "running")
    assert [seen.seq for seen in witness.sightings("r")] == [1, 3]


def test_the_place_of_the_witness_can_be_configured(tmp_path):
    config = tmp_path / "immune.toml"
    config.write_text('[daemon]\nwitness = "/elsewhere/heads.log"\n')
    assert load_settings(config=config, data_dir=tmp_path).witness_path == Path("/elsewhere/heads.log")
    assert load_settings(data_dir=tmp_path).witness_path == tmp_path / "witness.log"
    config.write_text("[daemon]\nwitness = 3\n")
    with pytest.raises(InputError, match=r"daemon\.witness"):
        load_settings(config=config)


# -- backup and restore


@pytest.mark.fault("F60")
def test_a_backup_under_load_is_checked_and_holds_what_was_acknowledged_before_it(data_dir, ask):
    """F60."""
    target = data_dir.parent / "copy.db"
    with SqliteJournal(data_dir) as writer:
        epoch = writer.acquire("r", "daemon", NOW)
        for round_ in range(5):
            writer.append("r", drafts(50), expected_seq=20 + 50 * round_, epoch=epoch)
            code, document = ask("journal", "backup", str(target), *(["--force"] if round_ else []))
            assert (code, document["events"]) == (0, 70 + 50 * round_)
            assert document["runs"] == [{"run_id": "r", "events": 70 + 50 * round_, "head": writer.head("r")[1]}]
    assert [path.name for path in data_dir.parent.iterdir() if path.name != "data"] == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_backup_overwrites_nothing_unless_told_to_and_never_the_journal(data_dir, ask):
    target = data_dir.parent / "copy.db"
    target.write_text("precious")
    assert ask("journal", "backup", str(target))[0] == 2
    assert target.read_text() == "precious"
    assert ask("journal", "backup", str(data_dir / "journal.db"), "--force")[0] == 2
    assert ask("journal", "backup", str(data_dir.parent / "no" / "copy.db"))[0] == 2
    assert ask("journal", "backup", str(target), "--force")[0] == 0
    assert ask("journal", "verify")[0] == 0


def test_a_journal_that_does_not_hold_is_not_passed_off_as_a_backup(data_dir):
    target = data_dir.parent / "copy.db"
    back_up(data_dir, target)
    before = target.read_bytes()
    with closing(sqlite3.connect(data_dir / "journal.db")) as connection:
        connection.execute("DROP TRIGGER events_are_not_edited")
        connection.execute("UPDATE events SET actor = 'eve' WHERE seq = 9")
        connection.commit()
    with pytest.raises(JournalBrokenError) as caught:
        back_up(data_dir, target, force=True)
    assert caught.value.seq == 9
    assert target.read_bytes() == before


def test_a_restored_journal_is_written_on(data_dir, ask):
    target = data_dir.parent / "copy.db"
    back_up(data_dir, target)
    shutil.rmtree(data_dir)
    code, document = ask("journal", "restore", str(target))
    assert (code, document["older_copy"], document["kept"]) == (0, [], None)
    write(data_dir, "r", 5)
    with SqliteJournal.open_read_only(data_dir) as journal:
        assert journal.verify("r") == 25


def test_a_restore_beside_a_writer_is_refused(data_dir, ask):
    target = data_dir.parent / "copy.db"
    back_up(data_dir, target)
    with SqliteJournal(data_dir) as writer:
        epoch = writer.acquire("r", "daemon", NOW)
        code, document = ask("journal", "restore", str(target), "--force")
        assert (code, document["error"]) == (4, "WriterHeldError")
        writer.append("r", drafts(1), expected_seq=20, epoch=epoch)


def test_a_restore_replaces_a_journal_only_when_told_to_and_keeps_it_beside(data_dir, ask):
    target = data_dir.parent / "copy.db"
    back_up(data_dir, target)
    write(data_dir, "r", 5)
    assert ask("journal", "restore", str(target))[0] == 4
    code, document = ask("journal", "restore", str(target), "--force")
    assert code == 0
    with SqliteJournal.open_read_only(Path(document["kept"])) as kept:
        assert kept.verify("r") == 25
    with SqliteJournal.open_read_only(data_dir) as journal:
        assert journal.verify("r") == 20


@pytest.mark.fault("F61")
def test_an_older_copy_is_named_with_both_heads_and_is_the_truth_from_then_on(data_dir, ask):
    """F61."""
    target = data_dir.parent / "copy.db"
    back_up(data_dir, target)
    with SqliteJournal.open_read_only(data_dir) as journal:
        old = journal.head("r")
    write(data_dir, "r", 5)
    with SqliteJournal.open_read_only(data_dir) as journal:
        new = journal.head("r")
    witnessed(data_dir)
    _, document = ask("journal", "restore", str(target), "--force")
    (older,) = document["older_copy"]
    assert older == {
        "run_id": "r",
        "restored": dict(zip(("seq", "head"), old, strict=True)),
        "witnessed": dict(zip(("seq", "head"), new, strict=True)),
    }
    assert ask("journal", "verify")[0] == 0, "a person accepted it"
    witnessed(data_dir)
    cut(data_dir, 15)
    assert ask("journal", "verify")[1]["first_broken_seq"] == 16, "and the witness goes on from there"


@pytest.mark.fault("F61")
def test_an_older_copy_put_there_by_hand_is_found(data_dir, ask):
    """F61: nobody told the journal's keeper."""
    target = data_dir.parent / "copy.db"
    back_up(data_dir, target)
    write(data_dir, "r", 5)
    witnessed(data_dir)
    for name in ("journal.db-wal", "journal.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    shutil.copyfile(target, data_dir / "journal.db")
    assert ask("journal", "verify")[1]["first_broken_seq"] == 21


def test_a_damaged_copy_is_not_restored_and_a_damaged_journal_is_kept_as_it_lies(data_dir):
    target, witness = data_dir.parent / "copy.db", Witness(data_dir / "witness.log")
    back_up(data_dir, target)
    damaged = bytearray(target.read_bytes())
    damaged[damaged.index(b"agent-11")] ^= 0x20
    bad = data_dir.parent / "bad.db"
    bad.write_bytes(damaged)
    before = (data_dir / "journal.db").read_bytes()
    with pytest.raises(JournalBrokenError):
        restore(bad, data_dir, witness, NOW, force=True)
    assert (data_dir / "journal.db").read_bytes() == before
    (data_dir / "journal.db").write_bytes(b"not a database at all" * 100)
    kept = restore(target, data_dir, witness, NOW, force=True).kept
    assert kept is not None
    assert kept.read_bytes() == b"not a database at all" * 100
    with SqliteJournal.open_read_only(data_dir) as journal:
        assert journal.verify("r") == 20


# -- retention


def test_a_run_is_deleted_only_after_its_archive_holds(data_dir, ask):
    with SqliteJournal.open_read_only(data_dir) as journal:
        envelopes = list(journal.read("r"))
    write(data_dir, "other", 4)
    code, document = ask("runs", "archive", "r")
    assert code == 0
    path = Path(document["archived"][0]["file"])
    assert list(read_archive(path)) == envelopes
    assert check_archive(path) == 20
    with SqliteJournal.open_read_only(data_dir) as journal, SqliteTelemetry.open_read_only(data_dir) as telemetry:
        assert [run.run_id for run in journal.runs()] == ["other"]
        assert journal.load_snapshot("r", "baselines") is None
        assert journal.verify("other") == 4
        assert (telemetry.counts("r"), telemetry.counts("other")) == (0, 1)
    with closing(sqlite3.connect(data_dir / "journal.db")) as connection, pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute("DELETE FROM events")


@pytest.mark.parametrize("trouble", ["archive exists", "chain broken", "moved on"])
def test_what_cannot_be_archived_stays(data_dir, trouble, monkeypatch):
    path = data_dir.parent / "run.jsonl.gz"
    if trouble == "archive exists":
        path.write_text("precious")
        expected = InputError
    elif trouble == "chain broken":
        with closing(sqlite3.connect(data_dir / "journal.db")) as connection:
            connection.execute("DROP TRIGGER events_are_not_edited")
            connection.execute("UPDATE events SET actor = 'eve' WHERE seq = 9")
            connection.execute("CREATE TRIGGER events_are_not_edited BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'never'); END")
            connection.commit()
        expected = JournalBrokenError
    else:
        forget = SqliteJournal.forget_run
        monkeypatch.setattr(SqliteJournal, "forget_run", lambda self, run_id, *, events, head: forget(self, run_id, events=events - 1, head=head))
        expected = AppendConflictError
    with pytest.raises(expected):
        put_away(data_dir, "r", path, NOW)
    with SqliteJournal.open_read_only(data_dir) as journal:
        assert journal.head("r")[0] == 20
        assert len(list(journal.read("r"))) == 20
    with closing(sqlite3.connect(data_dir / "journal.db")) as connection, pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute("DELETE FROM events")


def test_the_run_that_a_daemon_writes_is_refused_and_others_go(data_dir):
    write(data_dir, "other", 4)
    with SqliteJournal(data_dir) as daemon:
        epoch = daemon.acquire("r", "daemon of r", NOW)
        with pytest.raises(WriterHeldError):
            put_away(data_dir, "r", data_dir.parent / "r.jsonl.gz", NOW)
        put_away(data_dir, "other", data_dir.parent / "other.jsonl.gz", NOW)
        daemon.append("r", drafts(1), expected_seq=20, epoch=epoch)
        assert daemon.verify("r") == 21


def test_pruning_keeps_the_newest_and_what_would_be_taken_up_again(data_dir, ask):
    for name in ("live-1", "b", "c", "d"):
        write(data_dir, name, 2, NOW + DAY_US)
    code, document = ask("runs", "prune", "--keep", "2")
    assert code == 0
    assert {one["run_id"] for one in document["archived"]} == {"r", "b"}
    assert [one["run_id"] for one in document["left"]] == ["live-1"]
    assert sorted(path.name for path in (data_dir / "archive").iterdir()) == ["b.jsonl.gz", "r.jsonl.gz"]
    assert ask("runs", "prune")[0] == 2
    assert {one["run_id"] for one in ask("runs", "prune", "--older-than", "0")[1]["archived"]} == {"c", "d"}


@pytest.mark.parametrize("harm", ["edited", "cut", "bit", "header"])
def test_a_damaged_archive_is_found(data_dir, harm):
    path = data_dir.parent / "run.jsonl.gz"
    with SqliteJournal.open_read_only(data_dir) as journal:
        write_archive(journal, journal.runs()[0], path)
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    if harm == "edited":
        lines[9] = lines[9].replace(b"agent-8", b"agent-9")
    elif harm == "cut":
        lines = lines[:-1]
    elif harm == "header":
        lines[0] = lines[0].replace(b'"version":1', b'"version":2')
    content = bytearray(gzip.compress(b"".join(lines), mtime=0))
    if harm == "bit":
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises((JournalBrokenError, InputError)) as caught:
        check_archive(path)
    if harm == "edited":
        assert caught.value.seq == 9


def test_equal_runs_make_equal_archives(data_dir):
    with SqliteJournal.open_read_only(data_dir) as journal:
        for name in ("one", "two"):
            write_archive(journal, journal.runs()[0], data_dir.parent / name)
    assert (data_dir.parent / "one").read_bytes() == (data_dir.parent / "two").read_bytes()


def test_the_witness_compares_any_seq_it_saw(data_dir):
    witness = Witness(data_dir / "witness.log")
    with SqliteJournal.open_read_only(data_dir) as journal:
        hashes = {envelope.seq: envelope.hash for envelope in journal.read("r")}
        witness.note(NOW, "r", 0, "0" * 64, "started")
        witness.note(NOW, "r", 5, hashes[5], "running")
        compare(journal, "r", witness.sightings("r"))
        witness.note(NOW, "r", 9, hashes[8], "running")
        with pytest.raises(JournalBrokenError) as caught:
            compare(journal, "r", witness.sightings("r"))
    assert caught.value.seq == 9
