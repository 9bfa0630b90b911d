"""What a program that runs agents uses: against a real daemon, and against one that is gone."""

from __future__ import annotations

import ast
import asyncio
import socket
import sys
import threading
from pathlib import Path

import pytest

from immune import sdk
from immune.sdk import GateAnswer, ImmuneClient
from tests.integration.daemon_kit import START_US, US, daemon


class HandTime:
    def __init__(self):
        self.at_s = 100.0

    def __call__(self):
        return self.at_s


OPENED = []


@pytest.fixture(autouse=True)
def closed_at_the_end():
    yield
    while OPENED:
        one = OPENED.pop()
        one._buffer.clear()
        one.close()


def client(url, token="imm_x_" + "t" * 40, **options):
    options = {"background": False, "now": lambda: START_US / US, "clock": HandTime(), **options}
    OPENED.append(ImmuneClient(url, token, **options))
    return OPENED[-1]


def nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_it_stands_alone():
    tree = ast.parse(Path(sdk.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


async def test_what_is_reported_arrives_and_the_account_is_exact(tmp_path):
    async with daemon(tmp_path) as made:
        one = client(made.server.url, made.token["admin"])
        for n in range(2500):
            one.report_vitals("a", at=START_US / US + n / 1000, latency_ms=n)
        one.report_vitals("a", latency_ms=-1)
        assert await asyncio.to_thread(one.flush)
        assert (one.counts.reported, one.counts.sent, one.counts.refused, one.counts.dropped, one.counts.waiting) == (2501, 2500, 1, 0, 0)
        assert made.ingest.waiting == 2500


async def test_the_gate_is_asked_and_its_answer_is_an_answer(tmp_path):
    async with daemon(tmp_path) as made:
        one = client(made.server.url, made.token["agent"])
        await made.vitals({"agent": "agent"})
        await made.tick()
        assert await asyncio.to_thread(one.gate, "agent") == GateAnswer(agent="agent", allowed=True)
        await made.ask("POST", "/v1/agents/agent/contain", {"level": "restricted", "reason": "drill"})
        told = await asyncio.to_thread(one.gate, "agent")
        assert (bool(told), told.level, told.tools_off, told.may_use("shell")) == (True, "restricted", ("*",), False)
        await made.ask("POST", "/v1/agents/agent/contain", {"level": "isolated", "reason": "drill"})
        told = await asyncio.to_thread(one.gate, "agent")
        assert (bool(told), told.level, told.source, "drill" in told.reason) == (False, "isolated", "daemon", True)


@pytest.mark.parametrize("agent", ["a/b", "..", "ünï 🧬", "x?y#z"])
async def test_hostile_ids_reach_their_own_gate(tmp_path, agent):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": agent})
        await made.tick()
        await made.ask("POST", "/v1/containments", {"scope": "agent", "target": agent, "level": "isolated", "reason": "r"})
        assert not await asyncio.to_thread(client(made.server.url, made.token["admin"]).gate, agent)


async def test_a_token_that_was_taken_away_opens_no_gate_and_closes_no_other(tmp_path):
    async with daemon(tmp_path) as made:
        one = client(made.server.url, made.token["agent"], when_lost="fail_open")
        refused = await asyncio.to_thread(one.gate, "somebody else")
        assert (refused.allowed, "403" in refused.reason) == (False, True)
        assert await asyncio.to_thread(one.gate, "agent")
        made.tokens.revoke("agent")
        assert not await asyncio.to_thread(one.gate, "agent")


async def test_when_the_daemon_is_gone_the_last_answer_holds_for_its_lease_then_the_choice_and_who_was_held_stays_held(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "free"}, {"agent": "held"})
        await made.tick()
        await made.ask("POST", "/v1/agents/held/contain", {"level": "isolated", "reason": "r"})
        clients = {choice: client(made.server.url, made.token["admin"], when_lost=choice) for choice in ("fail_open", "fail_closed")}
        for one in clients.values():
            for agent in ("free", "held"):
                await asyncio.to_thread(one.gate, agent)
        await made.server.close()
        for choice, one in clients.items():
            one._clock.at_s += 29
            answers = [await asyncio.to_thread(one.gate, agent) for agent in ("free", "held")]
            assert [(answer.allowed, answer.source) for answer in answers] == [(True, "lease"), (False, "lease")]
            one._clock.at_s += 2
            answers = [await asyncio.to_thread(one.gate, agent) for agent in ("free", "held", "stranger")]
            expected = choice == "fail_open"
            assert [(answer.allowed, answer.source) for answer in answers] == [(expected, "lost"), (False, "lost"), (expected, "lost")]


def test_after_a_failure_asking_does_not_wait_again_for_a_moment():
    one = client(nobody_there())
    assert not one.gate("a")
    tried = []
    one._request = lambda *_: tried.append(1) or {"allowed": True, "level": "none"}
    assert one.gate("a").source == "lost"
    assert tried == []
    one._clock.at_s += 1.1
    assert one.gate("a").source == "daemon"


def test_a_daemon_that_never_answers_costs_its_timeout_and_no_more():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05, when_lost="fail_open")
        assert one.gate("a").source == "lost"
        assert "Timeout" in one.last_error


