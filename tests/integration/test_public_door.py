"""The same fleet as arrays to the sentinel and as a CSV to ``immune replay FILE --json``: the same agents, at the same second."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from trials.door import same_through_the_door


@pytest.mark.parametrize("shape", ["gamma", "tasks"])
def test_a_file_of_a_fleet_finds_what_its_arrays_find(shape) -> None:
    found = same_through_the_door(seed=4, shape=shape, agents=12, history=300)
    assert found["differ"] == []
    assert set(found["by_file"]) == set(found["by_arrays"])
    assert len(found["sick"].keys() & found["by_file"].keys()) >= 4
