"""What a person sees of a request, and how it is decided: lines C1 to C8."""

from __future__ import annotations

import re
from datetime import datetime

from immune.core import acts
from immune.core.decision import Decision
from immune.core.events import Draft
from tests.browser.conftest import NARROW, US, enter, live, staging
from tests.integration.daemon_kit import open_request

LASTING = "error_burst"
"""An illness whose first remedy is a restart, which nobody can take back."""


def press(page, label, **fields):
    """Open a dialog by its button, fill it in, and send it."""
    page.get_by_role("button", name=label, exact=True).first.click()
    page.locator("dialog[open]").wait_for()
    for name, value in fields.items():
        page.locator(f"#ask-{name}").fill(value)
    page.locator("#ask-ok").click()


def take_effect(made, request):
    """The approved plan began, and its step took effect, as a connector would have said."""
    done = (
        acts.PlanStarted(plan_id=request["plan"], request_id=request["id"], trigger="after_approval"),
        acts.StepStarted(plan_id=request["plan"], step=0, action="reset_memory", key="k"),
        acts.StepFinished(plan_id=request["plan"], step=0, action="reset_memory", outcome="succeeded", detail=""),
    )
    made.engine.submit(Decision(drafts=tuple(Draft(at_us=made.clock.at_us, subject=request["agent"], event=event) for event in done)))


def status(stage, request):
    return stage.made.engine.state.approvals[request["id"]].status


def test_c1_a_request_says_what_why_how_far_by_which_rule_and_until_when(tmp_path, chromium, tab):
    with staging(tmp_path, ago_s=90) as stage:

        async def sicken(made):
            for number in range(40):
                await made.vitals({"agent": "sick-1", "type": "writer", "service": "desk", "input_tokens": 9000 if number > 25 else 1000})
                await made.tick()
            return open_request(made, "sick-1", onset_us=made.clock.at_us - 14 * US)

        request = stage.do(sicken)
        lasting = stage.do(lambda made: open_request(made, "sick-2", kind=LASTING))
        page = live(tab(stage.url).open(f"/approvals/{request['id']}"))
        article = page.locator("article")
        text = article.inner_text()
        for said in (
            "severity 8.0 of 10",
            "sick-1",
            "token explosion",
            "90 %",
            "9,000 tokens against 1,000 tokens expected",
            "approvals.severity_at",
        ):
            assert said in text
        assert "reset memory" in text
        assert "undone by: " in text
        assert "1 of 2 agents" in text, "how far it reaches"
        assert "2 agents share the service desk" in text
        spark = article.locator(".spark canvas")
        spark.wait_for()
        assert spark.evaluate("(one) => one.getContext('2d').getImageData(0, 0, one.width, one.height).data.some((value) => value > 0)"), (
            "it is drawn"
        )
        assert "input tokens" in article.locator(".spark").get_attribute("aria-label")
        # age and countdown go on by themselves
        clock = article.locator(".clock")
        assert re.search(r"\d+ min \d+ s left.*asked (\d+ min )?\d+ s ago", clock.inner_text().replace("\n", " "))
        for part in ("[data-until]", "[data-since]"):
            before = clock.locator(part).text_content()
            page.wait_for_function("([part, before]) => document.querySelector(`.clock ${part}`).textContent !== before", arg=[part, before])
        page = live(tab(stage.url).open(f"/approvals/{lasting['id']}"))
        text = page.locator("article").inner_text()
        assert "restart agent" in text
        assert "cannot be undone" in text


