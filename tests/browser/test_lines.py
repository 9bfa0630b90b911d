"""Lines of the dashboard's specification that no other test shows by name."""

from __future__ import annotations

from tests.integration.daemon_kit import open_request


def test_a1_a5_tiles_and_counts_sum_to_the_fleet_and_filter_on_click(recorded, tab):
    page = tab(recorded.url).open("/fleet")
    numbers = page.locator("#counts button strong").all_text_contents()
    assert int(numbers[0]) == sum(map(int, numbers[1:])) == page.locator(".tile").count()
    page.locator("#counts button").nth(1).click()
    assert "q=state" in page.url


def test_b1_b2_charts_with_a_legend_and_evidence_with_what_was_expected(recorded, tab):
    page = tab(recorded.url).open("/agents/coder-04")
    page.locator("#charts canvas").first.wait_for()
    assert page.locator(".legend").get_by_text("learned band").count() == 1
    assert page.locator("#why").text_content()


def test_c1_a_request_says_why_what_how_far_and_until_when(stage, tab):
    request = stage.do(open_request)
    page = tab(stage.url).open(f"/approvals/{request['id']}")
    text = page.locator("article").inner_text().lower()
    for said in ("why we believe it", "what would be done", "how far it reaches", "why you are asked", "left"):
        assert said in text
