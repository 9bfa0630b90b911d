"""The control plane is blind: what it does follows from behaviour alone, never from what was written down about it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from immune.bootstrap import Stores, build_engine
from immune.clock import VirtualClock, run_virtual
from immune.core.policy import Policy
from immune.stores.memory import MemoryJournal, MemoryTelemetry
from simulation.connector import SimulatedConnector
from simulation.fleet import SimulatedFleet
from simulation.scenario import load_scenario, read_scenario

ROOT = Path(__file__).resolve().parents[2]
START_US = 1_767_225_600_000_000
US = 1_000_000
PERIOD_US = 3 * US
MINUTES = 6
LISTED = """
[chaos]
rate = 0
outage = "none"
[[infection]]
agent = "coder-01"
kind = "token_explosion"
at_s = 20
duration_s = 300
[[infection]]
agent = "support-01"
kind = "error_burst"
at_s = 60
duration_s = 300
"""


@cache
def journal_of(scenario="listed", *, mislabel=False, unlabelled=False, minutes=MINUTES, agents=8, warmup_s=120.0):
    """Every event of a short run that acts, as stored, and how many labels were written."""
    fleet = SimulatedFleet(
        agents=agents,
        seed=5,
        start_us=START_US,
        period_us=PERIOD_US,
        duration_s=minutes * 60.0 - warmup_s,
        warmup_s=warmup_s,
        scenario=read_scenario(LISTED) if scenario == "listed" else load_scenario(scenario),
        mislabel=mislabel,
        unlabelled=unlabelled,
    )
    engine = build_engine(
        run_id="blind",
        sources=[fleet],
        stores=Stores(journal=MemoryJournal(), telemetry=MemoryTelemetry()),
        policy=Policy(mode="act"),
        period_us=PERIOD_US,
        connectors=[SimulatedConnector(fleet)],
    )

    async def life():
        engine.start(START_US)
        await engine.run(VirtualClock(START_US), first_us=START_US, until_us=START_US + minutes * 60 * US)
        await engine.finish(START_US + minutes * 60 * US, "done")

    run_virtual(life())
    fleet.truth.unseal()
    return tuple(engine.journal.read("blind")), len(fleet.truth.labels())


def short_run():
    """The head of a short run, for comparison with another process."""
    events, _ = journal_of(minutes=2, warmup_s=60.0)
    return events[-1].hash


@pytest.mark.slow
def test_labels_without_behaviour_change_nothing_at_all():
    flipped, labels = journal_of(mislabel=True)
    calm, none = journal_of("calm")
    assert (labels, none) == (2, 0)
    assert flipped == calm


@pytest.mark.slow
def test_behaviour_without_labels_is_treated_like_behaviour_with_them():
    labelled, labels = journal_of()
    unlabelled, none = journal_of(unlabelled=True)
    assert (labels >= 2, none) == (True, 0)
    assert unlabelled == labelled


def test_the_comparison_would_notice_a_difference():
    events, _ = journal_of()
    assert journal_of() != journal_of(mislabel=True)
    assert {"contained", "plan_ended", "incident_closed"} <= {event.kind for event in events}, "a whole cure is among what is compared"