def test_c2_approving_rejecting_with_a_reason_and_snoozing(stage, tab):
    first, second, third = (stage.do(lambda made, number=number: open_request(made, f"sick-{number}")) for number in (1, 2, 3))
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", "/approvals"))
    cards = page.locator("article")
    # rejecting needs a reason: without one the dialog stays, says so, and nothing is decided
    cards.filter(has_text=first["id"]).get_by_role("button", name="Reject", exact=True).click()
    page.locator("#ask-reason").evaluate("(one) => one.form.noValidate = true")
    page.locator("#ask-ok").click()
    page.locator("#ask-error", has_text="this is needed").wait_for()
    assert page.evaluate("document.activeElement.id") == "ask-reason"
    assert status(stage, first) == "pending"
    page.locator("#ask-reason").fill("it is a planned load")
    page.locator("#ask-ok").click()
    cards.filter(has_text=first["id"]).wait_for(state="detached")
    assert (status(stage, first), stage.made.engine.state.approvals[first["id"]].reason) == ("rejected", "it is a planned load")
    cards.filter(has_text=second["id"]).get_by_role("button", name="Snooze", exact=True).click()
    page.locator("#ask-minutes").fill("3")
    page.locator("#ask-ok").click()
    page.locator(f"article#{second['id']}", has_text="snoozed").wait_for()
    assert cards.evaluate_all("(found) => found.map((one) => one.id)") == [third["id"], second["id"]], "what is snoozed comes last"
    page.reload()
    watched.loaded()
    page.locator(f"article#{second['id']}", has_text="snoozed").wait_for()
    assert status(stage, second) == "pending", "it goes on waiting"
    page.keyboard.press("a")
    page.locator("#ask-title", has_text=third["id"]).wait_for()
    page.locator("#ask-ok").click()
    page.locator(f"article#{third['id']}").get_by_role("button", name="Undo").wait_for()
    assert status(stage, third) == "granted"


def test_c2_what_cannot_be_undone_asks_to_type_the_agents_id(stage, tab):
    request = stage.do(lambda made: open_request(made, "sick-1", kind=LASTING))
    watched = tab(stage.url)
    watched.allowed.add(422)
    page = live(enter(watched, stage, "approver", f"/approvals/{request['id']}"))
    page.get_by_role("button", name="Approve", exact=True).click()
    page.get_by_label("This cannot be undone. Type sick-1").wait_for()
    assert page.evaluate("document.activeElement.id") == "ask-confirm"
    for typed in ("sick-2", "SICK-1"):
        page.locator("#ask-confirm").fill(typed)
        page.locator("#ask-ok").click()
        page.locator("#ask-error", has_text="type sick-1 to confirm").wait_for()
    # and the server asks, too: who goes round the page learns it there
    answer = page.evaluate(
        """async ([id, plan_hash]) => {
            const { csrf } = await (await fetch('/api/session')).json();
            const headers = { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf };
            return (await fetch(`/api/approvals/${id}/approve`, { method: 'POST', headers, body: JSON.stringify({ plan_hash }) })).status;
        }""",
        [request["id"], request["plan_hash"]],
    )
    assert (answer, status(stage, request)) == (422, "pending")
    page.locator("#ask-confirm").fill("sick-1")
    page.locator("#ask-ok").click()
    page.get_by_role("button", name="Undo").wait_for()
    assert status(stage, request) == "granted"


def test_c4_nothing_starts_before_the_undo_window_is_over_and_what_started_can_be_rolled_back(stage, tab):
    first = stage.do(lambda made: open_request(made, "sick-1"))
    second = stage.do(lambda made: open_request(made, "sick-2"))
    third = stage.do(lambda made: open_request(made, "sick-3", kind=LASTING))
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", f"/approvals/{first['id']}"))
    press(page, "Approve")
    page.locator("article", has_text="It starts when the undo window is over").wait_for()
    stage.do(lambda made: made.tick())
    assert "plan_started" not in stage.made.engine.state.plans[first["plan"]].status
    assert stage.made.engine.state.plans[first["plan"]].started_at_us == 0
    press(page, "Undo", reason="the wrong one")
    page.locator("article", has_text="rejected by approver").wait_for()
    stage.do(lambda made: made.tick(8))
    assert stage.made.engine.state.plans[first["plan"]].started_at_us == 0, "taken back is never started"
    # past the window it runs, and can be rolled back where each step has its way back
    page = live(watched.open(f"/approvals/{second['id']}"))
    press(page, "Approve")
    page.get_by_role("button", name="Undo").wait_for()
    stage.do(lambda made: take_effect(made, second))
    back = page.get_by_role("button", name="Roll back", exact=True)
    back.wait_for()
    assert not page.get_by_role("button", name="Undo").count()
    press(page, "Roll back", reason="it got worse")
    page.locator("dialog[open]").wait_for(state="detached")
    started = stage.do(lambda made: made.events(acts.CompensationStarted.kind))[0]
    assert (started.actor, started.event().reason) == ("person:approver", "rolled back by a person: it got worse")
    stage.do(lambda made: made.tick(4))
    back.wait_for(state="detached")
    assert stage.made.engine.state.plans[second["plan"]].status == "ended"
    page = live(watched.open(f"/approvals/{third['id']}"))
    press(page, "Approve", confirm="sick-3")
    page.get_by_role("button", name="Undo").wait_for()
    stage.do(lambda made: made.tick(8))
    page.locator("article", has_text="approved and done").wait_for()
    # a lasting step has no way back: the button is not there, or says why not
    back = page.get_by_role("button", name="Roll back")
    assert not back.count() or (back.get_attribute("aria-disabled") == "true" and back.get_attribute("title"))


