"""Pages that are open while things happen: one stream for all tabs, nothing lost, nothing twice, nothing taken out of people's hands."""

from __future__ import annotations

from immune.api.server import serve
from tests.browser.conftest import WIDE
from tests.integration.daemon_kit import open_incident, open_request


def test_the_tabs_of_a_browser_share_one_stream_and_the_next_takes_over(stage, tab, chromium):
    context = chromium.new_context(viewport=WIDE)
    first, second = tab(stage.url, context=context), tab(stage.url, context=context)
    for watched in (first, second):
        watched.open("/fleet")
        watched.page.locator("#live-chip", has_text="live").wait_for()
    stage.do(lambda made: open_incident(made, "shared-1"))
    for watched in (first, second):
        watched.page.get_by_role("link", name="shared-1", exact=True).wait_for()
    assert stage.served.site.counters.streams == 1
    first.page.close()
    stage.do(lambda made: open_incident(made, "shared-2"))
    second.page.get_by_role("link", name="shared-2", exact=True).wait_for()
    context.close()


def test_a_half_typed_reason_focus_and_scroll_survive_what_happens_meanwhile(stage, tab):
    first = stage.do(lambda made: open_request(made, "sick-1"))
    watched = tab(stage.url)
    page = watched.page
    page.goto(stage.url + stage.link("approver"))
    page.wait_for_url("**/fleet")
    watched.open("/approvals")
    page.locator("#live-chip", has_text="live").wait_for()
    page.get_by_role("button", name="Reject", exact=True).click()
    page.locator("#ask-reason").type("because it")
    stage.do(lambda made: open_request(made, "sick-2"))
    page.locator("article", has_text="sick-2").wait_for(state="attached")
    assert page.locator("#ask-reason").input_value() == "because it"
    assert page.evaluate("document.activeElement.id") == "ask-reason"
    page.keyboard.type(" is wrong")
    page.locator("#ask-ok").click()
    page.locator("dialog[open]").wait_for(state="detached")
    assert stage.made.engine.state.approvals[first["id"]].reason == "because it is wrong"


def test_a_filter_that_is_being_typed_keeps_focus_and_selection(stage, tab):
    stage.do(lambda made: open_incident(made, "keep-1"))
    page = tab(stage.url).open("/fleet")
    page.locator("#live-chip", has_text="live").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("keep")
    page.evaluate("document.querySelector('#filter').setSelectionRange(1, 3)")
    stage.do(lambda made: open_incident(made, "keep-2"))
    page.get_by_role("link", name="keep-2", exact=True).wait_for()
    focused, *selection = page.evaluate(
        """() => {
            const box = document.querySelector('#filter');
            return [document.activeElement === box, box.selectionStart, box.selectionEnd];
        }"""
    )
    assert (focused, selection, page.url.partition("?")[2]) == (True, [1, 3], "q=keep")


def test_a_paused_page_stands_still_and_catches_up(stage, tab):
    page = tab(stage.url).open("/fleet")
    page.locator("#live-chip", has_text="live").wait_for()
    page.get_by_role("button", name="Pause").click()
    stage.do(lambda made: open_incident(made, "later-1"))
    page.locator("#live-chip", has_text="wait").wait_for()
    assert page.get_by_role("link", name="later-1", exact=True).count() == 0
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("link", name="later-1", exact=True).wait_for()


def test_two_browsers_decide_the_same_request_and_the_second_learns_who_was_first(stage, tab):
    request = stage.do(open_request)
    first, second = tab(stage.url), tab(stage.url)
    second.allowed.add(409)
    for watched, role in ((first, "approver"), (second, "admin")):
        watched.page.goto(stage.url + stage.link(role))
        watched.page.wait_for_url("**/fleet")
        watched.open(f"/approvals/{request['id']}")
    second.page.get_by_role("button", name="Approve", exact=True).click()
    first.page.get_by_role("button", name="Reject", exact=True).click()
    first.page.locator("#ask-reason").type("no need")
    first.page.locator("#ask-ok").click()
    first.page.get_by_role("button", name="Heal now").wait_for()
    second.page.locator("#ask-ok").click()
    error = second.page.locator("#ask-error")
    error.get_by_text("already rejected by person:approver").wait_for()
    second.page.keyboard.press("Escape")
    second.page.get_by_text("rejected by approver").wait_for()


def test_what_is_said_while_the_daemon_is_away_and_back(stage, tab):
    stage.do(open_request)
    watched = tab(stage.url)
    page = watched.page
    page.goto(stage.url + stage.link("approver"))
    page.wait_for_url("**/fleet")
    watched.open("/approvals")
    page.locator("#live-chip", has_text="live").wait_for()
    stage.do(lambda made: made.server.close())
    page.locator("#banners", has_text="the daemon is away").wait_for()
    assert page.locator("article").count() == 1


def test_an_open_page_goes_on_after_a_restart_of_the_daemon_with_everything_once(stage, tab):
    request = stage.do(lambda made: open_request(made, "before-1"))
    watched = tab(stage.url)
    page = watched.page
    page.goto(stage.url + stage.link("approver"))
    page.wait_for_url("**/fleet")
    watched.loaded()
    page.evaluate("window.kept = true")
    page.locator("#live-chip", has_text="live").wait_for()
    stage.do(lambda made: made.server.close())
    page.locator("#banners", has_text="the daemon is away").wait_for()

    async def back(made):
        made.engine.start(made.clock.now_us())
        made.server = await serve(made.api, port=0, data_dir=stage.folder)

    stage.do(back)
    page.locator("#banners", has_text="the daemon is away").wait_for(state="detached")
    stage.do(lambda made: open_incident(made, "after-1"))
    page.get_by_role("link", name="after-1", exact=True).first.wait_for()
    assert page.evaluate("window.kept")
    page.locator("#live-chip", has_text="live").wait_for()
    neighbours = "[...document.querySelectorAll('[data-key] + [data-key]')].map((b) => [b.previousElementSibling.dataset.key, b.dataset.key])"
    assert not [key for before, key in page.evaluate(neighbours) if before == key], "something is shown twice"
    watched.open("/approvals")
    page.get_by_role("button", name="Approve", exact=True).click()
    page.locator("#ask-ok").click()
    page.get_by_role("button", name="Undo").wait_for()
    assert stage.made.engine.state.approvals[request["id"]].decided_by == "person:approver"
