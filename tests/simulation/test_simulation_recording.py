"""A recorded run is a replay file that says exactly what was said."""

from __future__ import annotations

import asyncio
import csv

import numpy as np
import pytest

from immune.core.vitals import CONTEXT_FIELDS, VITALS, AgentIdentity, Lexicon, Roster, SampleBatch, VitalSchema
from immune.errors import StoreUnavailableError
from immune.ports import Desk
from immune.sources.replay import ReplaySource
from simulation.recording import RecordedSource, Recording


def new_desk():
    return Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema())


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_says_what_the_sample_said_and_leaves_the_rest_empty(bench, tmp_path):
    made = bench(seed=2)
    batch = made.run(40)
    with Recording(tmp_path / "run.csv", made.desk) as recording:
        recording.write(batch)
    rows = rows_of(tmp_path / "run.csv")
    assert recording.samples == len(rows) == len(batch) == 600
    assert list(rows[0]) == ["at", "agent", "type", "service", *CONTEXT_FIELDS, "task_id", "step", "status", *(spec.name for spec in VITALS)]
    for place, row in enumerate(rows):
        assert row["agent"] == made.desk.roster.agent_id(int(batch.agent[place]))
        for column, spec in enumerate(VITALS):
            value = batch.values[place, column]
            assert row[spec.name] == "" if np.isnan(value) else float(row[spec.name]) == value
        assert (row["status"], row["step"] == "") in {("working", False), ("idle", True)}


def test_a_replay_of_a_recording_gives_the_samples_back(bench, tmp_path):
    made = bench(seed=2, scenario="storm")
    said = made.run(120)
    with Recording(tmp_path / "run.csv", made.desk) as recording:
        recording.write(said)
    desk = new_desk()
    source = ReplaySource([tmp_path / "run.csv"])
    source.open(desk)
    again = asyncio.run(source.collect(made.fleet.now_us + 1_000_000))
    assert len(again) == len(said)
    assert {identity.agent_id: identity for identity in desk.roster.identities} == {i.agent_id: i for i in made.desk.roster.identities}
    for agent_id in made.fleet.cast.ids:
        first = said.take(said.agent == made.desk.roster.find(agent_id))
        second = again.take(again.agent == desk.roster.find(agent_id))
        for name in ("at_us", "values", "step", "status"):
            assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name == "values"), name


def test_hostile_ids_are_only_text(tmp_path):
    desk = new_desk()
    names = ['=1+1,"x"', "a,b", "'; DROP TABLE agents"]
    batch = SampleBatch.blank(len(names))
    batch.agent[:] = [desk.roster.enroll(AgentIdentity(agent_id=name)) for name in names]
    with Recording(tmp_path / "run.csv", desk) as recording:
        recording.write(batch)
    assert [row["agent"] for row in rows_of(tmp_path / "run.csv")] == names


def test_a_recorded_source_says_what_it_writes(bench, tmp_path):
    made = bench(seed=2)
    source = RecordedSource(made.fleet, tmp_path / "run.csv")
    source.open(new_desk())

    async def run():
        batch = await source.collect(made.fleet.start_us + 20_000_000)
        await source.close()
        await source.close()
        return batch

    assert len(asyncio.run(run())) == len(rows_of(tmp_path / "run.csv")) == 21 * 15


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StoreUnavailableError) as caught:
        Recording(tmp_path / "nowhere" / "run.csv", new_desk())
    assert "run.csv" in str(caught.value)