def test_c5_only_equal_requests_are_decided_together_and_never_what_is_irreversible(stage, tab):
    alike = [stage.do(lambda made, number=number: open_request(made, f"alike-{number}")) for number in (1, 2)]
    lasting = [stage.do(lambda made, number=number: open_request(made, f"lasting-{number}", kind=LASTING)) for number in (1, 2)]
    other = stage.do(lambda made: open_request(made, "other-1", kind="prompt_drift"))
    page = live(enter(tab(stage.url), stage, "approver", "/approvals"))
    buttons = page.locator("#bulk button")
    assert buttons.all_inner_texts() == ["Approve 2 alike (alike-1, alike-2)", "Reject 2 alike (alike-1, alike-2)"]
    buttons.first.click()
    page.locator("dialog[open]").wait_for()
    assert all(request["id"] in page.locator("#ask-body").inner_text() for request in alike)
    page.locator("#ask-reason").fill("both looked at")
    page.locator("#ask-ok").click()
    page.get_by_text("2 decided, 0 refused").wait_for()
    assert [status(stage, request) for request in (*alike, *lasting, other)] == ["granted", "granted", "pending", "pending", "pending"]
    granted = stage.do(lambda made: [(one.actor, one.event()) for one in made.events(acts.ApprovalGranted.kind)])
    assert {actor for actor, _ in granted} == {"person:approver"}
    assert {event.reason for _, event in granted} == {"both looked at"}
    buttons.first.wait_for(state="detached")


def test_c6_who_when_and_why_stay_and_a_rejected_one_keeps_heal_now(stage, tab):
    request = stage.do(lambda made: open_request(made, "sick-1"))
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", "/approvals"))
    press(page, "Reject", reason="not at this hour")
    row = page.locator(f"#decided tr[data-key='{request['id']}']")
    row.wait_for()
    for viewport in ({"width": 1280, "height": 900}, NARROW):
        page.set_viewport_size(viewport)
        page.reload()
        watched.loaded()
        text = row.inner_text()
        for said in ("rejected", "approver", "not at this hour"):
            assert said in text, text
        when = row.locator("time")
        assert when.is_visible()
        assert when.get_attribute("datetime")
    button = row.get_by_role("button", name="Heal now", exact=True)
    assert button.get_attribute("aria-disabled") is None
    # the page of the request and the incident keep it, too
    for path in (f"/approvals/{request['id']}", f"/incidents/{request['incident']}"):
        page = watched.open(path)
        page.locator("article", has_text="not at this hour").get_by_role("button", name="Heal now").wait_for()
    press(live(page), "Heal now")
    stage.wait(lambda: any(plan.trigger == "heal_now" and plan.agent_id == "sick-1" for plan in stage.made.engine.state.plans.values()))
    page = watched.open("/approvals")
    assert "not at this hour" in row.inner_text(), "the first decision stays on record"


def test_c7_the_count_is_in_the_navigation_and_the_title_of_every_page(stage, tab):
    watched = tab(stage.url)
    page = live(watched.open("/fleet"))
    badge = page.locator("#pending-count")
    assert badge.is_hidden()
    assert page.title() == "Fleet · Immune"
    requests = [stage.do(lambda made, number=number: open_request(made, f"sick-{number}")) for number in (1, 2)]
    page.wait_for_function("() => document.title === '(2) Fleet · Immune'")
    assert (badge.inner_text(), badge.get_attribute("aria-label")) == ("2", "2 waiting")
    for path, title in (
        ("/agents/sick-1", "sick-1"),
        (f"/incidents/{requests[0]['incident']}", requests[0]["incident"]),
        ("/journal", "Journal"),
        ("/system", "System"),
    ):
        page = live(watched.open(path))
        page.wait_for_function(f"() => document.title === '(2) {title} · Immune'")
        assert badge.inner_text() == "2"
    page = live(enter(watched, stage, "approver", f"/approvals/{requests[0]['id']}"))
    press(page, "Reject", reason="no need")
    page.wait_for_function("() => document.title.startsWith('(1) ')")
    press(live(watched.open(f"/approvals/{requests[1]['id']}")), "Reject", reason="no need")
    page.wait_for_function("() => !document.title.startsWith('(')")
    assert badge.is_hidden()


