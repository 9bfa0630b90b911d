"""Every page, once: it loads, says what it shows, and nothing goes wrong on the way."""

from __future__ import annotations

import pytest

from tests.browser.conftest import NARROW, WIDE
from tests.integration.daemon_kit import open_incident, open_request

PAGES = ("/fleet", "/incidents", "/approvals", "/journal", "/policy", "/runs", "/runs/demo-1", "/system", "/login", "/journal/e5")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_loads_without_an_error_or_another_origin(recorded, tab, path):
    watched = tab(recorded.url)
    page = watched.open(path)
    assert page.locator("h1").first.text_content()
    assert page.locator("nav a[data-nav]").count() == 7


def test_every_agent_incident_and_approval_has_a_page(recorded, tab):
    watched = tab(recorded.url)
    page = watched.open("/incidents")
    page.locator("tbody a[href*='/incidents/']").first.click()
    page.wait_for_url("**/incidents/inc-*")
    watched.loaded()
    page.locator("#incident-head a[href*='/agents/']").first.click()
    page.wait_for_url("**/agents/*")
    watched.loaded()
    page.locator("#charts canvas").first.wait_for()
    page.go_back()
    watched.loaded()
    assert "/incidents/" in page.url


def test_the_report_of_a_run_opens_with_its_style(recorded, tab):
    page = tab(recorded.url).open("/runs/demo-1/report")
    assert page.locator("h1").text_content()


@pytest.mark.parametrize("path", PAGES)
def test_no_page_scrolls_sideways_on_a_phone(recorded, tab, path):
    page = tab(recorded.url, viewport=NARROW).open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_a_hostile_name_is_text_everywhere(stage, tab):
    request = stage.do(lambda made: open_request(made, HOSTILE))
    watched = tab(stage.url)
    watched.page.on("dialog", lambda dialog: watched.wrong.append(f"a script ran: {dialog.message}"))
    for path in (
        "/fleet",
        "/incidents",
        f"/incidents/{request['incident']}",
        "/approvals",
        f"/approvals/{request['id']}",
        "/journal",
        "/agent?id=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    ):
        page = watched.open(path)
        page.get_by_text(HOSTILE).first.wait_for(state="attached")
        assert page.locator("img").count() == 0


def test_a_person_approves_in_the_browser(stage, tab):
    request = stage.do(open_request)
    watched = tab(stage.url, viewport=NARROW)
    page = watched.page
    page.goto(stage.url + stage.link("approver"))
    page.wait_for_url("**/fleet")
    assert page.title().startswith("(1)")
    page.get_by_role("link", name="Approvals").click()
    watched.loaded()
    page.get_by_role("button", name="Approve", exact=True).click()
    page.locator("#ask-ok").click()
    page.get_by_role("button", name="Undo").wait_for()
    assert stage.made.engine.state.approvals[request["id"]].decided_by == "person:approver"


def test_what_happens_appears_on_an_open_page_without_a_reload(stage, tab):
    page = tab(stage.url, viewport=WIDE).open("/fleet")
    page.evaluate("window.kept = true")
    page.locator("#live-chip", has_text="live").wait_for()
    stage.do(lambda made: open_incident(made, "fresh-1"))
    page.get_by_role("link", name="fresh-1", exact=True).wait_for()
    assert page.evaluate("window.kept")


def test_an_open_page_goes_on_after_a_restart_of_the_dashboard(stage, tab):
    watched = tab(stage.url)
    watched.allowed |= {502, 503}
    page = watched.open("/fleet")
    page.evaluate("window.kept = true")
    page.locator("#live-chip", has_text="live").wait_for()
    stage.stop()
    page.locator("#live-chip", has_text="reconnecting").wait_for()
    stage.start()
    stage.do(lambda made: open_incident(made, "fresh-2"))
    page.get_by_role("link", name="fresh-2", exact=True).wait_for()
    assert page.evaluate("window.kept")
    watched.wrong = [one for one in watched.wrong if "ERR_CONNECTION_REFUSED" not in one and "ERR_INCOMPLETE" not in one and "ERR_EMPTY" not in one]
