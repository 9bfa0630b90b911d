"""``immune replay`` as a person meets it: what it refuses, and the account it gives."""

from __future__ import annotations

import json

import pytest

from immune.cli import app
from immune.cli.output import run_guarded

ROWS = "at,agent,latency_ms\n2026-01-01T00:00:00Z,a,100\n2026-01-01T00:00:01Z,a,-5\n2026-01-01T00:00:02Z,a,120\n2026-01-01T00:00:02Z,a,130\n"


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text(ROWS, encoding="utf-8")
    return str(path)


def replayed(capsys, *arguments):
    code = run_guarded(app, ["replay", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "inf", "1000"])
def test_a_budget_that_no_policy_allows_is_refused_by_name(recording, capsys, budget):
    code, document = replayed(capsys, recording, "--budget", budget)
    assert (code, document["field"]) == (2, "--budget")


@pytest.mark.parametrize("period", ["inf", "1e30"])
def test_a_period_that_no_calendar_holds_is_refused(recording, capsys, period):
    assert replayed(capsys, recording, "--period", period)[0] == 2


def test_a_run_is_not_written_twice(recording, capsys, tmp_path):
    out = ("--out", str(tmp_path / "out"), "--run", "r-1")
    assert replayed(capsys, recording, *out)[0] == 0
    code, document = replayed(capsys, recording, *out)
    assert (code, document["field"]) == (4, "--run")


def test_what_was_rejected_is_in_the_journal_too(recording, capsys, tmp_path):
    _, document = replayed(capsys, recording, "--out", str(tmp_path / "out"))
    assert document["rejected"] == {"negative": 1, "duplicate": 1}
    run_guarded(app, ["journal", "export", "--data-dir", str(tmp_path / "out")])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["body"]["counts"] for event in events if event["kind"] == "samples_rejected"] == [[["duplicate", 1], ["negative", 1]]]
