"""Comfort, access and trust on every page: lines D3 to D12 and D14. What is live (D1, D2) is in `test_live.py`, D15 in `test_time_travel.py`."""

from __future__ import annotations

import csv
import json
import re
import shutil
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from dashboard import documents
from dashboard.routes import reading
from dashboard.serving import make_server
from dashboard.site import Options
from immune.api.problems import ProblemError
from immune.clock import SystemClock
from immune.errors import RefusedError
from tests.browser.conftest import DEADLINE_S, NARROW, WIDE, Served, enter, live
from tests.integration.daemon_kit import open_incident, open_request

PAGES = (
    "/fleet", "/agents/coder-04", "/incidents", "/incidents/inc-0001", "/approvals", "/approvals/req-0001", "/journal", "/journal/e5", "/policy",
    "/runs", "/runs/demo-1", "/system", "/login",
)  # fmt: skip
FIRST_LOAD_BYTES = 200_000
KEYSTROKES = 6


# -- D3 ----------------------------------------------------------------------------------------------------------------------


def test_d3_a_page_says_that_it_loads(recorded, tab):
    watched, held = tab(recorded.url), []
    page = watched.page

    def hold(route):  # a function: Playwright asks a handler how many arguments it takes, and a builtin does not say
        held.append(route)

    page.route("**/api/agents", hold)
    page.goto(recorded.url + "/fleet")
    page.locator("#agents[aria-busy=true]", has_text="Loading").wait_for()
    recorded.wait(lambda: page.evaluate("1") == 1 and bool(held))
    held[0].continue_()
    watched.loaded()
    assert page.locator(".tile").count() == 15


def test_d3_an_empty_house_says_how_to_fill_it(tmp_path, chromium, tab):
    shown = Served(folder=tmp_path).start()
    try:
        watched = tab(shown.url)
        for path, said in (
            ("/fleet", "No agents yet: run python demo.py"),
            ("/incidents", "No incidents yet."),
            ("/approvals", "Nothing waits for you."),
            ("/journal", "No event fits."),
            ("/runs", "No runs yet: run python demo.py"),
            ("/policy", "min_samples"),
            ("/system", "away"),
        ):
            page = watched.open(path)
            page.locator("main").get_by_text(said).first.wait_for()
    finally:
        shown.stop()


def test_d3_an_error_has_its_message_its_request_id_and_a_way_on(recorded, tab, monkeypatch):
    watched = tab(recorded.url)
    watched.allowed |= {404, 500}
    page = watched.open("/agents/nobody")
    panel = page.locator("#agent-head [role=alert]")
    assert "no such agent in this run" in panel.inner_text()
    assert re.search(r"Request id [0-9a-f]{16}", panel.inner_text())

    def broken(*_):
        raise ValueError("a mistake of ours")

    for module in (documents, reading.documents):
        monkeypatch.setattr(module, "incident_summary", broken)
    ids = []
    page.on("response", lambda answer: ids.append(answer.headers["x-request-id"]) if answer.status == 500 else None)
    watched.open("/incidents")
    panel = page.locator("#list [role=alert]")
    assert "something went wrong here" in panel.inner_text()
    assert re.search(r"Request id ([0-9a-f]{16})", panel.inner_text())[1] in ids, "whoever reads the log finds it by this"
    assert "a mistake of ours" not in panel.inner_text()
    monkeypatch.undo()
    panel.get_by_role("button", name="Try again").click()
    page.locator("#list tbody tr").first.wait_for()
    assert not page.locator("#list [role=alert]").count()


def test_d3_what_was_shown_stays_below_the_error_of_a_later_load(stage, tab, monkeypatch):
    stage.do(lambda made: open_incident(made, "sick-1"))
    watched = tab(stage.url)
    watched.allowed.add(500)
    page = live(watched.open("/incidents"))
    row = page.locator("#list tbody tr")
    row.first.wait_for()

    def broken(*_):
        raise ValueError("a mistake of ours")

    for module in (documents, reading.documents):
        monkeypatch.setattr(module, "incident_summary", broken)
    stage.do(lambda made: open_incident(made, "sick-2"))
    again = page.locator("#late").get_by_role("button", name="Try again")
    again.wait_for()
    assert row.count() == 1, "the last known stays"
    button = again.element_handle()
    with page.expect_response(lambda answer: answer.status == 500):
        again.click()
    page.locator("#late [role=alert]").wait_for()
    assert button.evaluate("(one) => one.isConnected"), "the button under the pointer is the same after another failure"
    monkeypatch.undo()
    again.click()
    page.locator("#late").wait_for(state="detached")
    assert row.count() == 2


