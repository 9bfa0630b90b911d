"""Ten thousand agents on one page: drawn at once, few nodes, live without a stutter."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from immune.bootstrap import open_stores
from immune.core import events as ev
from immune.core.events import Draft
from tests.browser.conftest import ROOT, WIDE, Served

AGENTS = 10_000
MAP_MS, FRAME_MS, NODES = 500, 50, 3000


@pytest.fixture(scope="module")
def many(tmp_path_factory, chromium):
    spec = importlib.util.spec_from_file_location("bench_dashboard", ROOT / "benchmarks" / "dashboard.py")
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    folder = tmp_path_factory.mktemp("many")
    bench.write_fleet(folder, AGENTS)
    shown = Served(folder=folder).start()
    shown.wait(lambda: len(shown.served.site.projection.state.agents) == AGENTS)
    yield shown
    shown.stop()


def test_the_map_of_ten_thousand_agents_is_drawn_quickly_with_few_nodes(many, tab):
    watched = tab(many.url, viewport=WIDE)
    page = watched.open("/fleet")
    page.locator("#map canvas").wait_for()
    drawn_ms = page.evaluate("performance.getEntriesByName('fleet-drawn').at(0).duration")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    assert drawn_ms < MAP_MS
    assert nodes < NODES
    assert page.locator("#counts").get_by_text("10000").or_(page.locator("#counts").get_by_text("10,000")).count() >= 1
    print(f"drawn in {drawn_ms:.0f} ms, {nodes} nodes")


def test_a_live_frame_of_ten_thousand_agents_does_not_stutter(many, tab):
    watched = tab(many.url, viewport=WIDE)
    page = watched.open("/fleet")
    page.locator("#live-chip", has_text="daemon away").wait_for()  # the stream is open, nobody writes
    page.evaluate("performance.clearMeasures()")
    stores = open_stores(many.folder)
    seq, _ = stores.journal.head("bench-fleet")
    epoch = stores.journal.acquire("bench-fleet", "test", many.served.site.clock.now_us())
    for number in range(8):
        sick = ev.HealthChanged(before="healthy", after="suspected", nats=9.0, samples=30, basis="own")
        agent_id = f"writer-{5 * number + 1:05d}"
        stores.journal.append(
            "bench-fleet", [Draft(at_us=many.served.site.clock.now_us(), subject=agent_id, event=sick)], expected_seq=seq + number, epoch=epoch
        )
        many.wait(lambda number=number: many.served.site.projection.state.seq >= seq + number + 1)
    stores.close()
    page.wait_for_function("performance.getEntriesByName('fleet-drawn').length >= 1")
    page.locator("#counts", has_text="suspected").wait_for()
    frames = page.evaluate("performance.getEntriesByName('fleet-drawn').map((one) => one.duration)")
    # the machine may be busy with something else; what the page itself needs is what its quicker frames took
    assert sorted(frames)[len(frames) // 4] < FRAME_MS, frames
    print("frames in ms:", [round(one) for one in frames])


def test_the_map_is_read_by_hand_and_by_keyboard(many, tab):
    watched = tab(many.url, viewport=WIDE)
    page = watched.open("/fleet?q=state:sick")
    canvas = page.locator("#map canvas")
    canvas.wait_for()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.locator("#map").get_by_text("sick").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/agents/**")
    watched.loaded()
    assert "sick" in page.locator("h1").text_content()
