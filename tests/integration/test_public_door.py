"""The same fleet as arrays to the sentinel and as a CSV to ``immune replay FILE --json``: the same agents, at the same second."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from immune.cli import app
from immune.cli.output import run_guarded

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # behind the root: there is a dashboard.py in it, too

from trials.door import same_through_the_door


@pytest.mark.parametrize("shape", ["gamma", "tasks"])
def test_a_file_of_a_fleet_finds_what_its_arrays_find(shape) -> None:
    found = same_through_the_door(seed=4, shape=shape, agents=12, history=300)
    assert found["differ"] == []
    assert set(found["by_file"]) == set(found["by_arrays"])
    assert len(found["sick"].keys() & found["by_file"].keys()) >= 4


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> str:
    path = tmp_path / "fleet.csv"
    path.write_text(text, encoding="utf-8")
    code = run_guarded(app, ["replay", str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["error"]) == (2, "InputError")
    return str(document["way_out"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1780000000000,a,100,", "seconds since 1970, not milliseconds"),
        ("11/21/2026 1:05 PM,a,100,", "ISO 8601"),
        ("1780000000,a,100,OK", "working, idle, done"),
        ('1780000000,a,"1,234",', "decimal point"),
        ("1780000000,,100,", "every row needs an agent"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_says_what_its_values_should_have_been(tmp_path, capsys, row, said) -> None:
    assert said in refused(tmp_path, capsys, f"at,agent,latency_ms,status\n{row}\n")


def test_a_header_in_other_words_is_answered_with_the_mapping_that_fits(tmp_path, capsys) -> None:
    way_out = refused(tmp_path, capsys, "Timestamp,Latency\n1780000000,100\n")
    assert "--map latency_ms=Latency" in way_out


def test_a_column_in_another_unit_is_not_offered_as_the_vital_it_resembles(tmp_path, capsys) -> None:
    assert "=latency_s" not in refused(tmp_path, capsys, "Timestamp,latency_s\n1780000000,.1\n")
