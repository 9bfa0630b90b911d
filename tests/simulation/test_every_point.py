"""A crash at every await and every write of one life: nothing is chosen, every single point is struck once.

The histories of `test_histories` strike at random; here one story (two agents fall ill, are held, a person agrees, they are healed and let go)
is told as often as it has points, and each time the process dies at another one; what was written and not synced is once lost and once kept.
"""

from __future__ import annotations

import pytest

from proving.history import History
from proving.mortal import POINTS
from proving.script import Fault, Script, Setting

STORY = Script(
    setting=Setting(seed=7, ticks=40),
    faults=(
        Fault(1, "sick", 0, 3),
        Fault(1, "sick", 1, 3),
        Fault(10, "agree", 0, 1, 1),
        Fault(12, "agree", 0, 1, 1),
        Fault(14, "agree", 0, 1, 1),
        Fault(18, "agree", 0, 1, 1),
    ),
)
TOLD = {"contained", "approval_granted", "plan_started", "step_started", "probation_started", "plan_ended", "released"}


class Struck(History):
    """A history whose first life dies when it passes a point for the n-th time; 0 lets it live."""

    def __init__(self, point="await", nth=0, survives="lost"):
        super().__init__(STORY)
        self.point, self.nth, self.first = point, nth, None
        self.disk.survives = survives

    def _make(self, true_us):
        process = super()._make(true_us)
        if self.first is None:
            self.first = process
            if self.nth:
                process.life.fate.doom(self.point, self.nth)
        return process


@pytest.fixture(scope="module")
def points():
    """How often one life passes each point when nothing strikes."""
    undisturbed = Struck()
    outcome = undisturbed.play()
    assert outcome.crashes == 0
    assert outcome.kinds >= TOLD, "the story is whole, or its points would prove little"
    passed = undisturbed.first.life.fate.passed
    assert min(passed.values()) > 0
    return passed


def strike(point, numbers, survives):
    for nth in numbers:
        outcome = Struck(point, nth, survives).play()  # raises BreachError for whatever does not hold
        assert outcome.crashes == 1, f"{point} {nth} was never passed"
        assert outcome.escaped == 0
        assert outcome.kinds >= TOLD - {"approval_granted"}, f"after a crash at {point} {nth} the story was not told to its end"


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_here_and_there_loses_nothing(points, point):
    strike(point, (points[point] // 2,), "lost")


@pytest.mark.slow
@pytest.mark.parametrize(("point", "survives"), [*((point, "lost") for point in POINTS), *((point, "kept") for point in ("write", "sync", "ack"))])
def test_a_crash_at_every_single_point_loses_nothing(points, point, survives):
    strike(point, range(1, points[point] + 1), survives)
