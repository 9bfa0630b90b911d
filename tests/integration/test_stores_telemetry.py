"""The telemetry file: what is read, what a failure leaves behind, and readers beside the writer."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.evidence import Bands
from immune.core.vitals import SampleBatch, VitalSchema
from immune.errors import RefusedError, StoreUnavailableError
from immune.stores import telemetry_sqlite
from immune.stores.telemetry_sqlite import SqliteTelemetry

S = 1_000_000
MIN = 60 * S
T0 = 29_454_000 * MIN
AGENTS = 200
TICKS = 130


def batch_at(now_us: int, seed: int) -> SampleBatch:
    rng = np.random.default_rng(seed)
    batch = SampleBatch.blank(AGENTS)
    batch.agent[:] = rng.permutation(AGENTS)
    batch.at_us[:] = now_us - rng.integers(0, S, AGENTS)
    batch.values[:, :] = np.where(rng.random((AGENTS, 9)) < 0.1, np.nan, rng.lognormal(2, 1, (AGENTS, 9)))
    return batch


@pytest.fixture
def telemetry(tmp_path):
    with SqliteTelemetry(tmp_path) as store:
        store.begin("r", VitalSchema())
        store.name_agents("r", 0, [f"a{n}" for n in range(AGENTS)])
        for tick in range(TICKS):
            now_us = T0 + tick * S
            store.write("r", tick, now_us, batch_at(now_us, tick))
        yield store


def everything(store) -> list:
    series = [store.series("r", f"a{agent}", vital) for agent in (0, 63, 64, 199) for vital in ("latency_ms", "errors")]
    latest = store.latest("r")
    return [one.at_us.tolist() + one.value.tolist() for one in series] + [latest.at_us.tolist(), np.nan_to_num(latest.values).tolist()]


def stored(store) -> int:
    return sum(store._connection.execute(f"SELECT coalesce(sum(n), 0) FROM {table}").fetchone()[0] for table in ("ticks", "minutes"))


def test_a_reader_beside_the_writer_sees_the_same_before_between_and_after(telemetry, tmp_path, monkeypatch):
    monkeypatch.setattr(telemetry_sqlite, "SAMPLES_AT_ONCE", 7 * AGENTS)
    with SqliteTelemetry.open_read_only(tmp_path) as reader:
        before = everything(telemetry)
        assert everything(reader) == before
        steps = 0
        while telemetry.compact("r", T0 + TICKS * S, parts=1):
            steps += 1
            if steps in {1, 5, 18}:
                assert everything(reader) == before
            assert reader.counts("r") == stored(telemetry) == TICKS * AGENTS
        assert steps == 18
        assert everything(reader) == before


def test_a_handle_for_reading_cannot_write(telemetry, tmp_path):
    empty = np.zeros((1, 9), dtype=np.float32)
    bands = Bands(expected=empty, low=empty, high=empty)
    with SqliteTelemetry.open_read_only(tmp_path) as reader:
        for attempt in (
            lambda: reader.begin("s", VitalSchema()),
            lambda: reader.write("r", 0, T0, batch_at(T0, 0)),
            lambda: reader.name_agents("r", 0, ["x"]),
            lambda: reader.compact("r", T0),
            lambda: reader.expire("r", T0),
            lambda: reader.write_bands("r", T0, bands),
        ):
            with pytest.raises(RefusedError, match="only reads"):
                attempt()


def test_one_agents_history_is_a_fraction_of_the_file(telemetry):
    telemetry.compact("r", T0 + 2 * MIN)
    connection = telemetry._connection
    rows = connection.execute(telemetry_sqlite._CLOSED_ROWS, (1, 70 // telemetry_sqlite.SECTION, 2**62, 0)).fetchall()
    read = sum(len(keys) + len(rest) for _, keys, rest in rows)
    (total,) = connection.execute("SELECT sum(length(keys) + length(rest)) FROM minutes").fetchone()
    assert len(rows) == 2
    assert read < 0.4 * total


@pytest.mark.parametrize(
    "query",
    [
        telemetry_sqlite._WRITE,
        telemetry_sqlite._CLOSABLE,
        telemetry_sqlite._OPEN_KEYS,
        telemetry_sqlite._CLOSED_ROWS,
        telemetry_sqlite._OPEN_NEWEST,
        telemetry_sqlite._BANDS,
        "SELECT agent FROM agents WHERE run = ? AND agent_id = ? ORDER BY agent LIMIT 1",
        "DELETE FROM minutes WHERE run = ? AND minute < ?",
        "DELETE FROM closed WHERE run = ? AND minute < ?",
        "DELETE FROM bands WHERE run = ? AND at_us < ?",
    ],
)
def test_no_query_walks_through_a_whole_table(telemetry, query):
    parameters = [1] * (8 if "?8" in query else query.count("?"))
    steps = [row[3] for row in telemetry._connection.execute("EXPLAIN QUERY PLAN " + query, parameters)]
    assert any("SEARCH" in step for step in steps)
    assert not [step for step in steps if ("SCAN" in step and "CONSTANT" not in step) or "TEMP B-TREE" in step]


def test_a_full_disk_is_counted_by_the_caller_and_leaves_whole_ticks(telemetry):
    """F6."""
    connection = telemetry._connection
    before = everything(telemetry)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = SampleBatch.concatenate([batch_at(T0, 0)] * 200)
    for tick in range(TICKS, TICKS + 3):
        with pytest.raises(StoreUnavailableError, match="full"):
            telemetry.write("r", tick, T0 + MIN, large)
    with pytest.raises(StoreUnavailableError, match="full"):
        telemetry.compact("r", T0 + 2 * MIN)
    connection.execute("PRAGMA max_page_count = 1000000")
    assert telemetry.counts("r") == stored(telemetry) == TICKS * AGENTS
    assert everything(telemetry) == before
    assert telemetry.compact("r", T0 + 2 * MIN) == 2
    assert everything(telemetry) == before


def test_a_step_of_compaction_that_fails_half_way_changes_nothing(telemetry):
    before = everything(telemetry)
    connection = telemetry._connection
    connection.execute("CREATE TRIGGER fail BEFORE DELETE ON ticks WHEN old.tick = 40 BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreUnavailableError):
        telemetry.compact("r", T0 + 2 * MIN)
    assert telemetry.counts("r") == stored(telemetry) == TICKS * AGENTS
    assert connection.execute("SELECT count(*) FROM minutes").fetchone()[0] == 0
    assert everything(telemetry) == before
    connection.execute("DROP TRIGGER fail")
    assert telemetry.compact("r", T0 + 2 * MIN) == 2
    assert everything(telemetry) == before


def test_it_goes_on_where_it_was_after_being_opened_again(telemetry, tmp_path):
    telemetry.compact("r", T0 + MIN)
    before = everything(telemetry)
    telemetry.close()
    with SqliteTelemetry(tmp_path) as again:
        again.begin("r", VitalSchema())
        assert everything(again) == before
        again.write("r", TICKS, T0 + TICKS * S, batch_at(T0 + TICKS * S, TICKS))
        assert again.counts("r") == (TICKS + 1) * AGENTS


def test_retention_lets_the_file_be_used_again(telemetry, tmp_path):
    telemetry.compact("r", T0 + 10 * MIN)
    telemetry.write("r", TICKS, T0 + 9 * MIN, batch_at(T0, 1))
    size = None
    for round_ in range(4):
        start = T0 + (10 + round_) * MIN
        for tick in range(60):
            telemetry.write("r", 1000 * (round_ + 1) + tick, start + tick * S, batch_at(start + tick * S, tick))
        telemetry.compact("r", start + MIN)
        telemetry.expire("r", start)
        pages = telemetry._connection.execute("PRAGMA page_count").fetchone()[0]
        assert size is None or pages <= size * 1.05
        size = size or pages
        assert telemetry.counts("r") == 60 * AGENTS
        assert telemetry._connection.execute("SELECT count(*) FROM closed").fetchone()[0] == 60
