"""The page of one agent: lines B1 to B4."""

from __future__ import annotations

import pytest

from tests.browser.conftest import US, enter, live, staging
from tests.integration.daemon_kit import open_incident, open_request

STAGES = ("noticed", "planned", "asked", "approved", "step", "probation", "verified", "released")


def series(page, agent_id):
    return page.evaluate(f"fetch('/api/agents/{agent_id}/series').then((answer) => answer.json())")


def healed(page):
    """The agent whose incident went the whole way: noticed, asked about, approved, healed, verified, released."""
    incidents = page.evaluate("fetch('/api/incidents').then((answer) => answer.json())")["incidents"]
    whole = [one for one in incidents if one["outcome"] == "healed" and one["plan_status"] == "ended"]
    assert whole, "no incident of the demo was healed"
    return whole[-1]["agents"][0], whole[-1]["id"]


# counts pixels near this colour within a column of a chart, in device pixels
COLUMN = """([vital, at_us, name, reach]) => {
    const { plot } = document.querySelector(`[data-vital="${vital}"]`).kept;
    // read from a copy: reading back from the chart itself is what browsers warn about
    const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    const { top, height } = plot.bbox;
    const x = Math.round(plot.valToPos(at_us / 1e6, 'x', true));
    [probe.canvas.width, probe.canvas.height] = [2 * reach + 1, height];
    probe.drawImage(plot.ctx.canvas, x - reach, top, 2 * reach + 1, height, 0, 0, 2 * reach + 1, height);
    const { data } = probe.getImageData(0, 0, 2 * reach + 1, height);
    let found = 0;
    for (let n = 0; n < data.length; n += 4) found += data[n + 3] > 200 && Math.abs(data[n] - r) + Math.abs(data[n + 1] - g) + Math.abs(data[n + 2] - b) < 24;
    return found / height;
}"""


def test_b1_a_chart_per_vital_with_line_band_marks_and_shades(recorded, tab):
    watched = tab(recorded.url)
    agent_id, _ = healed(watched.open("/fleet"))
    page = watched.open(f"/agents/{agent_id}")
    page.locator("#charts canvas").first.wait_for()
    found = series(page, agent_id)
    measured = [one for one in found["vitals"] if one["at_us"]]
    assert page.locator("#charts .chart").count() == len(measured) >= 8
    for vital in measured:
        chart = page.locator(f"[data-vital='{vital['name']}']")
        assert vital["label"] in chart.locator("h3").text_content()
        assert vital["unit"] in chart.locator("h3").text_content()
        assert "expected" in chart.get_attribute("aria-label"), "the learned band is told, too"
        assert chart.evaluate("(one) => one.kept.plot.data[3].some((low) => low !== null)"), "and drawn"
    legend = page.locator(".legend").inner_text()
    for said in ("measured", "expected", "learned band", "first symptom", "incident opened", "sick", "contained", "healing on trial"):
        assert said in legend
    kinds = {one["kind"]: one for one in found["spans"]}
    assert {"sick", "held", "trial"} <= set(kinds)
    opened = next(one for one in found["marks"] if one["kind"] == "opened")
    vital = opened["vitals"][0]
    # what is drawn last lies on top: sick, then held, then on trial
    trial = kinds["trial"]
    middle = (trial["from_us"] + trial["to_us"]) // 2
    assert page.evaluate(COLUMN, [vital, middle, "--good-ground", 0]) > 0.3, "healing on trial is shaded"
    held = kinds["held"]
    before_trial = (held["from_us"] + trial["from_us"]) // 2
    assert page.evaluate(COLUMN, [vital, before_trial, "--warn-ground", 0]) > 0.3, "containment is shaded"
    assert page.evaluate(COLUMN, [vital, opened["at_us"], "--bad", 2]) > 0.9, "the alarm is marked over the whole height"
    other = next(one["name"] for one in measured if one["name"] not in opened["vitals"])
    assert page.evaluate(COLUMN, [other, opened["at_us"], "--bad", 2]) < 0.9, "but only where it showed"
    course = page.locator("#course").inner_text()
    for said in ("first symptom", "incident opened", "contained", "healing on trial", "sick"):
        assert said in course


