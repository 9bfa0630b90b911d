"""What every source of samples does, whoever made it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from immune.core.intake import falls_behind, repeats
from immune.core.policy import LimitsPolicy
from immune.core.vitals import CONTEXT_FIELDS, MISSING, Lexicon, Roster, SampleBatch, Status, VitalSchema
from immune.ports import AgentSource, Desk
from immune.sources.ingest import IngestSource
from immune.sources.replay import ReplaySource

START_US = 1_767_225_600_000_000
PERIOD_US = 1_000_000
TICKS = 30


def replay(folder: Path) -> AgentSource:
    path = folder / "fleet.csv"
    rows = [f"{START_US / 1e6 + tick + agent / 10:.1f},agent-{agent},{tick + 1},gpt,{tick}" for tick in range(TICKS) for agent in range(5)]
    path.write_text("\n".join(["at,agent,latency_ms,model,step", *rows]))
    return ReplaySource([path])


def streamed_replay(folder: Path) -> AgentSource:
    replay(folder)
    return ReplaySource([folder / "fleet.csv"], stream_over_bytes=0)


def simulated(_: Path) -> AgentSource:
    from simulation.fleet import SimulatedFleet

    fleet: AgentSource = SimulatedFleet(agents=15, seed=7, start_us=START_US, period_us=PERIOD_US)
    return fleet


class Posted(IngestSource):
    """Five agents post their sample of each second just before the tick."""

    def __init__(self) -> None:
        super().__init__(LimitsPolicy())
        self.posted = 0

    async def collect(self, now_us: int) -> SampleBatch:
        while self.posted < TICKS and START_US + (self.posted + 1) * PERIOD_US <= now_us:
            self.posted += 1
            at_s = START_US / PERIOD_US + self.posted
            rows = [{"agent": f"agent-{n}", "at": at_s - n / 10, "latency_ms": 5 + n, "model": "m", "step": self.posted} for n in range(5)]
            assert self.offer(rows, now_us) == []
        return await super().collect(now_us)


class Exported(Posted):
    """Five agents export the span of a model call of each second just before the tick."""

    async def collect(self, now_us: int) -> SampleBatch:
        while self.posted < TICKS and START_US + (self.posted + 1) * PERIOD_US <= now_us:
            self.posted += 1
            end_ns = (START_US + self.posted * PERIOD_US) * 1000
            spans = [chat_span(f"agent-{n}", end_ns - n * 100_000_000, 5 + n) for n in range(5)]
            document = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
            assert self.offer(self.otlp.read("traces", json.dumps(document).encode(), "application/json").rows(), now_us) == []
        return await IngestSource.collect(self, now_us)


def chat_span(agent_id: str, end_ns: int, latency_ms: int) -> dict[str, object]:
    said = {"gen_ai.operation.name": "chat", "gen_ai.agent.id": agent_id, "gen_ai.request.model": "m"}
    return {
        "traceId": agent_id.encode().hex(),
        "startTimeUnixNano": str(end_ns - latency_ms * 1_000_000),
        "endTimeUnixNano": str(end_ns),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in said.items()],
    }


def ingest(_: Path) -> AgentSource:
    return Posted()


def exported(_: Path) -> AgentSource:
    return Exported()


MAKERS: dict[str, Callable[[Path], AgentSource]] = {"replay": replay, "streamed replay": streamed_replay, "ingest": ingest, "otlp": exported}
if find_spec("simulation.fleet") is not None:
    MAKERS["simulated fleet"] = simulated


@pytest.fixture
def desk() -> Desk:
    return Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema())


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def source(request: pytest.FixtureRequest, tmp_path: Path, desk: Desk) -> AgentSource:
    made: AgentSource = request.param(tmp_path)
    made.open(desk)
    return made


def gather(source: AgentSource, ticks: int = TICKS) -> list[SampleBatch]:
    async def each_tick() -> list[SampleBatch]:
        batches = [await source.collect(START_US + tick * PERIOD_US) for tick in range(1, ticks + 1)]
        await source.close()
        return batches

    return asyncio.run(each_tick())


def test_a_source_has_a_name_and_brings_samples(source: AgentSource) -> None:
    assert source.name
    assert sum(map(len, gather(source))) > TICKS


def test_arrays_have_the_shapes_and_types_of_a_batch(source: AgentSource, desk: Desk) -> None:
    blank = SampleBatch.blank(0, len(desk.schema))
    for batch in gather(source):
        for name in ("agent", "at_us", "values", "step", "status", "task_id", "codes"):
            array, wanted = getattr(batch, name), getattr(blank, name)
            assert array.dtype == wanted.dtype, name
            assert array.shape == (len(batch), *wanted.shape[1:]), name


def test_agents_are_enrolled_before_their_samples_come(source: AgentSource, desk: Desk) -> None:
    for batch in gather(source):
        assert ((batch.agent >= 0) & (batch.agent < len(desk.roster))).all()


def test_times_rise_within_each_agent_across_batches(source: AgentSource) -> None:
    whole = SampleBatch.concatenate(gather(source))
    assert not falls_behind(whole.agent, whole.at_us).any()
    assert not repeats(whole.agent, whole.at_us).any()


def test_nothing_comes_from_far_in_the_future(source: AgentSource) -> None:
    for tick, batch in enumerate(gather(source), 1):
        assert (batch.at_us <= START_US + (tick + 1) * PERIOD_US).all()


def test_collecting_twice_at_one_time_gives_nothing_new(source: AgentSource) -> None:
    async def twice() -> tuple[int, int]:
        at_us = START_US + 5 * PERIOD_US
        first, second = await source.collect(at_us), await source.collect(at_us)
        await source.close()
        return len(first), len(second)

    first, second = asyncio.run(twice())
    assert first > 0
    assert second == 0


def test_codes_and_statuses_have_a_meaning(source: AgentSource, desk: Desk) -> None:
    whole = SampleBatch.concatenate(gather(source))
    assert whole.codes.shape[1] == len(CONTEXT_FIELDS)
    assert (whole.codes >= MISSING).all()
    assert (whole.codes < len(desk.lexicon)).all()
    assert set(whole.status.tolist()) <= set(map(int, Status))
    assert (whole.step >= MISSING).all()
    assert (whole.task_id >= 0).all()


def test_values_are_missing_or_possible(source: AgentSource, desk: Desk) -> None:
    values = SampleBatch.concatenate(gather(source)).values
    limits = np.array([spec.max_value for spec in desk.schema.specs])
    assert (np.isnan(values) | ((values >= 0) & (values <= limits))).all()
