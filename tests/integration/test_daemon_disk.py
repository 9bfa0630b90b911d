"""F6, F7: the daemon on a disk that is full for a while. Real refusals by the operating system, seen through the API."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from immune.stores.journal_sqlite import SqliteJournal
from tests.integration.daemon_kit import daemon, open_request


@contextmanager
def no_room(made, how: str) -> Iterator[None]:
    """No append can be stored inside: no file may grow, or nothing may be written at all."""
    connection = made.engine.journal._connection
    if how == "no file may grow":
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        log = made.engine.journal.path.with_name("journal.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(log, 4096), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    connection.execute("PRAGMA query_only = ON")
    try:
        yield
    finally:
        connection.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize("how", ["no file may grow", "read-only"])
@pytest.mark.fault("F6", "F7")
async def test_a_daemon_without_room_keeps_what_it_holds_begins_nothing_and_recovers_by_itself(tmp_path, how):
    async with daemon(tmp_path, on_disk=True) as made:
        await made.tick(2)
        request = open_request(made)
        contained = await made.ask("POST", f"/v1/agents/{request['agent']}/contain", {"level": "isolated", "reason": "by hand"})
        assert contained.status == 200, contained.text
        await made.tick(2)
        before = made.engine.state.seq
        ready = await made.ask("GET", "/readyz", who=None)
        assert ready.status == 200
        with no_room(made, how):
            decision = {"decision": "approve", "reason": "seen", "plan_hash": request["plan_hash"]}
            answer = await made.ask("POST", f"/v1/approvals/{request['id']}/decision", decision)
            assert answer.status == 503, answer.text
            assert answer.document["way_out"]
            ticks = made.engine.counters.ticks
            await made.tick(5)
            assert made.engine.counters.ticks == ticks + 5, "the tick goes on"
            assert made.engine.state.seq == before
            assert made.engine.state.approvals[request["id"]].status == "pending"
            gate = await made.ask("GET", f"/v1/gate/{request['agent']}")
            assert (gate.document["allowed"], gate.document["level"]) == (False, "isolated"), "what is contained stays contained"
            ready = await made.ask("GET", "/readyz", who=None)
            assert (ready.status, ready.document["status"]) == (503, "journal cannot be written")
            assert ready.document["reason"] == made.engine.trouble != ""
            metrics = (await made.ask("GET", "/metrics")).text
            assert "immune_journal_writable 0" in metrics
            assert (await made.ask("GET", "/healthz", who=None)).status == 200
        await made.tick(2)
        assert (await made.ask("GET", "/readyz", who=None)).status == 200
        (gap,) = made.events("journal_interrupted")
        assert gap.event().refused >= 5
        assert "immune_journal_writable 1" in (await made.ask("GET", "/metrics")).text
        again = await made.ask("POST", f"/v1/approvals/{request['id']}/decision", decision)
        assert again.status == 200, again.text
        assert made.engine.journal.verify(made.engine.run_id) == made.engine.state.seq
        with SqliteJournal.open_read_only(tmp_path) as reader:
            assert reader.verify("run-1") > before