def test_d3_a_store_that_is_away_is_told_in_a_banner_while_the_last_known_stays(recorded, tab, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(recorded.folder, folder)
    shown = Served(folder=folder).start()
    shown.wait(lambda: shown.served.site.projection.state.ended_at_us > 0)
    try:
        page = tab(shown.url).open("/fleet")
        page.locator("#live-chip", has_text="away").wait_for()  # connected; a demo that is over has no daemon
        (folder / "journal.db").rename(folder / "kept.db")
        (folder / "journal.db").write_bytes(b"no database at all " * 400)
        page.locator("#banners .banner", has_text="journal").wait_for()
        assert page.locator("#banners").get_attribute("role") == "alert"
        assert page.locator(".tile").count() == 15
        (folder / "kept.db").replace(folder / "journal.db")
        page.locator("#banners .banner", has_text="journal.db").wait_for(state="detached")
        (folder / "telemetry.db").rename(folder / "kept.db")
        page.locator("#banners .banner", has_text="the measurements cannot be read").wait_for()
        assert "ago" in page.locator(".tile").first.inner_text(), "the last known stays"
        page.reload()
        page.locator(".tile").first.wait_for()
        assert not page.locator(".tile", has_text="not seen yet").count(), "who has a baseline was seen"
        (folder / "kept.db").rename(folder / "telemetry.db")
        page.locator("#banners .banner", has_text="measurements").wait_for(state="detached")
    finally:
        shown.stop()


def test_d3_charts_without_measurements_say_so(recorded, tab, monkeypatch):
    watched = tab(recorded.url)
    watched.allowed.add(503)
    kept = type(recorded.served.site.sources).telemetry

    def away(self):
        raise ProblemError(503, "the measurements cannot be read", way_out="try again")

    monkeypatch.setattr(type(recorded.served.site.sources), "telemetry", away)
    page = watched.open("/agents/coder-04")
    panel = page.locator("#charts-say [role=alert]")
    panel.get_by_text("the measurements cannot be read").wait_for()
    monkeypatch.setattr(type(recorded.served.site.sources), "telemetry", kept)
    panel.get_by_role("button", name="Try again").click()
    page.locator("#charts canvas").first.wait_for()
    assert not panel.count()


# -- D4 ----------------------------------------------------------------------------------------------------------------------


def test_d4_the_keyboard_goes_everywhere_and_native_dialogs_take_it(stage, tab):
    for number in (1, 2):
        stage.do(lambda made, number=number: open_request(made, f"sick-{number}"))
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", "/fleet"))

    def focused():
        return page.evaluate("document.activeElement.closest('[data-row]')?.dataset.key ?? document.activeElement.id")

    for key, path in (
        ("a", "/approvals"),
        ("i", "/incidents"),
        ("j", "/journal"),
        ("p", "/policy"),
        ("r", "/runs"),
        ("s", "/system"),
        ("f", "/fleet"),
    ):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**{path}")
        watched.loaded()
    page.keyboard.press("/")
    assert focused() == "filter"
    page.keyboard.type("sick g a j ?")
    assert page.locator("#filter").input_value() == "sick g a j ?", "whoever types is not interrupted"
    assert page.url.endswith("sick+g+a+j+%3F")
    page.locator("#filter").fill("")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    assert focused() == "sick-1"
    page.keyboard.press("j")
    assert focused() == "sick-2"
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert focused() == "sick-1"
    page.keyboard.press("Enter")
    page.wait_for_url("**/agents/sick-1")
    watched.loaded()
    page.keyboard.press("?")
    assert page.locator("#help").evaluate("(one) => one instanceof HTMLDialogElement && one.matches(':modal')")
    assert {"g f", "g a", "/", "j k", "Enter", "a", "r", "?", "Esc"} <= set(page.locator("#help kbd").all_inner_texts())
    page.keyboard.press("g")
    page.keyboard.press("a")
    assert "/agents/" in page.url, "a dialog has the keyboard for itself"
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/approvals")
    watched.loaded()
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = focused()
    page.keyboard.press("r")
    assert page.locator("#ask").evaluate("(one) => one instanceof HTMLDialogElement && one.matches(':modal')")
    assert second in page.locator("#ask-title").inner_text(), "the one that has the focus is meant"
    page.keyboard.press("Escape")
    assert focused() == second, "closing gives the focus back"
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/approvals/{second}")
    watched.loaded()
    page.keyboard.press("a")
    page.locator("#ask-title", has_text=second).wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Undo").wait_for()
    assert stage.made.engine.state.approvals[second].decided_by == "person:approver"


def test_d4_a_decision_takes_few_keystrokes_from_the_open_page(stage, tab):
    request = stage.do(open_request)
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", "/fleet"))
    pressed = 0
    for key in ("g", "a", "a", "Enter"):
        if key == "a" and pressed == 2:
            page.wait_for_url("**/approvals")
            watched.loaded()
            page.locator("article").wait_for()
        page.keyboard.press(key)
        pressed += 1
    page.get_by_role("button", name="Undo").wait_for()
    assert stage.made.engine.state.approvals[request["id"]].status == "granted"
    assert pressed <= KEYSTROKES
    print(pressed, "keystrokes")


FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
NUMBERED = f"""() => {{
    const seen = (one) => one.getClientRects().length && getComputedStyle(one).visibility === 'visible' && !one.disabled && !one.closest('dialog:not([open])') && one.tabIndex >= 0;
    const found = [...document.querySelectorAll("{FOCUSABLE}")].filter(seen);
    globalThis.waiting = new Set(found);
    return found.length;
}}"""


@pytest.mark.parametrize("path", ["/fleet?view=map", "/agents/coder-04", "/approvals", "/incidents/inc-0001", "/journal?kind=plan_ended", "/system"])
def test_d4_everything_is_reached_by_tab(recorded, tab, path):
    page = tab(recorded.url).open(path)
    if path.startswith("/agents"):
        page.locator("#charts canvas").first.wait_for()
    page.get_by_role("button", name="Pause").click()
    page.evaluate("document.activeElement.blur()")
    count = page.evaluate(NUMBERED)
    for _ in range(count + 3):
        page.keyboard.press("Tab")
        page.evaluate("() => waiting.delete(document.activeElement)")
    assert page.evaluate("[...waiting].map((one) => one.outerHTML.slice(0, 120))") == []


def test_d4_the_skip_link_leads_to_the_content_and_reloads_nothing(recorded, tab):
    page = tab(recorded.url).open("/fleet")
    page.evaluate("() => { globalThis.kept = true; document.activeElement.blur(); }")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.evaluate("globalThis.kept")


# -- D5, D7 ------------------------------------------------------------------------------------------------------------------


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")


def test_d5_dark_and_light_follow_the_system_and_the_choice_of_the_person(recorded, tab):
    watched = tab(recorded.url, scheme="dark")
    page = watched.open("/agents/coder-04")
    assert sum(ground(page)) < 150
    page.emulate_media(color_scheme="light")
    assert sum(ground(page)) > 600
    page.locator("#charts canvas").first.wait_for()
    stroke = "document.querySelector('.chart').kept.plot.series[1].stroke()"
    before = page.evaluate(stroke)
    page.get_by_role("button", name="Switch between dark and light").click()
    assert sum(ground(page)) < 150
    page.wait_for_function(f"([before]) => {stroke} !== before", arg=[before])  # charts follow, too
    # the choice stays, on every page, before anything is drawn
    for path in ("/agents/coder-04", "/fleet", "/login"):
        page.goto(recorded.url + path, wait_until="commit")
        page.wait_for_selector("body", state="attached")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        watched.loaded()
        assert sum(ground(page)) < 150
    page.get_by_role("button", name="Switch between dark and light").click()
    assert sum(ground(page)) > 600


@pytest.mark.parametrize("path", PAGES)
def test_d7_no_page_scrolls_sideways_on_a_phone(recorded, tab, path):
    page = tab(recorded.url, viewport=NARROW).open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_d7_a_request_is_decided_with_a_thumb(stage, tab):
    request = stage.do(open_request)
    watched = tab(stage.url, viewport=NARROW, has_touch=True)
    page = live(enter(watched, stage, "approver", "/fleet"))
    page.get_by_role("link", name="Decide now").tap()
    page.wait_for_url("**/approvals")
    watched.loaded()
    for label in ("Approve", "Reject"):
        button = page.get_by_role("button", name=label, exact=True)
        box = button.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= NARROW["width"]
        assert box["y"] + box["height"] <= NARROW["height"], "in reach without scrolling"
    for said in ("sick-1", "token explosion", "severity 8.0 of 10"):
        assert said in page.locator("article").inner_text()
    page.get_by_role("button", name="Approve", exact=True).tap()
    assert page.locator("#ask-ok").bounding_box()["height"] >= 44
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    page.locator("#ask-ok").tap()
    page.get_by_role("button", name="Undo").wait_for()
    assert stage.made.engine.state.approvals[request["id"]].decided_by == "person:approver"


# -- D8 ----------------------------------------------------------------------------------------------------------------------

INLINE = re.compile(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", re.IGNORECASE)


def test_d8_every_page_is_without_error_without_another_origin_and_without_anything_inline(recorded, tab):
    watched = tab(recorded.url)  # which fails for an error on the console and for a request elsewhere
    for path in (*PAGES, "/runs/demo-1/report"):
        answer = watched.page.goto(recorded.url + path)
        assert answer.status == 200
        watched.loaded()
        rules = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert rules["default-src"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert {rules[name] for name in ("script-src", "connect-src") if name in rules} <= {"'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert watched.page.locator("h1").first.text_content()
        if "report" not in path:
            assert not INLINE.search(answer.text())
            icon = watched.page.locator("link[rel=icon]").get_attribute("href")
            assert watched.page.request.get(recorded.url + icon).headers["content-type"].startswith("image/svg+xml")


@pytest.mark.parametrize(
    "wrong",
    ["console.error('x')", "fetch('http://127.0.0.2:9/').catch(() => 0)", "setTimeout(() => { throw new Error('x'); })", "fetch('/api/none')"],
)
def test_d8_the_watch_over_every_tab_sees_what_it_is_there_for(recorded, tab, wrong):
    watched = tab(recorded.url)
    page = watched.open("/fleet")
    assert watched.wrong == []
    page.evaluate(f"() => {{ {wrong}; }}")
    recorded.wait(lambda: page.evaluate("1") == 1 and bool(watched.wrong))
    watched.wrong.clear()


# -- D9 ----------------------------------------------------------------------------------------------------------------------


def fetched(page, link):
    """The file that a link downloads: (its name, its text)."""
    with page.expect_download() as download:
        link.click()
    return download.value.suggested_filename, download.value.path().read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "fill", "name", "column"),
    [
        ("/fleet", "type:coder", "agents", "id"),
        ("/incidents", "subject:none diagnosis:token_explosion", "incidents", "id"),
        ("/incidents", "open:false", "incidents", "id"),
        ("/approvals", "status:used", "approvals", "id"),
        ("/journal", "probation", "events", "id"),
        ("/runs", "", "runs", "run_id"),
    ],
)
def test_d9_every_list_is_exported_as_it_is_filtered(recorded, tab, path, fill, name, column):
    watched = tab(recorded.url)
    page = watched.open(path)
    if fill:
        page.locator("#filter").fill(fill)
        page.locator("#filter").press("Enter")
    page.wait_for_function("([fill]) => !fill || location.search.length > 3", arg=[fill])
    watched.loaded()
    _, text = fetched(page, page.get_by_role("link", name="JSON", exact=True))
    rows = json.loads(text)[name]
    filename, text = fetched(page, page.get_by_role("link", name="CSV", exact=True))
    assert filename.endswith(".csv")
    cells = list(csv.DictReader(text.splitlines()))
    assert [row[column] for row in cells] == [row[column] for row in rows]
    keys = page.locator("main .tile, main tbody tr, main article").evaluate_all("(found) => found.map((one) => one.dataset.key)")
    shown = {row[column] for row in rows}
    assert shown == set(keys)
    if path == "/fleet":
        assert {row["type"] for row in rows} == {"coder"}


def test_d9_no_cell_is_a_formula_and_an_incident_becomes_a_post_mortem(stage, tab):
    for name in ("=1+1", "+1", "-1", "@SUM(1)"):
        stage.do(lambda made, name=name: open_incident(made, name))
    request = stage.do(lambda made: open_request(made, "sick-1"))
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", "/fleet"))
    _, text = fetched(page, page.get_by_role("link", name="CSV", exact=True))
    ids = {row["id"] for row in csv.DictReader(text.splitlines())}
    assert {"'=1+1", "'+1", "'-1", "'@SUM(1)", "sick-1"} <= ids
    page = live(watched.open(f"/incidents/{request['incident']}"))
    page.get_by_role("button", name="Reject", exact=True).click()
    page.locator("#ask-reason").fill("a *planned* load")
    page.locator("#ask-ok").click()
    page.locator("article", has_text="rejected by approver").wait_for()
    filename, text = fetched(page, page.get_by_role("link", name="Markdown"))
    assert filename == f"{request['incident']}-post-mortem.md"
    for said in (f"# Post-mortem: {request['incident']}", "## Evidence", "## Decisions", "## What was done, and its effect", "## Timeline", "sick-1"):
        assert said in text
    assert "`person:approver`" in text
    assert r"a \*planned\* load" in text
    filename, text = fetched(page, page.get_by_role("link", name="JSON", exact=True))
    story = json.loads(text)
    assert (filename, story["incident"]["id"]) == (f"{request['incident']}-post-mortem.json", request["incident"])
    assert story["deciders"] == ["person:approver"]
    assert {"timeline", "approvals", "plans", "containments"} <= set(story)


# -- D10, D11, D12 -----------------------------------------------------------------------------------------------------------


def test_d10_times_are_local_with_utc_on_hover_figures_have_units_and_ids_are_copied(recorded, tab, chromium):
    context = chromium.new_context(viewport=WIDE, timezone_id="Asia/Kolkata", locale="en-GB", permissions=["clipboard-read", "clipboard-write"])
    watched = tab(recorded.url, context=context)
    for path in ("/incidents", "/journal", "/incidents/inc-0001", "/approvals", "/runs", "/fleet"):
        page = watched.open(path)
        times = page.locator("main time")
        times.first.wait_for()
        for shown, iso, title in times.evaluate_all("(found) => found.map((one) => [one.textContent, one.dateTime, one.title])"):
            there = datetime.fromisoformat(iso).astimezone(ZoneInfo("Asia/Kolkata"))
            assert there.strftime("%H:%M") in shown, (path, shown, iso)
            assert title == iso[:19].replace("T", " ") + " UTC"
        for title in page.locator("[data-since], [data-until]").evaluate_all("(found) => found.map((one) => one.title)"):
            assert title.endswith(" UTC")
    watched.open("/fleet")
    assert page.locator("[data-since]").count() >= 15
    page = watched.open("/agents/coder-04")
    page.locator("#charts canvas").first.wait_for()
    assert {"ms", "USD"} <= {text.strip() for text in page.locator(".chart h3 .quiet").all_text_contents()}
    page.get_by_role("button", name="Copy coder-04").click()
    page.locator("#toasts", has_text="Copied coder-04").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "coder-04"
    for path, wanted in (("/incidents/inc-0001", "inc-0001"), ("/approvals/req-0001", "req-0001")):
        watched.open(path).get_by_role("button", name=f"Copy {wanted}").first.click()
        page.locator("#toasts", has_text=f"Copied {wanted}").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == wanted
    context.close()


def test_d11_grafana_shows_the_same_agent_and_window_and_machines_have_their_pages(recorded, tab):
    shown = Served(folder=recorded.folder).start(grafana_url="http://127.0.0.1:3000/d/immune-agent")
    shown.wait(lambda: shown.served.site.projection.state.ended_at_us > 0)
    try:
        watched = tab(shown.url)
        page = watched.open("/agents/coder-04")
        link = page.get_by_role("link", name="same window")
        assert re.fullmatch(
            r"http://127\.0\.0\.1:3000/d/immune-agent\?var-agent=coder-04&var-run=demo-1&from=\d{13}&to=\d{13}", link.get_attribute("href")
        )
        page.locator("#charts canvas").first.wait_for()
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_url("**from=*")
        page.wait_for_function(
            """() => {
                const here = new URLSearchParams(location.search);
                const there = new URL(document.querySelector('#grafana').href).searchParams;
                return ['from', 'to'].every((name) => Number(there.get(name)) === Math.round(Number(here.get(name)) / 1000));
            }"""
        )
        page = watched.open("/system")
        assert page.get_by_role("link", name="http://127.0.0.1:3000/d/immune-agent").count() == 1
        for name, path, said in (
            ("health", "/healthz", '"ok"'),
            ("readiness", "/readyz", '"ready"'),
            ("metrics", "/metrics", "immune_dashboard_requests_total"),
            ("OpenAPI", "/openapi.json", '"openapi"'),
        ):
            assert page.get_by_role("link", name=name, exact=True).get_attribute("href") == path
            answer = page.request.get(shown.url + path)
            assert answer.status == 200
            assert said in answer.text()
        paths = page.request.get(shown.url + "/openapi.json").json()["paths"]
        assert {"/api/agents", "/api/stats", "/api/pending", "/api/rejected", "/api/healings", "/api/stream"} <= set(paths)
    finally:
        shown.stop()


def test_d12_back_and_forward_go_where_the_person_was(recorded, tab):
    watched = tab(recorded.url)
    page = watched.open("/fleet")
    page.locator("#filter").fill("type:coder")
    page.get_by_role("link", name="coder-04", exact=True).click()
    page.wait_for_url("**/agents/coder-04")
    watched.loaded()
    page.locator("#charts canvas").first.wait_for()
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_url("**from=*")
    zoomed = page.url
    page.locator("#timeline").get_by_title("Permalink").last.click()
    page.wait_for_url("**/journal/e*")
    watched.loaded()

    def at(direction, url, holds):
        getattr(page, direction)()
        page.wait_for_url(url)
        watched.loaded()
        page.wait_for_function(holds)

    window = "() => Number(new URLSearchParams(location.search).get('from') ?? 0) === (location.search ? document.querySelector('.chart')?.kept.found.from_us : 0)"
    at("go_back", zoomed, window)
    at("go_back", "**/agents/coder-04", "() => document.querySelector('.chart') && !location.search")
    at(
        "go_back",
        "**/fleet?q=type%3Acoder",
        "() => document.querySelector('#filter').value === 'type:coder' && document.querySelectorAll('.tile').length === 5",
    )
    at("go_forward", "**/agents/coder-04", "() => document.querySelector('h1').textContent.includes('coder-04')")
    at("go_forward", zoomed, window)
    at("go_forward", "**/journal/e*", "() => document.querySelector('pre')")


def test_d12_the_first_load_is_small(recorded, tab):
    watched = tab(recorded.url)
    session = watched.page.context.new_cdp_session(watched.page)
    session.send("Network.enable")
    asked, sizes = {}, {}
    session.on("Network.requestWillBeSent", lambda event: asked.setdefault(event["requestId"], event["request"]["url"]))
    session.on("Network.loadingFinished", lambda event: sizes.setdefault(event["requestId"], event["encodedDataLength"]))
    page = watched.open("/fleet")
    page.locator(".tile").first.wait_for()
    page.locator("#changes li").first.wait_for()
    assert {"/fleet", "/api/agents", "/static/css/base.css", "/static/js/boot.js"} <= {url.removeprefix(recorded.url) for url in asked.values()}
    print(f"first load: {sum(sizes.values()) / 1000:.0f} kB in {len(sizes)} answers")
    assert 20_000 < sum(sizes.values()) < FIRST_LOAD_BYTES


# -- D14 ---------------------------------------------------------------------------------------------------------------------

PASSWORD = "a long password of hers"


def test_d14_people_log_in_with_their_role_by_password_token_or_link(stage, tab):
    stage.do(lambda made: made.people.add("ada", "approver", PASSWORD))
    watched = tab(stage.url)
    watched.allowed.add(401)
    page = watched.open("/login?next=/approvals")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("not her password")
    page.get_by_role("button", name="Log in", exact=True).click()
    page.locator("#login-error:not(:empty)").wait_for()
    assert "/login" in page.url
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/approvals")
    page.locator("#who", has_text="ada (approver)").wait_for()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in").wait_for()
    for role in ("viewer", "operator", "approver", "admin"):
        page = watched.open("/login")
        page.get_by_text("Log in with a token").click()
        page.get_by_label("Token").fill(stage.made.token[role])
        page.get_by_role("button", name="Log in", exact=True).click()
        page.wait_for_url("**/fleet")
        page.locator("#who", has_text=f"({role})").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("link", name="Log in").wait_for()
    link = stage.link("operator")
    page.goto(stage.url + link)
    page.wait_for_url("**/fleet")
    page.locator("#who", has_text="operator (operator)").wait_for()
    assert "#" not in page.url, "the secret does not stay in the address"
    second = tab(stage.url)
    second.allowed.add(401)
    second.page.goto(stage.url + link)
    second.page.locator("#login-error", has_text="used already").wait_for()


def test_d14_every_change_asks_for_role_and_origin(stage, tab):
    stage.do(open_request)
    watched = tab(stage.url)
    watched.allowed |= {401, 403}
    page = live(watched.open("/fleet"))
    paths = page.request.get(stage.url + "/openapi.json").json()["paths"]
    changing = [re.sub(r"\{[^}]+\}", "req-0001", path) for path, methods in paths.items() if set(methods) - {"get", "head", "parameters"}]
    guarded = [path for path in changing if path not in ("/api/login", "/api/logout")]
    assert len(guarded) >= 20
    ask = """([paths, csrf]) => Promise.all(paths.map(async (path) => {
        const headers = { 'Content-Type': 'application/json', ...(csrf ? { 'X-CSRF-Token': csrf } : {}) };
        return [path, (await fetch(path, { method: 'POST', headers, body: '{}' })).status];
    }))"""
    assert {path: status for path, status in page.evaluate(ask, [guarded, ""]) if status != 401} == {}, "without a name nobody changes anything"
    page = live(enter(watched, stage, "viewer"))
    csrf = page.evaluate("fetch('/api/session').then((answer) => answer.json())")["csrf"]
    looking = {path for path in guarded if path.endswith("/snooze")}
    assert {path: status for path, status in page.evaluate(ask, [guarded, csrf]) if status != 403}.keys() <= looking
    page = live(enter(watched, stage, "admin"))
    assert {path: status for path, status in page.evaluate(ask, [guarded, "another"]) if status != 403} == {}, (
        "only our own page may speak for a session"
    )
    csrf = page.evaluate("fetch('/api/session').then((answer) => answer.json())")["csrf"]
    for path in (*guarded, "/api/login", "/api/logout"):
        for foreign in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            headers = {"X-CSRF-Token": csrf, "Content-Type": "application/json", **foreign}
            assert page.request.post(stage.url + path, data="{}", headers=headers).status == 403, (path, foreign)
    assert stage.do(lambda made: made.kinds().count("approval_granted")) == 0


def test_d14_it_listens_on_the_loopback_and_nowhere_else_without_a_login(stage, tab, tmp_path):
    assert stage.url.startswith("http://127.0.0.1:")
    for host in ("0.0.0.0", "::"):
        with pytest.raises(RefusedError, match="others could reach this address"):
            make_server(Options(data_dir=tmp_path, port=0, host=host), SystemClock())
    shown = Served(folder=stage.folder).start(login=True)
    try:
        watched = tab(shown.url)
        page = watched.page
        page.goto(shown.url + "/agents/coder-01")
        page.wait_for_url("**/login?next=/agents/coder-01", timeout=DEADLINE_S * 1000)
        page.wait_for_load_state()
        for path in ("/api/agents", "/api/journal", "/api/stream", "/api/stats", "/metrics"):
            assert page.request.get(shown.url + path).status == 401
        watched.wrong = [one for one in watched.wrong if "401" not in one]
    finally:
        shown.stop()
