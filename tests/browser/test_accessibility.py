"""axe-core on every page, in both themes and both widths: no violation of WCAG 2.2 A or AA."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import NARROW, WIDE
from tests.integration.daemon_kit import open_request

PAGES = (
    "/fleet", "/fleet?group=type", "/agents/coder-04", "/incidents", "/incidents/inc-0001", "/approvals", "/approvals/req-0001", "/journal",
    "/journal/e5", "/policy", "/runs", "/runs/demo-1", "/system", "/login",
)  # fmt: skip
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


def violations(page):
    """Sentences, one a violation and element."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}: {node['failureSummary'][:300]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_no_page_has_a_violation(recorded, tab, viewport, scheme):
    watched = tab(recorded.url, viewport=viewport, scheme=scheme, bypass_csp=True)
    wrong = {}
    for path in PAGES:
        page = watched.open(path)
        if found := violations(page):
            wrong[path] = found
    assert not wrong, "\n".join(f"{path} {one}" for path, found in wrong.items() for one in found[:4])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_waiting_requests_and_the_dialogs_have_none_either(stage, tab, scheme):
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
