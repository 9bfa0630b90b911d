"""The live stream: from where one was, as it happens, and nobody holds it up."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from immune.api import streaming
from immune.api.stream import Stream
from immune.core.acts import SicknessReported
from immune.core.decision import Decision
from immune.core.events import Draft
from tests.integration.daemon_kit import daemon, with_limits

REASON = {"reason": "r"}


class Listener:
    def __init__(self, made, path="/v1/stream", **headers):
        sent = {"Authorization": f"Bearer {made.token['viewer']}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.request = made.session.get(made.server.url + path, headers=sent)

    async def __aenter__(self):
        self.response = await self.request.__aenter__()
        return self

    async def __aexit__(self, *error):
        self.response.close()

    async def frames(self, count):
        found = []
        while len(found) < count:
            text = (await asyncio.wait_for(self.response.content.readuntil(b"\n\n"), 5)).decode()
            fields = dict(line.split(": ", 1) for line in text.strip().split("\n") if not line.startswith(":"))
            if "id" in fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
        return found


@asynccontextmanager
async def ticking(folder, **options):
    async with daemon(folder, **options) as made:
        await made.tick()
        yield made


async def test_what_happens_arrives_with_its_seq_and_whole_envelope(tmp_path):
    async with ticking(tmp_path) as made, Listener(made) as listener:
        assert listener.response.headers["Content-Type"].startswith("text/event-stream")
        assert listener.response.headers["X-Immune-Run"] == "run-1"
        await made.ask("POST", "/v1/stop", {"reason": "first line\nid: 99\n\ndata: forged"})
        [(seq, kind, envelope)] = await listener.frames(1)
        assert (seq, kind) == (made.engine.state.seq, "contained")
        assert envelope == made.events("contained")[0].as_json()


async def test_it_resumes_after_any_seq_from_the_journal_without_a_gap(tmp_path):
    async with daemon(tmp_path) as made:
        for n in range(450):
            await made.vitals({"agent": f"a{n}"})
        await made.tick()
        head = made.engine.state.seq
        assert head > 450
        async with Listener(made, Last_Event_ID="0") as listener:
            assert [seq for seq, _, _ in await listener.frames(head)] == list(range(1, head + 1))
            await made.ask("POST", "/v1/stop", REASON)
            assert [seq for seq, _, _ in await listener.frames(1)] == [head + 1]
        async with Listener(made, "/v1/stream?after=5") as listener:
            assert [seq for seq, _, _ in await listener.frames(3)] == [6, 7, 8]


async def test_a_client_of_another_run_starts_at_the_head_of_this_one(tmp_path):
    async with ticking(tmp_path) as made, Listener(made, Last_Event_ID="987654321") as listener:
        await made.ask("POST", "/v1/stop", REASON)
        assert [seq for seq, _, _ in await listener.frames(1)] == [made.engine.state.seq]


async def test_there_are_only_so_many_listeners(tmp_path):
    async with ticking(tmp_path, policy=with_limits(stream_clients=2)) as made:
        async with Listener(made), Listener(made):
            refused = await made.ask("GET", "/v1/stream", who="viewer")
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        for _ in range(50):
            await made.ask("POST", "/v1/stop", REASON)
            if made.api.context.stream.clients == 0:
                break
        assert made.api.context.stream.clients == 0


async def test_a_quiet_stream_says_that_it_is_still_there(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.01)
    async with daemon(tmp_path) as made, Listener(made) as listener:
        await listener.response.content.readuntil(b"retry: 2000\n\n")
        assert await asyncio.wait_for(listener.response.content.readuntil(b"\n\n"), 5) == b": still here\n\n"


async def test_who_may_not_look_any_more_hears_nothing_more(tmp_path):
    async with ticking(tmp_path) as made, Listener(made) as listener:
        await made.ask("POST", "/v1/stop", REASON)
        assert len(await listener.frames(1)) == 1
        made.tokens.revoke("viewer")
        await made.ask("POST", "/v1/stop", REASON)
        rest = await asyncio.wait_for(listener.response.content.read(), 5)
        assert b"data:" not in rest, "the stream ends, and what happened since is not told"


async def test_a_listener_that_does_not_read_is_dropped_and_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "STUCK_S", 0.05)
    async with ticking(tmp_path) as made:
        _, writer = await asyncio.open_connection("127.0.0.1", made.server.port, limit=1024)
        writer.write(
            f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {made.token['viewer']}\r\nLast-Event-ID: 0\r\n\r\n".encode()
        )
        big = Draft(at_us=made.clock.at_us, subject="x", event=SicknessReported(reason="x" * 200_000))
        async with Listener(made) as other:
            for _ in range(500):
                made.engine.submit(Decision(drafts=(big,)))
                assert (await other.frames(1))[0][1] == "sickness_reported"
                if made.api.context.stream.dropped:
                    break
            assert made.api.context.stream.dropped == 1
        writer.close()


async def test_closing_the_server_lets_listeners_go(tmp_path):
    async with daemon(tmp_path) as made:
        listener = Listener(made)
        await listener.__aenter__()
        await made.server.close()
        rest = await asyncio.wait_for(listener.response.content.read(), 5)
        assert rest.endswith(b"\n\n")


def test_a_hole_in_what_was_published_is_filled_from_the_journal():
    class Journal:
        def read(self, run_id, *, after_seq, limit):
            return iter([("from the journal", seq) for seq in range(after_seq + 1, after_seq + 3)])

    class Envelope:
        def __init__(self, seq):
            self.seq = seq

    stream = Stream(Journal(), "r")
    stream.publish([Envelope(1), Envelope(2)], 2)
    stream.publish([Envelope(5)], 5)
    assert [envelope.seq for envelope in stream.page(4)] == [5]
    assert stream.page(2) == [("from the journal", 3), ("from the journal", 4)]
    stream.publish([], 9)
    assert stream.page(5) == [("from the journal", 6), ("from the journal", 7)]


@pytest.mark.parametrize("bad", ["-1", "1.5", "e5", "٣", "9" * 30])
async def test_what_is_no_seq_is_refused(tmp_path, bad):
    async with daemon(tmp_path) as made:
        assert (await made.ask("GET", "/v1/stream?after=" + "".join(f"%{b:02X}" for b in bad.encode()))).status == 400