def test_b1_the_cursor_is_shared_a_drag_zooms_and_the_range_lives_in_the_address(recorded, tab):
    watched = tab(recorded.url)
    agent_id, _ = healed(watched.open("/fleet"))
    page = watched.open(f"/agents/{agent_id}")
    charts = page.locator("#charts .chart")
    charts.first.wait_for()
    charts.first.scroll_into_view_if_needed()
    box = charts.first.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    whole = series(page, agent_id)
    span_us = whole["to_us"] - whole["from_us"]

    def pointed_at():
        return page.evaluate("[...document.querySelectorAll('.chart')].map(({ kept: { plot } }) => plot.data[0][plot.cursor.idx])")

    assert (max(pointed_at()) - min(pointed_at())) * US < 0.02 * span_us, "one cursor for all charts"
    assert all(charts.locator(".read").all_text_contents()), "and each says its figure there"
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 40, steps=4)
    page.mouse.up()
    page.wait_for_url("**from=*")

    def window():
        return page.evaluate("['from', 'to'].map((name) => Number(new URLSearchParams(location.search).get(name)))")

    def axis():
        return page.evaluate("[...document.querySelectorAll('.chart')].map((one) => [one.kept.plot.data[0][0], one.kept.plot.data[0].at(-1)])")

    def zoomed():
        page.wait_for_function(
            "() => { const [from, to] = ['from', 'to'].map((name) => Number(new URLSearchParams(location.search).get(name))); "
            "return [...document.querySelectorAll('.chart')].every(({ kept: { found } }) => found.from_us === from && found.to_us === to); }"
        )

    zoomed()
    first, last = window()
    assert 0.15 * span_us < last - first < 0.35 * span_us
    assert all(first <= start * US and end * US <= last for start, end in axis())
    again = tab(recorded.url).open(page.url.removeprefix(recorded.url))
    again.locator("#charts canvas").first.wait_for()
    assert again.evaluate("document.querySelector('.chart').kept.found.from_us") == first
    # what a drag does can be done without one
    page.get_by_role("button", name="Zoom out").click()
    zoomed()
    assert window()[1] - window()[0] == pytest.approx(2 * (last - first), abs=2)
    page.get_by_role("button", name="Earlier").click()
    zoomed()
    page.get_by_role("button", name="Later").click()
    page.get_by_role("button", name="Zoom in").click()
    zoomed()
    assert window() == pytest.approx([first, last], abs=4)
    charts.first.focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert charts.first.evaluate("({ kept: { plot } }) => plot.cursor.idx") == 2
    assert (max(pointed_at()) - min(pointed_at())) * US < 0.1 * (last - first)
    assert charts.first.locator(".read[aria-live=polite]").text_content()
    page.get_by_role("button", name="Newest 15 minutes").click()
    page.wait_for_function("() => !location.search.includes('from=')")
    page.go_back()
    page.wait_for_url("**from=*")


def test_b2_why_ranks_the_evidence_with_what_was_expected_since_when_and_how_sure(recorded, tab):
    watched = tab(recorded.url)
    agent_id, incident_id = healed(watched.open("/fleet"))
    page = watched.open(f"/agents/{agent_id}")
    incidents = page.evaluate(f"fetch('/api/agents/{agent_id}').then((answer) => answer.json())")["incidents"]
    incident = incidents[0]
    ranked = sorted(incident["evidence"], key=lambda one: -one["nats"])
    items = page.locator("#why .why-list li")
    assert items.count() == len(ranked) >= 2
    units = {"latency_ms": "ms", "cost_usd": "USD", "input_tokens": "tokens", "output_tokens": "tokens", "context_tokens": "tokens"}
    for one, item in zip(ranked, items.all(), strict=True):
        text = item.inner_text()
        assert one["vital"].removesuffix("_ms").removesuffix("_usd").replace("_", " ") in text
        for said in ("against", "expected", "nats, since", f"calibration {one['calibration']:.3g}"):
            assert said in text, text
        assert units.get(one["vital"], "") in text, "figures have their unit"
        assert item.locator("time").get_attribute("datetime")[:19] == one["onset_at"][:19]
    assert page.locator("#why .causes li").first.inner_text().startswith(incident["diagnosis"][0]["kind"].replace("_", " "))
    assert incident_id.startswith("inc-")


def test_b2_an_agent_that_is_being_learned_says_how_far_it_is(tmp_path, chromium, tab):
    with staging(tmp_path, ago_s=120) as stage:

        async def work(made, times):
            for _ in range(times):
                await made.vitals({"agent": "new-1", "type": "writer", "latency_ms": 900, "input_tokens": 1000})
                await made.tick()

        stage.do(lambda made: work(made, 12))
        page = live(tab(stage.url).open("/agents/new-1"))
        page.locator("#why", has_text="baseline 12 of 15").wait_for()
        page.locator("#agent-head", has_text="12 of 15").wait_for()
        stage.do(lambda made: work(made, 1))
        page.locator("#why", has_text="baseline 13 of 15").wait_for()  # without a reload


