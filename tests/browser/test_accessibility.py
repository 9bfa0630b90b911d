"""axe-core on every page, in both themes and both widths: no violation of WCAG 2.2 A or AA."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import NARROW, WIDE
from tests.integration.daemon_kit import open_request

PAGES = (
    "/fleet", "/fleet?group=type&view=table", "/fleet?view=map", "/agents/coder-04", "/agents/nobody", "/incidents", "/incidents/inc-0001", "/approvals", "/approvals/req-0001", "/journal",
    "/journal/e5", "/policy", "/runs", "/runs/demo-1", "/system", "/login",
)  # fmt: skip
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


def violations(page):
    """Sentences, one a violation and element."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}: {node['failureSummary'][:300]}" for one in found for node in one["nodes"]]


LOOKS = [(viewport, scheme) for viewport in (WIDE, NARROW) for scheme in ("light", "dark")]


@pytest.mark.parametrize("path", PAGES)
def test_d6_no_page_has_a_violation_in_either_theme_and_width(recorded, tab, path):
    watched = tab(recorded.url, bypass_csp=True)
    watched.allowed.add(404)  # one of them shows an error
    page = watched.open(path)
    if path == "/agents/coder-04":
        page.locator("#charts canvas").first.wait_for()
    wrong = []
    for viewport, scheme in LOOKS:
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        wrong += [f"{viewport['width']} {scheme} {one}" for one in violations(page)]
    assert not wrong, "\n".join(wrong[:8])


def test_d6_the_check_sees_what_it_is_there_for(recorded, tab):
    page = tab(recorded.url, bypass_csp=True).open("/fleet")
    assert violations(page) == []
    page.evaluate(
        "() => document.querySelector('main').append(document.createElement('button'), Object.assign(document.createElement('img'), { src: '/favicon.ico' }))"
    )
    assert {one.split(":")[0] for one in violations(page)} >= {"button-name", "image-alt"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_d6_waiting_requests_and_the_dialogs_have_none_either(stage, tab, scheme):
    stage.do(open_request)
    watched = tab(stage.url, scheme=scheme, viewport=NARROW, bypass_csp=True)
    page = watched.page
    page.goto(stage.url + stage.link("approver"))
    page.wait_for_url("**/fleet")
    watched.open("/approvals")
    assert violations(page) == []
    page.get_by_role("button", name="Reject", exact=True).click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.locator("#help[open]").wait_for()
    assert violations(page) == []