def test_c8_a_viewer_sees_disabled_buttons_and_why_and_the_server_refuses(stage, tab):
    request = stage.do(lambda made: open_request(made, "sick-1"))
    stage.do(lambda made: open_request(made, "sick-2"))
    watched = tab(stage.url)
    watched.allowed.add(403)
    why = "the role viewer may not do this; ask for the role approver"
    for path in ("/approvals", f"/approvals/{request['id']}", f"/incidents/{request['incident']}"):
        page = live(enter(watched, stage, "viewer", path))
        card = page.locator(f"article#{request['id']}")
        for label in ("Approve", "Reject"):
            button = card.locator(f"button[data-act={label}]")
            assert button.get_attribute("aria-disabled") == "true"
            assert (button.get_attribute("title"), button.text_content()) == (why, f"{label}: {why}")
        assert f"Approve, Reject: {why}" in card.locator(".why-not").inner_text(), "it is written there, no hand must hover"
        card.locator("button[data-act=Approve]").click(force=True)
        page.locator("#toasts", has_text=why).first.wait_for()
        assert not page.locator("dialog[open]").count()
    page = live(watched.open("/approvals"))
    bulk = page.locator("#bulk button")
    assert {one.get_attribute("aria-disabled") for one in bulk.all()} == {"true"}
    for key in "ar":
        page.keyboard.press(key)
        assert not page.locator("dialog[open]").count()
    refused = page.evaluate(
        """async ([id, plan_hash]) => {
            const { csrf } = await (await fetch('/api/session')).json();
            const send = (path, body) => fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf }, body: JSON.stringify(body) });
            const asked = [
                [`/api/approvals/${id}/approve`, { plan_hash }],
                [`/api/approvals/${id}/reject`, { plan_hash, reason: 'no' }],
                [`/api/approvals/${id}/undo`, {}],
                [`/api/approvals/${id}/heal-now`, {}],
                ['/api/approvals/bulk', { decision: 'reject', plans: { [id]: plan_hash }, reason: 'no' }],
                ['/api/agents/sick-1/contain', { level: 'isolated', reason: 'no' }],
            ];
            return Promise.all(asked.map(async ([path, body]) => { const answer = await send(path, body); return [answer.status, (await answer.json()).detail]; }));
        }""",
        [request["id"], request["plan_hash"]],
    )
    assert [code for code, _ in refused] == [403] * 6, refused
    assert all("the role viewer may not do this" in detail for _, detail in refused)
    assert status(stage, request) == "pending"
    assert stage.do(lambda made: made.kinds().count("approval_granted") + made.kinds().count("contained")) == 0


def test_c3_the_second_person_to_decide_sees_who_decided_and_when(stage, tab):
    request = stage.do(open_request)
    first, second = tab(stage.url), tab(stage.url)
    second.allowed.add(409)
    for watched, role in ((first, "approver"), (second, "admin")):
        live(enter(watched, stage, role, f"/approvals/{request['id']}"))
    second.page.get_by_role("button", name="Approve", exact=True).click()
    press(first.page, "Reject", reason="no need")
    first.page.get_by_role("button", name="Heal now").wait_for()
    with second.page.expect_response("**/approve") as answered:
        second.page.locator("#ask-ok").click()
    assert answered.value.status == 409
    error = second.page.locator("#ask-error")
    error.get_by_text("already rejected by approver").wait_for()
    decided_at = re.search(r"by person:approver at (20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z)", answered.value.json()["detail"])[1]
    assert f"{datetime.fromisoformat(decided_at).astimezone():%H:%M:%S}" in error.inner_text(), "when, in the time of whoever reads it"
    second.page.keyboard.press("Escape")
    shown = second.page.locator(".decision", has_text="rejected by approver")
    shown.wait_for()
    assert shown.locator("time").is_visible()
    assert "no need" in shown.inner_text()
