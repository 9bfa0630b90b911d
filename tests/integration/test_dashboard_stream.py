"""The live stream of the dashboard: from where a page was, once each, through restarts of daemon and dashboard."""

from __future__ import annotations

import asyncio
import json

import pytest

from dashboard import follower, site
from dashboard.frames import AGENTS_MAX
from immune.core import events as ev
from immune.core.acts import SicknessReported
from immune.core.decision import Decision
from immune.core.events import Draft
from tests.integration.daemon_kit import open_incident
from tests.integration.dashboard_kit import dashboard, start

WITHIN_S = 8.0


class Listener:
    """One open page, as its EventSource hears it."""

    def __init__(self, page, query="", **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.request = page.session.get(page.dashboard.url + "/api/stream" + query, headers=sent)

    async def __aenter__(self):
        self.response = await self.request.__aenter__()
        return self

    async def __aexit__(self, *error):
        self.response.close()

    async def next(self, *kinds):
        """The next message of one of these kinds: (id, kind, document)."""
        while True:
            text = (await asyncio.wait_for(self.response.content.readuntil(b"\n\n"), WITHIN_S)).decode()
            fields = dict(line.split(": ", 1) for line in text.strip().split("\n"))
            if fields.get("event") in kinds:
                return int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])


def tell(made, who="sick-1", times=1):
    for _ in range(times):
        made.engine.submit(Decision(drafts=(Draft(at_us=made.clock.at_us, subject=who, event=SicknessReported(reason="r")),)))


async def test_a_page_hears_of_an_event_and_gets_the_lines_that_changed(tmp_path):
    async with dashboard(tmp_path) as shown, Listener(shown.page()) as page:
        _, _, hello = await page.next("hello")
        assert (hello["run_id"], hello["from"], hello["seq"]) == ("run-1", 1, 1)
        incident = open_incident(shown.daemon)
        seen, agents = 0, {}
        while seen < shown.daemon.engine.state.seq:
            seen, _, news = await page.next("change")
            agents |= {row["id"]: row for row in news["agents"]}
        assert agents["sick-1"]["incident"] == incident
        assert news["stats"]["incidents"]["open"] == 1
        assert news["stats"]["agents"] == sum(news["stats"]["states"].values())


async def test_who_was_away_gets_every_event_once_and_in_order(tmp_path):
    async with dashboard(tmp_path) as shown:
        open_incident(shown.daemon)
        tell(shown.daemon, times=30)
        await shown.caught_up()
        head = shown.daemon.engine.state.seq
        async with Listener(shown.page(), Last_Event_ID="5") as page:
            found, seen = [], 0
            while seen < head:
                seen, _, news = await page.next("change")
                assert news["after"] == (found[-1] if found else 5)
                found += [one["seq"] for one in news["events"]]
            assert found == list(range(6, head + 1))


async def test_an_open_page_goes_on_after_a_restart_of_the_dashboard(tmp_path):
    async with dashboard(tmp_path) as shown:
        port = shown.served.site.options.port
        async with Listener(shown.page()) as page:
            _, _, hello = await page.next("hello")
            at = hello["seq"]
        await shown.close()
        open_incident(shown.daemon)
        again = start(tmp_path, made=shown.daemon, port=port)
        try:
            async with Listener(again.page(), f"?run_id=run-1&after={at}") as page:
                _, _, hello = await page.next("hello")
                assert hello["run_id"] in {"run-1", ""}
                kind, news = "", {}
                while news.get("seq", 0) < shown.daemon.engine.state.seq:
                    _, kind, news = await page.next("change", "run")
                assert kind in {"change", "run"}
        finally:
            await again.close()
            shown.served, shown.thread, shown.pages = again.served, again.thread, []


async def test_another_run_tells_open_pages_to_ask_for_everything_anew(tmp_path):
    async with dashboard(tmp_path) as shown, Listener(shown.page()) as page:
        await page.next("hello")
        journal = shown.daemon.engine.journal
        epoch = journal.acquire("run-2", "test", 0)
        started = ev.RunStarted(version="0", epoch=epoch, period_us=1, policy_version="p", policy="", source="test")
        journal.append("run-2", [Draft(at_us=shown.daemon.clock.at_us, subject="run", event=started)], expected_seq=0, epoch=epoch)
        _, _, news = await page.next("run")
        assert news["run_id"] == "run-2"
        await shown.until(lambda: shown.served.site.projection.run_id == "run-2")
        _, _, _ = await page.next("beat", "change", "run")


async def test_a_flood_of_changes_says_ask_again_instead_of_sending_them(tmp_path):
    async with dashboard(tmp_path) as shown:
        drafts = tuple(
            Draft(at_us=shown.daemon.clock.at_us, subject=f"a-{n}", event=ev.AgentEnrolled(index=n, type="x", service=""))
            for n in range(AGENTS_MAX + 10)
        )
        async with Listener(shown.page()) as page:
            await page.next("hello")
            shown.daemon.engine.submit(Decision(drafts=drafts))
            resets = []
            seq = 0
            while seq < shown.daemon.engine.state.seq:
                seq, _, news = await page.next("change")
                resets.append(news["reset"])
                assert len(news["agents"]) <= AGENTS_MAX
            assert any(resets)
            assert news["stats"]["agents"] == AGENTS_MAX + 10


async def test_pages_are_told_when_the_daemon_goes_and_comes(tmp_path):
    async with dashboard(tmp_path) as shown, Listener(shown.page()) as page:
        await page.next("hello")
        _, _, status = await page.next("status")
        await shown.daemon.server.close()
        while status["daemon"]["status"] != "away":
            _, _, status = await page.next("status")
        assert status["troubles"][0]["what"] == "daemon"


async def test_there_are_only_so_many_open_pages_and_closed_ones_make_room(tmp_path, monkeypatch):
    async with dashboard(tmp_path) as shown:
        shown.served.site.streams = type(shown.served.site.streams)(2)
        first, second = Listener(shown.page()), Listener(shown.page())
        async with first, second:
            await first.next("hello")
            await second.next("hello")
            refused = await shown.page().get("/api/stream")
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        # nobody tells a server that a page has gone; it notices when it next has something to say
        await shown.until(lambda: _nudged(shown) and shown.served.site.counters.streams == 0)
        async with Listener(shown.page()) as third:
            await third.next("hello")


def _nudged(shown):
    with shown.served.site.follower.news:
        shown.served.site.follower.news.notify_all()
    tell(shown.daemon)
    return True


async def test_a_journal_that_goes_and_comes_back_is_said_and_followed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "RETRY_S", 0.05)
    async with dashboard(tmp_path) as shown:
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            (tmp_path / name).rename(tmp_path / f"{name}.gone")
        await shown.until(lambda: bool(shown.served.site.follower.trouble))
        assert (await shown.page().get("/api/agents")).status == 200
        assert (await shown.page().get("/readyz")).status == 503
        assert any(one["what"] == "journal" for one in (await shown.page().get("/api/system")).document["troubles"])
        for name in ("journal.db-wal", "journal.db-shm", "journal.db"):
            (tmp_path / f"{name}.gone").rename(tmp_path / name)
        await shown.until(lambda: not shown.served.site.follower.trouble)


@pytest.mark.parametrize("after", ["-1", "x", "1" * 30])
async def test_what_is_no_seq_is_refused(tmp_path, after):
    async with dashboard(tmp_path) as shown:
        assert (await shown.page().get("/api/stream", Last_Event_ID=after)).status == 400
        assert site.STREAMS_MAX > 16
