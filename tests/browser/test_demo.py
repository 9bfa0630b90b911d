"""The demo as a person meets it: a link in the terminal, a request within the minute, a decision by keyboard."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

from tests.browser.conftest import ROOT

HEARS_INTERRUPTS = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
"""A shell that starts the tests in the background has its children ignore Ctrl-C; a person's shell does not."""


@pytest.mark.slow
def test_the_person_of_a_demo_decides_in_the_browser_within_its_first_minutes(tmp_path, tab):
    command = [
        sys.executable,
        "-c",
        HEARS_INTERRUPTS,
        "demo.py",
        "--duration",
        "120",
        "--agents",
        "15",
        "--seed",
        "7",
        "--decide",
        "ask",
        "--out",
        str(tmp_path),
        "--run",
        "live-1",
    ]
    environment = {**os.environ, "IMMUNE_PORT": "0", "IMMUNE_DASHBOARD_PORT": "0"}
    demo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        heard = []
        said = next((line for line in demo.stderr if heard.append(line) or "decide in the browser" in line), None)
        assert said, "the demo said: " + "".join(heard)
        url, path = re.search(r"(http://[\d.:]+)(/login#\S+)", said).groups()
        assert json.loads((tmp_path / "dashboard.json").read_text())["url"] == url
        watched = tab(url)
        page = watched.page
        page.goto(url + path)
        page.wait_for_url("**/fleet")
        page.get_by_text("demo (approver)").wait_for()
        page.locator("#pending-count:not([hidden])").wait_for(timeout=100_000)
        page.keyboard.press("g")
        page.keyboard.press("a")
        page.wait_for_url("**/approvals")
        watched.loaded()
        page.locator("article [data-act=Approve]").first.wait_for()
        page.keyboard.press("a")
        page.locator("dialog[open]").wait_for()
        page.keyboard.press("Enter")
        page.get_by_text("approved; it starts").wait_for()
        rows = sqlite3.connect(f"file:{tmp_path}/journal.db?mode=ro", uri=True).execute("SELECT actor FROM events WHERE kind = 'approval_granted'")
        assert rows.fetchall() == [("person:demo",)]
        page.goto("about:blank")
        watched.wrong = [one for one in watched.wrong if "ERR_" not in one]
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=30)
    assert not (tmp_path / "dashboard.json").exists(), "the dashboard goes with the demo"