def test_what_is_no_answer_of_the_daemon_is_no_permission():
    def serve_once(server, content):
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))
        connection.close()

    for content in (b"<html>", b"[]", b'{"allowed": "yes"}', b""):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=serve_once, args=(server, content))
            thread.start()
            assert not client(f"http://127.0.0.1:{server.getsockname()[1]}").gate("a")
            thread.join()


def test_a_full_buffer_drops_the_oldest_and_counts_it():
    one = client(nobody_there(), buffer=10)
    for n in range(25):
        one.report_vitals("a", latency_ms=n)
    assert not one.flush()
    assert (one.counts.reported, one.counts.dropped, one.counts.waiting) == (25, 15, 10)
    assert [sample["latency_ms"] for sample in one._buffer] == list(range(15, 25))
    assert one.last_error


async def test_what_waited_while_the_daemon_was_away_is_sent_when_it_is_back(tmp_path):
    async with daemon(tmp_path) as made:
        one = client(made.server.url, made.token["admin"])
        one._port, port = int(nobody_there().rsplit(":", 1)[1]), one._port
        one.report_vitals("a", latency_ms=1)
        assert not await asyncio.to_thread(one.flush)
        one._port = port
        assert await asyncio.to_thread(one.flush)
        assert made.ingest.waiting == 1


async def test_a_batch_that_is_refused_does_not_block_what_comes_after(tmp_path):
    async with daemon(tmp_path) as made:
        one = client(made.server.url, made.token["agent"])
        one.report_vitals("somebody else", latency_ms=1)
        assert await asyncio.to_thread(one.flush)
        one.report_vitals("agent", latency_ms=object())
        one.report_vitals("agent", latency_ms=2)
        assert await asyncio.to_thread(one.flush)
        assert (one.counts.refused, one.counts.sent, made.ingest.waiting) == (2, 1, 1)
        assert "403" in one.last_error


async def test_a_sample_that_cannot_be_written_keeps_no_other_from_being_sent(tmp_path):
    async with daemon(tmp_path) as made:
        mine = client(made.server.url, made.token["operator"], background=False)
        endless = []
        endless.append(endless)
        mine.report_vitals("a-1", latency_ms=1)
        mine.report_vitals("a-1", task=endless)
        mine.report_vitals("a-2", latency_ms=1)
        assert await asyncio.to_thread(mine.flush)
        assert (mine.counts.sent, mine.counts.refused, mine.counts.waiting) == (2, 1, 0)
        assert made.ingest.waiting == 2


async def test_a_token_may_come_with_the_end_of_its_line(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "a-1"})
        await made.tick()
        mine = client(made.server.url, made.token["operator"] + "\n", background=False)
        assert (await asyncio.to_thread(mine.gate, "a-1")).source == "daemon"


async def test_the_background_thread_sends_and_closing_sends_the_rest(tmp_path):
    async with daemon(tmp_path) as made:
        with client(made.server.url, made.token["admin"], background=True, flush_every_s=0.01) as one:
            sent, done = threading.Event(), one._done
            one._done = lambda *told: (done(*told), sent.set())
            one.report_vitals("a", latency_ms=1)
            assert await asyncio.to_thread(sent.wait, 5)
            assert made.ingest.waiting == 1
            one.flush_every_s = 3600
            one.report_vitals("a", at=START_US / US + 1, latency_ms=2)
            await asyncio.to_thread(one.close)
        assert made.ingest.waiting == 2
        assert not one._thread.is_alive()


@pytest.mark.parametrize(("url", "options"), [("127.0.0.1:8710", {}), ("ftp://x", {}), ("http://", {}), ("http://x", {"when_lost": "hope"})])
def test_a_wrong_setting_is_an_error_at_once(url, options):
    with pytest.raises(ValueError, match=r"not|when_lost"):
        client(url, **options)


def test_answers_of_the_gate_are_remembered_for_so_many_agents_and_no_more(monkeypatch):
    from immune import sdk

    monkeypatch.setattr(sdk, "AGENTS_KEPT", 3)
    one = client("http://127.0.0.1:1", "no-token-of-any-length")
    for n in range(10):
        one._keep(f"a-{n}", {"allowed": True})
    assert list(one._kept) == ["a-7", "a-8", "a-9"]
    one.close()
