"""``immune people`` and ``immune status``, as people use them."""

from __future__ import annotations

import io
import json
import sys

import pytest

from immune.cli import app
from immune.cli.output import run_guarded
from immune.cli.status import _show
from immune.stores.people import PeopleStore

GOOD = "correct horse battery"


@pytest.fixture
def immune(capsys, monkeypatch, tmp_path):
    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run_guarded(app, [*arguments, "--data-dir", str(tmp_path)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_person_is_added_from_standard_input_listed_without_the_password_and_removed(immune, tmp_path):
    code, out, err = immune("people", "add", "ada", "--role", "approver", "--password-stdin", stdin=GOOD + "\n")
    assert (code, GOOD in out + err) == (0, False)
    assert json.loads(immune("people", "list", "--json")[1]) == [{"name": "ada", "role": "approver"}]
    assert PeopleStore(tmp_path).check("ada", GOOD).role == "approver"
    assert immune("people", "remove", "ada")[0] == 0
    assert immune("people", "remove", "ada")[0] == 2
    assert "nobody" in immune("people")[1]


def test_a_password_is_asked_for_twice_and_never_shown(immune, monkeypatch):
    asked = []

    def prompt(text, **options):
        asked.append(options)
        return GOOD

    monkeypatch.setattr("typer.prompt", prompt)
    code, out, err = immune("people", "add", "ada", "--role", "viewer")
    assert code == 0
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]
    assert GOOD not in out + err


@pytest.mark.parametrize(
    ("name", "role", "password"), [("ada", "king", GOOD), ("a b", "viewer", GOOD), ("ada", "viewer", "short"), ("ada", "agent", GOOD)]
)
def test_what_cannot_be_is_refused_without_telling_the_password(immune, name, role, password):
    code, out, err = immune("people", "add", name, "--role", role, "--password-stdin", stdin=password + "\n")
    assert code == 2
    assert password not in out + err


def test_without_a_daemon_there_is_no_status(immune):
    code, _, err = immune("status")
    assert code == 3
    assert "no daemon runs" in err


def test_the_status_reads_like_speech(capsys):
    found = {
        "version": "1", "troubles": ["the journal cannot be written: full"], "companions": {"watchdog": {"trouble": "", "stalls": 0}},
        "run": {"run_id": "r", "mode": "act", "policy_version": "p"}, "journal": {"seq": 7}, "children": [
            {"name": "ticks", "status": "running", "failures": 0, "last_error": ""},
            {"name": "mirror", "status": "waiting", "failures": 2, "last_error": "OSError", "next_start": "2026-01-01T00:00:01Z"}],
        "ticks": {"done": 3, "skipped": 1, "last_age_s": 0.5}, "bounds": [{"name": "roster.agents", "size": 2, "limit": 10, "lost": 0}],
        "fleet": {"agents": 2, "contained": 1, "incidents_open": 1, "approvals_waiting": 0},
    }  # fmt: skip
    _show(found)
    out = capsys.readouterr().out
    for words in ("! the journal cannot be written: full", "3 ticks (1 skipped)", "watchdog: well", "roster.agents", "ticks", "waiting until"):
        assert words in out
