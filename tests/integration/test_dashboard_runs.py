"""Runs, moments and files: no data of another run, any moment folded anew, nothing executable carried away."""

from __future__ import annotations

import csv
import io
import json

from dashboard.history import History
from immune.core import events as ev
from immune.core.events import Draft
from immune.core.fold import canonical_hash, fold
from immune.core.state import RunState
from tests.integration.daemon_kit import open_incident, open_request
from tests.integration.dashboard_kit import dashboard, start

FORMULA = "=cmd|' /C calc'!A0"


def older_run(made, run_id="run-0", agent_id="elder-1"):
    """A run that was there before, on the same journal."""
    journal = made.engine.journal
    epoch = journal.acquire(run_id, "test", 0)
    started = ev.RunStarted(version="0", epoch=epoch, period_us=1, policy_version="p0", policy="", source="an older test")
    enrolled = ev.AgentEnrolled(index=0, type="elder", service="")
    drafts = [Draft(at_us=1_000_000, subject="run", event=started), Draft(at_us=2_000_000, subject=agent_id, event=enrolled)]
    journal.append(run_id, drafts, expected_seq=0, epoch=epoch)


async def test_the_data_of_another_run_never_shows(tmp_path):
    async with dashboard(tmp_path, run_id="run-1") as shown:
        pinned = start(tmp_path, made=shown.daemon, run_id="run-1")
        try:
            open_request(shown.daemon)
            older_run(shown.daemon, "run-2", "elder-1")
            await pinned.until(lambda: len(pinned.served.site.projection.state.approvals) == 1)
            page = pinned.page()
            for path in ("agents", "incidents", "approvals", "journal", "map", "stats", "changes", "healings"):
                text = (await page.get(f"/api/{path}")).text
                assert "elder" not in text, path
                other = (await page.get(f"/api/{path}?run=run-2")).text
                assert "sick-1" not in other, path
                assert '"run_id":"run-2"' in other, path
            assert (await page.get("/api/agent?id=sick-1&run=run-2")).status == 404
            assert (await page.get("/api/agents?run=run-9")).status == 404
            runs = (await page.get("/api/runs")).document["runs"]
            assert [(one["run_id"], one["followed"]) for one in runs] == [("run-2", False), ("run-1", True)]
            assert not (await pinned.script("approver").get("/api/agent?id=elder-1&run=run-2")).document["actions"]["contain"]["allowed"]
        finally:
            await pinned.close()


async def test_any_moment_is_the_fold_of_the_journal_until_then(tmp_path):
    async with dashboard(tmp_path) as shown:
        request = open_request(shown.daemon)
        open_incident(shown.daemon, "later-1")
        await shown.caught_up()
        page, state = shown.page(), shown.daemon.engine.state
        asked = next(one.seq for one in shown.daemon.engine.journal.read("run-1") if one.kind == "approval_requested")
        before = (await page.get(f"/api/approvals?at={asked - 1}")).document
        after = (await page.get(f"/api/approvals?at={asked}")).document
        assert (before["total"], after["total"], before["past"], before["seq"]) == (0, 1, True, asked - 1)
        assert (await page.get(f"/api/approvals/{request['id']}?at={asked - 1}")).status == 404
        assert (await page.get("/api/agents?at=0")).document["total"] == 0
        assert (await page.get(f"/api/agents?at={state.seq + 100}")).document["past"] is False
        by_time = (await page.get(f"/api/agents?at=t{state.started_at_us - 1}")).document
        assert (by_time["total"], by_time["seq"]) == (0, 0)
        assert not (await shown.script("approver").get(f"/api/approvals/{request['id']}?at={asked}")).document["actions"]["approve"]["allowed"]
        times = (await page.get("/api/times")).document
        assert times["first_us"] <= times["last_us"]
        assert times["marks"][0]["id"] == request["incident"]


async def test_a_history_gives_the_state_of_every_seq_however_far_apart_its_states_are(tmp_path):
    async with dashboard(tmp_path) as shown:
        for number in range(12):
            open_incident(shown.daemon, f"a-{number}")
        envelopes = list(shown.daemon.engine.journal.read("run-1"))
    history, state = History(), RunState()
    history.every = 3
    for place in range(0, len(envelopes), 2):
        state = fold(state, envelopes[place : place + 2])
        history.note(state, envelopes[place : place + 2])
    for seq in range(len(envelopes) + 1):
        found = history.state_at(seq, lambda after, count: envelopes[after : after + count])
        assert canonical_hash(found) == canonical_hash(fold(RunState(), envelopes[:seq]))


