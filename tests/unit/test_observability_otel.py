"""What carries telemetry to a collector: settings, outbox, and what happens when nobody takes it."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from immune.clock import VirtualClock, run_virtual
from immune.errors import InputError
from immune.observability import cursor as cursor_module
from immune.observability.companion import OtelCompanion
from immune.observability.cursor import Cursor, Place
from immune.observability.otel_settings import OtelSettings, read_otel_settings
from immune.observability.story import Story
from immune.stores.archive import read_archive

US = 1_000_000
START_US = 1_767_225_600 * US
GOLDEN = list(read_archive(Path(__file__).resolve().parents[1] / "golden" / "journal-0.1.jsonl.gz"))
STORY = Story("golden")
TOLD = [moment for envelope in GOLDEN for moment in STORY.hear(envelope)]
BOTH = OtelSettings(traces="grpc", metrics="grpc", place="collector:4317", interval_s=10.0)


class Now:
    """A courier without a thread."""

    async def send(self, errand):
        return errand()

    def stop(self):
        self.stopped = True


class FakeSink:
    def __init__(self, works=lambda: True):
        self.works, self.moments, self.snapshots, self.down = works, [], 0, False

    def send_moments(self, moments):
        if not self.works():
            return False
        self.moments += moments
        return True

    def send_snapshot(self, snapshot):
        self.snapshots += self.works()
        return self.works()

    def refused(self):
        return 0

    def complaint(self):
        return "connection refused"

    def shut_down(self):
        self.down = True


class FakePanel:
    """An engine whose journal grows as far as it is told."""

    def __init__(self, seq=0):
        self.seq = seq
        self.engine = self
        self.journal = self
        self.run_id = "golden"

    @property
    def state(self):
        return SimpleNamespace(seq=self.seq)

    def read(self, run_id, *, after_seq=0, limit=None):
        return iter([one for one in GOLDEN if after_seq < one.seq <= self.seq][:limit])

    def snapshot(self):
        return object()


def companion(tmp_path, sink, panel, clock=None, say=lambda text: None, settings=BOTH):
    return OtelCompanion(
        settings,
        panel,
        clock or VirtualClock(START_US),
        cursor=Cursor(tmp_path / "otel.json"),
        courier=Now(),
        say=say,
        make_sink=lambda settings, run_id: sink,
    )


async def run_for(made, seconds):
    end_us = made.clock.now_us() + seconds * US
    while made.clock.now_us() < end_us:
        await made.step()
        await made.clock.sleep_until_us(made.clock.now_us() + US)


def test_everything_in_the_journal_arrives_once_and_in_order(tmp_path):
    sink, panel = FakeSink(), FakePanel(len(GOLDEN))
    run_virtual(run_for(companion(tmp_path, sink, panel), 30))
    assert sink.moments == TOLD
    assert sink.snapshots == 2


@pytest.mark.fault("F21")
def test_with_no_collector_traces_wait_in_the_journal_and_one_line_a_minute_is_said(tmp_path):
    works, said = [False], []
    sink, panel = FakeSink(lambda: works[0]), FakePanel(40)
    made = companion(tmp_path, sink, panel, say=said.append)

    async def life():
        await run_for(made, 600)
        assert 1 <= len(said) <= 11
        assert "collector:4317" in said[0]
        assert "connection refused" in said[0]
        assert made.health()["trouble"]
        assert len(made._moments) <= 40
        panel.seq = len(GOLDEN)
        works[0] = True
        await run_for(made, 120)

    run_virtual(life())
    assert sink.moments == TOLD
    assert made.health()["trouble"] == ""
    assert made.health()["events_behind"] == 0
    assert said[-1].endswith("takes telemetry again")


def test_memory_does_not_grow_while_the_collector_is_away(tmp_path):
    panel = FakePanel(len(GOLDEN))
    made = companion(tmp_path, FakeSink(lambda: False), panel)
    run_virtual(run_for(made, 300))
    held = len(made._moments)
    run_virtual(run_for(made, 300))
    assert len(made._moments) == held <= len(TOLD)


@pytest.mark.fault("F1")
@pytest.mark.parametrize("seed", range(8))
def test_neither_a_restart_nor_a_refusal_loses_or_doubles_a_span(tmp_path, seed):
    """Restarts at arbitrary moments, a collector that refuses every third batch; between delivery and note nothing dies here."""
    rng = random.Random(seed)
    sink, panel = FakeSink(lambda: rng.random() > 0.3), FakePanel(0)

    async def life():
        while panel.seq < len(GOLDEN):
            made = companion(tmp_path, sink, panel)
            for _ in range(rng.randrange(4)):
                panel.seq = min(len(GOLDEN), panel.seq + rng.randrange(30))
                await run_for(made, rng.randrange(1, 40))
        await run_for(companion(tmp_path, sink, panel), 200)

    run_virtual(life())
    assert sink.moments == TOLD


def test_what_died_between_delivery_and_its_note_is_sent_again_with_the_same_ids(tmp_path):
    sink, panel = FakeSink(), FakePanel(100)
    run_virtual(run_for(companion(tmp_path, sink, panel), 3))
    (tmp_path / "otel.json").unlink()
    run_virtual(run_for(companion(tmp_path, sink, panel), 3))
    half = len(sink.moments) // 2
    assert sink.moments[:half] == sink.moments[half:]


def test_the_end_of_a_run_is_sent_before_it_closes(tmp_path):
    sink, panel = FakeSink(), FakePanel(50)
    made = companion(tmp_path, sink, panel)

    async def life():
        await run_for(made, 3)
        panel.seq = len(GOLDEN)
        await made.close()

    run_virtual(life())
    assert sink.moments == TOLD
    assert sink.down
    assert sink.snapshots >= 1


def test_catching_up_with_a_long_journal_leaves_room_for_ticks(tmp_path, monkeypatch):
    monkeypatch.setattr("immune.observability.companion.EVENTS_AT_ONCE", 10)
    sink, panel = FakeSink(), FakePanel(len(GOLDEN))
    made = companion(tmp_path, sink, panel)

    async def life():
        task = asyncio.create_task(made.run())
        ticks = 0
        while made.health()["events_behind"]:
            await made.clock.sleep_until_us(made.clock.now_us() + US // 100)
            ticks += 1
        task.cancel()
        return ticks

    assert run_virtual(life()) >= len(GOLDEN) // 10
    assert sink.moments == TOLD


def test_a_courier_that_hangs_is_left_behind_within_a_second(tmp_path):
    class Hangs(Now):
        async def send(self, errand):
            await asyncio.sleep(3600)

    made = companion(tmp_path, FakeSink(), FakePanel(50))
    made.courier = Hangs()
    clock = made.clock

    async def life():
        started = clock.now_us()
        await made.close()
        assert clock.now_us() - started <= US

    run_virtual(life())


def test_a_place_that_cannot_be_kept_is_said_and_nothing_stops(tmp_path):
    said, sink = [], FakeSink()
    made = companion(tmp_path / "gone", sink, FakePanel(50), say=said.append)
    run_virtual(run_for(made, 5))
    assert sink.moments
    assert "cannot be kept" in said[0]


def test_the_cursor_survives_a_torn_file_and_knows_runs_apart(tmp_path):
    cursor = Cursor(tmp_path / "otel.json")
    cursor.save("one", Place(sent_seq=7, needs_from_seq=3))
    cursor.save("two", Place(sent_seq=9, needs_from_seq=9))
    assert cursor.load("one") == Place(sent_seq=7, needs_from_seq=3)
    assert cursor.load("three") == Place()
    for torn in ("", "[]", '{"one": {"sent_seq": "7"}}', '{"one": 7}'):
        cursor.path.write_text(torn)
        assert cursor.load("one") == Place()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_SDK_DISABLED": "TRUE"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@h:4318"},
            OtelSettings(traces="http/protobuf", metrics="http/protobuf", place="h:4318", interval_s=60.0),
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "h:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_METRIC_EXPORT_INTERVAL": "5000"},
            OtelSettings(traces="grpc", metrics="grpc", place="h:4317", interval_s=5.0),
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:1/v1/traces"},
            OtelSettings(traces="http/protobuf", metrics=None, place="t:1", interval_s=60.0),
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"},
            OtelSettings(traces=None, metrics="grpc", place="h:1", interval_s=60.0),
        ),
    ],
)
def test_the_standard_settings_mean_what_they_mean_elsewhere(environment, expected):
    assert read_otel_settings(environment) == expected


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "soon"}, "OTEL_METRIC_EXPORT_INTERVAL"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "OTEL_METRICS_EXPORTER"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_its_name(changed, field):
    with pytest.raises(InputError) as refused:
        read_otel_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", **changed})
    assert refused.value.field == field
    assert refused.value.way_out


@pytest.mark.fault("F42")
def test_a_password_in_the_endpoint_is_said_nowhere(tmp_path):
    said = []
    settings = read_otel_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@h:4318"})
    made = companion(tmp_path, FakeSink(lambda: False), FakePanel(40), say=said.append, settings=settings)
    run_virtual(run_for(made, 20))
    with pytest.raises(InputError) as refused:
        read_otel_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://me:hunter2@h:4318"})
    assert "hunter2" not in json.dumps([said, dict(made.health()), str(refused.value)])


def test_only_so_many_places_are_kept_and_the_one_that_is_used_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(cursor_module, "RUNS_KEPT", 3)
    cursor = Cursor(tmp_path / "otel.json")
    for seq, run_id in enumerate(("mine", "demo-1", "demo-2", "mine", "demo-3", "demo-4"), 1):
        cursor.save(run_id, Place(sent_seq=seq))
    assert [cursor.load(run_id).sent_seq for run_id in ("mine", "demo-1", "demo-2", "demo-3", "demo-4")] == [4, 0, 0, 5, 6]
