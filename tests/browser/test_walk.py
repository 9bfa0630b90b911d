"""From page to page: what is shown leads to what it speaks of, and hostile names stay text (D13)."""

from __future__ import annotations

from tests.browser.conftest import enter, live
from tests.integration.daemon_kit import open_request

HOSTILE = "<img src=x onerror=alert(1)>"
QUOTED = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"


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
    page.locator("#why a[href*='/incidents/']").first.click()
    page.wait_for_url("**/incidents/inc-*")
    watched.loaded()
    page.locator("#done article a[href*='/approvals/']").first.click()
    page.wait_for_url("**/approvals/req-*")
    watched.loaded()
    page.locator("article").wait_for()


def test_d13_a_hostile_name_is_text_everywhere(stage, tab):
    request = stage.do(lambda made: open_request(made, HOSTILE))
    other = stage.do(lambda made: open_request(made, HOSTILE + "2"))
    stage.do(
        lambda made: made.ask("POST", f"/v1/incidents/{request['incident']}/feedback", {"verdict": "cause", "cause": HOSTILE, "reason": HOSTILE})
    )
    asked = next(one.seq for one in stage.do(lambda made: made.events("approval_requested")))
    watched = tab(stage.url)
    watched.page.on("dialog", lambda dialog: watched.wrong.append(f"a script ran: {dialog.message}"))
    page = live(enter(watched, stage, "approver"))

    def is_text():
        page.get_by_text(HOSTILE).first.wait_for(state="attached")
        assert page.locator("img, [onerror]").count() == 0

    for path in (
        "/fleet", "/fleet?group=type&view=table", f"/fleet?q={QUOTED}", "/incidents", f"/incidents/{request['incident']}", "/approvals",
        f"/approvals/{request['id']}", "/journal", f"/journal?text={QUOTED}", f"/journal/e{asked}", f"/agent?id={QUOTED}",
    ):  # fmt: skip
        watched.open(path)
        is_text()
    assert page.title().endswith(f"{HOSTILE} · Immune")
    page.locator("#actions button[data-act=Contain]").click()
    assert HOSTILE in page.locator("#ask-title").inner_text()
    is_text()
    page.keyboard.press("Escape")
    # the map, what is said of a cell, and a word of a person
    watched.open("/fleet?view=map")
    page.locator("#map canvas").focus()
    assert HOSTILE in page.locator("#map-tip").inner_text()
    is_text()
    watched.open("/approvals")
    page.locator("#bulk button").first.click()
    assert HOSTILE in page.locator("#ask-body").inner_text()
    page.locator("#ask-reason").fill(HOSTILE)
    page.locator("#ask-ok").click()
    page.locator("dialog[open]").wait_for(state="detached")
    is_text()
    assert stage.made.engine.state.approvals[other["id"]].reason == HOSTILE
    live(watched.open(f"/incidents/{other['incident']}"))
    is_text()