def test_b3_the_timeline_goes_from_detection_to_release_with_permalinks_and_raw_json(recorded, tab):
    watched = tab(recorded.url)
    agent_id, incident_id = healed(watched.open("/fleet"))
    page = watched.open(f"/agents/{agent_id}")
    items = page.locator("#timeline li")
    newest_first = [text.strip() for text in items.locator(".stage").all_text_contents()]
    whole = newest_first[::-1]
    places = [whole.index(stage) for stage in STAGES]
    assert places == sorted(places), whole
    noticed = items.filter(has=page.locator(".stage", has_text="noticed")).last
    incident = page.evaluate(f"fetch('/api/incidents/{incident_id}').then((answer) => answer.json())")["incident"]
    assert incident["diagnosis"][0]["kind"].replace("_", " ") in noticed.inner_text(), "detection says what it looks like"
    seqs = [int(one[1:]) for one in items.evaluate_all("(found) => found.map((one) => one.id)")]
    assert seqs == sorted(seqs, reverse=True)
    for item in items.all():
        event_id = item.get_attribute("id")
        assert item.get_by_title("Permalink").get_attribute("href") == f"/journal/{event_id}"
        assert item.get_by_title("Raw JSON").get_attribute("href") == f"/api/journal/{event_id}"
    event_id = noticed.get_attribute("id")
    raw = page.request.get(f"{recorded.url}/api/journal/{event_id}").json()["event"]
    assert (raw["kind"], raw["subject"], raw["incident"]) == ("incident_opened", agent_id, incident_id)
    assert {"body", "hash", "prev_hash"} <= set(raw)
    noticed.get_by_title("Permalink").click()
    page.wait_for_url(f"**/journal/{event_id}")
    watched.loaded()
    assert raw["hash"] in page.locator("pre").text_content()
    watched.open(f"/agents/{agent_id}#{event_id}")
    page.locator(f"#{event_id}:target").wait_for()


ACTIONS = ("Contain", "Release", "Heal", "Heal now", "Reset baseline", "Mute")


def disabled(page):
    """Why each button cannot be pressed, by its label; only those that cannot."""
    return page.locator("#actions button[aria-disabled=true]").evaluate_all(
        "(found) => Object.fromEntries(found.map((one) => [one.dataset.act, one.title]))"
    )


def test_b4_what_is_not_allowed_is_disabled_with_the_reason(stage, tab):
    request = stage.do(lambda made: open_request(made, "sick-1"))
    stage.do(lambda made: open_incident(made, "well-1"))
    watched = tab(stage.url)
    page = watched.open("/agents/sick-1")
    assert {label: disabled(page)[label] for label in ACTIONS} == dict.fromkeys(ACTIONS, "log in to decide")
    assert "log in to decide" in page.locator("#actions .why-not").inner_text(), "the reason stands there, no hand must hover"
    page.locator("#actions button[data-act=Contain]").click(force=True)
    page.locator("#toasts", has_text="log in to decide").wait_for()
    assert not page.locator("dialog[open]").count()
    enter(watched, stage, "viewer", "/agents/sick-1")
    assert disabled(page)["Contain"] == "the role viewer may not do this; ask for the role operator"
    assert disabled(page)["Heal now"] == "the role viewer may not do this; ask for the role approver"
    enter(watched, stage, "operator", "/agents/sick-1")
    assert disabled(page) == {
        "Release": "it is not contained",
        "Heal": f"it has a plan already: {request['plan']} (waiting)",
        "Heal now": "the role operator may not do this; ask for the role approver",
    }
    enter(watched, stage, "approver", "/agents/sick-1")
    assert "Heal now" not in disabled(page)
    stage.do(lambda made: made.server.close())
    page.locator("#banners", has_text="the daemon is away").wait_for()
    page.reload()
    watched.loaded()
    assert set(ACTIONS) <= set(disabled(page))
    assert "the daemon is away" in disabled(page)["Contain"]


def test_b4_contain_release_mute_reset_and_heal_now_are_done_from_the_page(stage, tab):
    stage.do(lambda made: open_request(made, "sick-1"))
    stage.do(lambda made: open_incident(made, "sick-2"))
    stage.do(lambda made: open_request(made, "sick-3"))
    watched = tab(stage.url)
    page = live(enter(watched, stage, "approver", "/agents/sick-1"))

    def press(label, ok, **fields):
        page.locator(f"#actions button[data-act='{label}']:not([aria-disabled])").click()
        page.locator("dialog[open]").wait_for()
        for name, value in fields.items():
            field = page.locator(f"#ask-{name}")
            field.select_option(value) if field.evaluate("(one) => one.nodeName") == "SELECT" else field.fill(value)
        page.locator("#ask-ok", has_text=ok).click()
        page.locator("dialog[open]").wait_for(state="detached")

    def told(kind, agent_id="sick-1"):
        mine = lambda made: [one for one in made.events(kind) if agent_id == one.subject or agent_id in of_incident(made, one)]
        of_incident = lambda made, one: made.engine.state.incidents[one.correlation_id].agents if one.correlation_id else ()
        stage.wait(lambda: bool(stage.do(mine)))
        return stage.do(mine)[-1]

    press("Contain", "Contain", level="isolated", reason="it spends too much")
    assert told("contained").actor == "person:approver"
    stage.do(lambda made: made.tick())
    press("Release", "Release", reason="enough")
    assert told("released").actor == "person:approver"
    press("Mute", "Mute", reason="known")
    assert told("muted").actor == "person:approver"
    live(watched.open("/agents/sick-3"))
    press("Heal now", "Heal now")
    stage.wait(lambda: any(plan.trigger == "heal_now" and plan.agent_id == "sick-3" for plan in stage.made.engine.state.plans.values()))
    live(watched.open("/agents/sick-2"))
    press("Reset baseline", "Reset baseline", reason="this is normal now")
    told("feedback_given", "sick-2")
    page.get_by_text("none open").wait_for()
