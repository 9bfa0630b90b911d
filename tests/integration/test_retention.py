"""Old runs leave the journal by themselves, as archives that can be checked; what is written, and what would be taken up again, stays."""

from __future__ import annotations

import pytest

from immune.bootstrap import Stores, build_engine
from immune.clock import VirtualClock, run_virtual
from immune.core.events import Draft, RunEnded
from immune.core.policy import Policy
from immune.stores.archive import FOLDER, check_archive, write_archive
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.memory import MemoryTelemetry
from immune.stores.retention import EVERY_S, FIRST_AFTER_S, US, Retention

NOW_US = 1_767_225_600 * US
DAY_US = 86_400 * US


def write(data_dir, run_id, at_us):
    with SqliteJournal(data_dir) as journal:
        epoch = journal.acquire(run_id, f"daemon of {run_id}", at_us)
        journal.append(run_id, [Draft(at_us=at_us, subject=run_id, event=RunEnded(reason="", ticks=0))], expected_seq=0, epoch=epoch)


def runs_in(data_dir):
    with SqliteJournal.open_read_only(data_dir) as journal:
        return {run.run_id for run in journal.runs()}


@pytest.fixture
def data_dir(tmp_path):
    for run_id, days in (("live-old", 200), ("run-old", 190), ("live-current", 185), ("run-young", 3), ("run-newest", 300)):
        write(tmp_path, run_id, NOW_US - days * DAY_US)
    return tmp_path


def test_only_what_is_old_and_not_needed_goes_and_its_archive_holds(data_dir):
    said = []
    keeper = Retention(data_dir, VirtualClock(NOW_US), age_s=180 * 86_400.0, say=said.append)
    assert sorted(keeper.put_old_runs_away(NOW_US)) == ["live-old", "run-old"]
    assert runs_in(data_dir) == {"live-current", "run-young", "run-newest"}, "the newest live run would be taken up again"
    assert check_archive(data_dir / FOLDER / "run-old.jsonl.gz") == 1
    assert len(said) == 2
    assert keeper.health() == {"trouble": "", "archived": 2, "age_days": 180.0}
    assert keeper.put_old_runs_away(NOW_US) == []


def test_it_goes_on_beside_the_daemon_that_writes_another_run(data_dir):
    with SqliteJournal(data_dir) as writer:
        epoch = writer.acquire("live-now", "the daemon", NOW_US)
        writer.append("live-now", [Draft(at_us=NOW_US, subject="x", event=RunEnded(reason="", ticks=0))], expected_seq=0, epoch=epoch)
        keeper = Retention(data_dir, VirtualClock(NOW_US), age_s=180 * 86_400.0, say=lambda _: None)
        gone = keeper.put_old_runs_away(NOW_US)
        assert set(gone) == {"live-old", "run-old", "live-current", "run-newest"}
        writer.append("live-now", [Draft(at_us=NOW_US, subject="x", event=RunEnded(reason="", ticks=1))], expected_seq=1, epoch=epoch)
        assert writer.verify("live-now") == 2


def test_what_cannot_be_archived_stays_and_is_told(data_dir):
    (data_dir / FOLDER).write_text("in the way")
    keeper = Retention(data_dir, VirtualClock(NOW_US), age_s=180 * 86_400.0, say=lambda _: None)
    assert keeper.put_old_runs_away(NOW_US) == []
    assert "could not be put away" in keeper.health()["trouble"]
    assert "run-old" in runs_in(data_dir)


def test_a_try_that_died_after_the_archive_and_before_the_deletion_is_finished_by_the_next(data_dir):
    path = data_dir / FOLDER / "run-old.jsonl.gz"
    with SqliteJournal(data_dir) as journal:
        write_archive(journal, next(run for run in journal.runs() if run.run_id == "run-old"), path)
    path.with_name(f".{path.name}.part").write_bytes(b"what a try that died left")
    before = path.read_bytes()
    keeper = Retention(data_dir, VirtualClock(NOW_US), age_s=180 * 86_400.0, say=lambda _: None)
    assert "run-old" in keeper.put_old_runs_away(NOW_US), keeper.trouble
    assert path.read_bytes() == before
    assert "run-old" not in runs_in(data_dir)


def test_an_archive_of_something_else_is_not_taken_for_the_run_that_is_deleted(data_dir):
    with SqliteJournal(data_dir) as journal:
        write_archive(journal, next(run for run in journal.runs() if run.run_id == "live-old"), data_dir / FOLDER / "run-old.jsonl.gz")
    keeper = Retention(data_dir, VirtualClock(NOW_US), age_s=180 * 86_400.0, say=lambda _: None)
    assert keeper.put_old_runs_away(NOW_US) == ["live-old"]
    assert "exists already" in keeper.trouble
    assert "run-old" in runs_in(data_dir)


def test_lives_of_one_process_number_are_told_apart(tmp_path):
    """In a container every daemon has the same host name and the same number."""

    def daemon(run_id, journal):
        stores = Stores(journal=journal, telemetry=MemoryTelemetry())
        return build_engine(run_id=run_id, sources=(), stores=stores, policy=Policy())

    with SqliteJournal(tmp_path) as journal:
        engine = daemon("live-old", journal)
        engine.start(NOW_US - 200 * DAY_US)
        run_virtual(engine.finish(NOW_US - 200 * DAY_US, "stopped"))
    with SqliteJournal(tmp_path) as journal:
        daemon("live-now", journal).start(NOW_US)
        keeper = Retention(tmp_path, VirtualClock(NOW_US), age_s=180 * 86_400.0, say=lambda _: None)
        assert keeper.put_old_runs_away(NOW_US) == ["live-old"], keeper.trouble


def test_it_looks_a_few_times_a_day(data_dir, monkeypatch):
    async def straight(work, *arguments):
        return work(*arguments)

    monkeypatch.setattr("immune.stores.retention.asyncio.to_thread", straight)
    looked = []

    async def live():
        import asyncio

        clock = VirtualClock(NOW_US)
        keeper = Retention(data_dir, clock, age_s=1.0, say=lambda _: None)
        monkeypatch.setattr(keeper, "put_old_runs_away", looked.append)
        task = asyncio.create_task(keeper.run())
        await clock.sleep_until_us(NOW_US + round((FIRST_AFTER_S + 2.5 * EVERY_S) * US))
        task.cancel()

    run_virtual(live())
    assert len(looked) == 3
