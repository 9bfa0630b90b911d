"""A fleet at its desk, and the samples it gives."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.vitals import VITALS, Lexicon, Roster, SampleBatch, Status, VitalSchema
from immune.ports import Desk
from simulation.fleet import SimulatedFleet
from simulation.scenario import read_scenario

START_US = 1_767_225_600_000_000
US = 1_000_000
COLUMN = {spec.name: place for place, spec in enumerate(VITALS)}


class Bench:
    """A fleet, its desk, and what its agents said so far."""

    def __init__(self, *, scenario="calm", infections="", duration_s=1800.0, warmup_s=0.0, period_s=1, **arguments):
        if infections:
            scenario = read_scenario("[chaos]\nrate = 0\noutage = 'none'\n" + infections)
        self.period_us = period_s * US
        times = {"start_us": START_US, "period_us": self.period_us, "duration_s": duration_s, "warmup_s": warmup_s}
        self.fleet = SimulatedFleet(scenario=scenario, **times, **arguments)
        self.desk = Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema())
        self.fleet.open(self.desk)
        self.tick = -1

    def run(self, ticks):
        """The samples of this many more ticks."""
        batches = []
        for _ in range(ticks):
            self.tick += 1
            batches.append(self.fleet.advance(START_US + self.tick * self.period_us))
        return SampleBatch.concatenate(batches)

    def of(self, batch, agent_id):
        """The samples of one agent."""
        return batch.take(batch.agent == self.desk.roster.find(agent_id))

    def vital(self, batch, agent_id, name):
        """The values of one vital of one agent, heartbeats left out."""
        values = self.of(batch, agent_id).values[:, COLUMN[name]]
        return values[~np.isnan(values)]

    def worked(self, batch, agent_id):
        """How many steps an agent worked."""
        return int((self.of(batch, agent_id).status == Status.WORKING).sum())

    def words(self, batch, agent_id, field):
        """The words of a context field in an agent's worked steps."""
        own = self.of(batch, agent_id)
        return [self.desk.lexicon.word(code) for code in own.codes[own.status == Status.WORKING, field].tolist()]


def listed(kind, *, agent="coder-01", at_s=200, duration_s=300, strength=None):
    """A scenario's entry for one infection."""
    size = "" if strength is None else f"strength = {strength}\n"
    return f"[[infection]]\nagent = '{agent}'\nkind = '{kind}'\nat_s = {at_s}\nduration_s = {duration_s}\n{size}"


@pytest.fixture(scope="session")
def bench():
    """Makes a `Bench`."""
    return Bench


@pytest.fixture(scope="session")
def infection():
    """Writes a scenario's entry for one infection."""
    return listed


@pytest.fixture(scope="session")
def calm_run():
    """A calm fleet of fifteen, and half an hour of it."""
    bench = Bench(seed=3)
    return bench, bench.run(1800)
