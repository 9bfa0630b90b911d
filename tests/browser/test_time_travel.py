"""Line D15: the fleet as it was at any moment of the run, folded from the journal."""

from __future__ import annotations

import pytest

from immune.core.fold import fold
from immune.core.state import RunState
from immune.stores.journal_sqlite import SqliteJournal
from tests.browser.conftest import US, enter, live, staging
from tests.integration.daemon_kit import open_incident, open_request


@pytest.fixture(scope="module")
def course(recorded):
    """Every event of the recorded run."""
    journal = SqliteJournal.open_read_only(recorded.folder)
    found = list(journal.read("demo-1"))
    journal.close()
    return found


def fleet_at(course, at_us):
    """What the journal says the fleet was, folded here and by nobody else."""
    state = fold(RunState(), [one for one in course if one.at_us <= at_us])
    return {agent.agent_id: agent.word for agent in state.agents.values()}


def shown(page):
    return dict(
        page.locator(".tile").evaluate_all(
            "(found) => found.map((one) => [one.dataset.key, one.querySelector('.more span').textContent.split(',')[0]])"
        )
    )


def test_d15_the_slider_shows_the_fleet_as_it_was_at_any_moment(recorded, tab, course):
    watched = tab(recorded.url)
    page = watched.open("/fleet")
    slider = page.get_by_role("slider", name="Moment of the run")
    slider.wait_for()
    first, last = (int(slider.get_attribute(name)) for name in ("min", "max"))
    assert (first, last) == (course[0].at_us, course[-1].at_us)
    seconds = (last - first) // US
    alarms = [one.at_us for one in course if one.kind in ("incident_opened", "enforcement_observed", "incident_closed")]
    moments = {first + seconds * part // 7 * US for part in range(7)} | {at_us + by * US for at_us in alarms for by in (-1, 1)}
    different = set()
    for at_us in sorted(first + (moment - first) // US * US for moment in moments if first <= moment < last - US):
        with page.expect_response(lambda answer, at_us=at_us: f"/api/agents?at=t{at_us}" in answer.url):
            slider.fill(str(at_us))
        expected = fleet_at(course, at_us)
        page.wait_for_function("([count]) => document.querySelectorAll('.tile').length === count", arg=[len(expected)])
        page.wait_for_function(
            "([expected]) => [...document.querySelectorAll('.tile')].every((one) => one.querySelector('.more span').textContent.split(',')[0] === expected[one.dataset.key])",
            arg=[expected],
        )
        assert shown(page) == expected
        different.add(tuple(sorted(expected.items())))
        assert f"at=t{at_us}" in page.url
    assert len(different) >= 4, "the run had several faces"
    page.locator("#live-chip", has_text="past").wait_for()
    assert "past" in page.locator("body").get_attribute("class")
    # a moment has an address of its own, and leads on to the pages of the same moment
    opened = next(one for one in course if one.kind == "incident_opened")
    page = watched.open(f"/fleet?at=t{opened.at_us}")
    assert shown(page) == fleet_at(course, opened.at_us)
    page.locator("nav a[data-nav=incidents]").click()
    page.wait_for_url(f"**/incidents?at=t{opened.at_us}")
    watched.loaded()
    assert page.locator("tbody tr").count() == sum(one.kind == "incident_opened" and one.at_us <= opened.at_us for one in course)
    page.locator("tbody", has_text="open").wait_for()
    # so has an event
    asked = next(one for one in course if one.kind == "approval_requested")
    page = watched.open(f"/fleet?at={asked.seq}")
    slider.wait_for()
    assert abs(int(slider.input_value()) - asked.at_us) <= US
    page.locator("#summary h1", has_text="At that moment").wait_for()
    assert not page.get_by_role("link", name="Decide now").count(), "nothing is decided in the past"


def test_d15_the_keyboard_and_the_buttons_move_through_the_run_and_back_to_now(recorded, tab, course):
    watched = tab(recorded.url)
    page = watched.open("/fleet")
    slider = page.get_by_role("slider", name="Moment of the run")
    slider.focus()
    with page.expect_response("**/api/agents?at=*"):
        page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelectorAll('.tile').length <= 15 && location.search.startsWith('?at=')")
    assert slider.get_attribute("aria-valuetext")
    assert page.evaluate("document.activeElement.id") == "moment", "moving on does not take the focus away"
    openings = [one.at_us for one in course if one.kind == "incident_opened"]
    page.get_by_role("button", name="To the next incident").click()
    page.wait_for_url(f"**at=t{openings[0]}")
    page.get_by_role("button", name="To the next incident").click()
    page.wait_for_url(f"**at=t{next(at_us for at_us in openings if at_us > openings[0] + US)}")
    page.get_by_role("button", name="To the incident before").click()
    page.wait_for_url(f"**at=t{openings[0]}")
    page.get_by_role("button", name="Now", exact=True).click()
    page.wait_for_url(recorded.url + "/fleet")
    watched.loaded()
    assert shown(page) == fleet_at(course, course[-1].at_us)


def test_d15_the_past_stands_still_while_the_present_goes_on_and_nobody_can_act_in_it(tmp_path, chromium, tab):
    with staging(tmp_path, ago_s=300) as stage:
        request = stage.do(lambda made: open_request(made, "early-1"))
        stage.do(lambda made: setattr(made.clock, "at_us", made.clock.at_us + 100 * US))
        stage.do(lambda made: open_incident(made, "later-1"))
        now, past = tab(stage.url), tab(stage.url)
        live(now.open("/fleet"))
        page = live(enter(past, stage, "approver"))
        slider = page.get_by_role("slider", name="Moment of the run")
        with page.expect_response("**/api/agents?at=*"):
            slider.fill(str(int(slider.get_attribute("min")) + 50 * US))
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 1")
        page.locator("#live-chip", has_text="past").wait_for()
        stage.do(lambda made: open_incident(made, "latest-1"))
        now.page.locator(".tile[data-key='latest-1']").wait_for()
        now.page.locator("#changes", has_text="latest-1").wait_for()
        assert list(shown(page)) == ["early-1"], "what happens now does not belong there"
        assert "latest-1" not in page.locator("main").inner_text()
        card = past.open(f"/approvals/{request['id']}?at={page.url.partition('at=')[2]}").locator("article")
        button = card.locator("button[data-act=Approve]")
        assert button.get_attribute("aria-disabled") == "true"
        assert "this is not the running moment" in card.locator(".why-not").inner_text()