async def test_lists_leave_as_csv_that_no_spreadsheet_executes(tmp_path):
    async with dashboard(tmp_path) as shown:
        open_incident(shown.daemon, FORMULA)
        open_incident(shown.daemon, "@SUM(1)")
        await shown.caught_up()
        page = shown.page()
        for name in ("agents", "incidents", "approvals", "journal", "healings", "containments", "tasks", "runs"):
            answer = await page.get(f"/api/{name}?format=csv")
            assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert "attachment" in answer.headers["Content-Disposition"]
            for row in csv.reader(io.StringIO(answer.text)):
                assert not [cell for cell in row if cell[:1] in ("=", "+", "@", "\t", "\r")], (name, row)
                assert all(_is_figure(cell) for cell in row if cell.startswith("-")), (name, row)
            as_json = await page.get(f"/api/{name}?format=json")
            assert "attachment" in as_json.headers["Content-Disposition"]
            json.loads(as_json.text)
        rows = list(csv.DictReader(io.StringIO((await page.get("/api/agents?format=csv&q=type:writer")).text)))
        assert {row["id"] for row in rows} == {"'" + FORMULA, "'@SUM(1)"}


def _is_figure(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


async def test_an_incident_leaves_as_a_post_mortem_in_which_names_stay_text(tmp_path):
    async with dashboard(tmp_path) as shown:
        hostile = "`x`](http://evil.example) <b>"
        request = open_request(shown.daemon, hostile)
        await shown.caught_up()
        person = await shown.browser("approver")
        await person.post(f"/api/approvals/{request['id']}/reject", {"reason": "*not* <now> [x](http://evil.example)"})
        answer = await person.get(f"/api/incidents/{request['incident']}/export?format=md")
        assert answer.headers["Content-Type"].startswith("text/markdown")
        for section in ("## Evidence", "## Decisions", "## What was done, and its effect", "## Timeline"):
            assert section in answer.text
        assert "person:approver" in answer.text
        assert "\\*not\\* \\<now\\>" in answer.text
        assert f"`` {hostile} ``" in answer.text
        story = (await person.get(f"/api/incidents/{request['incident']}/export?format=json")).document
        assert story["approvals"][0]["decided_by"] == "person:approver"
        assert [one["seq"] for one in story["timeline"]] == sorted(one["seq"] for one in story["timeline"])
        assert (await person.get(f"/api/incidents/{request['incident']}/export?format=exe")).status == 400


async def test_the_policy_page_says_why_every_rule_exists(tmp_path):
    async with dashboard(tmp_path) as shown:
        found = (await shown.page().get("/api/policy")).document
        assert (found["mode"], found["version"]) == ("act", shown.daemon.engine.rules.version)
        assert all(rule["why"] for rule in found["rules"])
        assert next(rule for rule in found["rules"] if rule["name"] == "mode")["changed"]
        assert found["actions"]
        assert "token_explosion" in found["kinds"]


async def test_the_report_of_a_run_lets_its_own_style_through_and_nothing_else(tmp_path):
    async with dashboard(tmp_path) as shown:
        open_incident(shown.daemon, "<script>alert(1)</script>")
        await shown.caught_up()
        answer = await shown.page().get("/runs/run-1/report")
        assert answer.status == 200
        assert "<script>alert" not in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "sha256-" in policy
        assert "unsafe" not in policy


async def test_before_the_first_run_pages_say_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    shown = start(tmp_path / "empty")
    try:
        await shown.until(lambda: shown.served.site.follower.trouble != "not read yet")
        page = shown.page()
        assert (await page.get("/fleet")).status == 200
        assert (await page.get("/api/agents")).document["total"] == 0
        assert (await page.get("/api/stats")).document["agents"] == 0
        ready = await page.get("/readyz")
        assert ready.status == 503
        assert "no run has been recorded here" in ready.document["status"]
        assert (await page.get("/api/runs")).document["total"] == 0
        assert (await page.get("/api/journal")).document["events"] == []
    finally:
        await shown.close()
