"""The dashboard as a process: on its own, as a child of a daemon, and with pages open while it goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from benchmarks.dashboard import write_fleet
from dashboard.launch import DashboardChild
from dashboard.site import STREAMS_MAX
from immune.clock import SystemClock
from immune.runtime.supervisor import Supervisor
from tests.integration.daemon_kit import SystemTime, daemon, open_request
from tests.integration.dashboard_kit import start as dashboard_start

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 20


def launch(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "dashboard", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_it_says_where_it_listens_notes_it_and_ends_in_order_with_a_page_open(tmp_path):
    process = launch("--data-dir", str(tmp_path), "--json", IMMUNE_DASHBOARD_PORT="0")
    try:
        url = json.loads(process.stdout.readline())["url"]
        assert json.loads((tmp_path / "dashboard.json").read_text())["url"] == url
        assert json.loads(urllib.request.urlopen(url + "/healthz").read())["status"] == "ok"
        stream = urllib.request.urlopen(url + "/api/stream")
        assert stream.readline().startswith(b"retry")
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0
        stream.close()
        assert not (tmp_path / "dashboard.json").exists()
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_neither_listeners_nor_slow_nor_silent_clients_hold_its_end_up(tmp_path):
    write_fleet(tmp_path, 2_000)
    process = launch("--data-dir", str(tmp_path), "--json", IMMUNE_DASHBOARD_PORT="0")
    held = []
    try:
        port = urlsplit(json.loads(process.stdout.readline())["url"]).port
        listening = b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
        unread = b"GET /api/journal?limit=2000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        unfinished = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"
        for request in (listening, unread * 20, unfinished):
            for _ in range(10):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                client.connect(("127.0.0.1", port))
                client.sendall(request)
                held.append(client)
        for client in held[:10]:
            assert client.recv(100)
        process.send_signal(signal.SIGTERM)
        # ten times what it takes by itself
        assert process.wait(10) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        for client in held:
            client.close()
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--host", "0.0.0.0"), 4, "without saying who they are"),
        (("--port", "99999"), 2, "not a port"),
        (("--from", "papyrus"), 2, "sqlite or influx"),
        (("--from", "influx"), 2, "INFLUXDB_V2_URL"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(tmp_path, arguments, code, says):
    process = launch("--data-dir", str(tmp_path), *arguments, INFLUXDB_V2_URL="")
    _, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == code, err
    assert says in " ".join(err.split())


@pytest.mark.fault("F3")
async def test_a_child_that_dies_is_started_again_and_goes_with_its_parent(tmp_path):
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    failures = []
    child = DashboardChild(tmp_path, SystemClock(), lambda: ("ada", "imm_x_" + "y" * 40), lambda *told: heard.put_nowait(told), port=0)
    supervisor = Supervisor(SystemClock(), failures.append)
    supervisor.start(child.name, child.run)
    async with asyncio.timeout(2 * WITHIN_S):
        url, link = await heard.get()
        assert link.startswith(f"{url}/login#")
        assert child.health()["url"] == url
        process = child._process
        process.kill()
        again, _ = await heard.get()
        assert again
        assert (child.starts, len(failures)) == (2, 1)
        process = child._process
        await supervisor.stop()
        assert process.returncode == 0
        assert child.health()["trouble"]


def test_it_goes_when_its_parent_was_killed(tmp_path):
    code = (
        "import subprocess, sys; "
        "one = subprocess.Popen([sys.executable, '-m', 'dashboard', '--data-dir', sys.argv[1], '--port', '0', '--json', '--with-parent'],"
        " stdout=subprocess.PIPE, text=True); print(one.stdout.readline(), one.pid, flush=True); input()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = json.loads(parent.stdout.readline())["url"]
    pid = int(parent.stdout.readline())
    assert urllib.request.urlopen(url + "/healthz").status == 200
    parent.kill()
    parent.communicate()
    clock = SystemClock()
    until_us = clock.now_us() + WITHIN_S * 1_000_000
    while (tmp_path / "dashboard.json").exists():
        assert clock.now_us() < until_us, f"process {pid} is still there"
        subprocess.run([sys.executable, "-c", ""], check=True)  # time passes


@pytest.mark.fault("F56")
async def test_however_busy_the_dashboard_is_the_daemon_answers_and_decides(tmp_path):
    """Sixteen clients that never pause and every stream there is: they are the business of another process than the daemon's."""
    async with daemon(tmp_path, on_disk=True, clock=SystemTime()) as made:
        request = open_request(made)
        process = launch("--data-dir", str(tmp_path), "--json", IMMUNE_DASHBOARD_PORT="0")
        url = json.loads(await asyncio.to_thread(process.stdout.readline))["url"]
        stop, asked = asyncio.Event(), []
        try:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as crowd:

                async def hammer():
                    while not stop.is_set():
                        async with crowd.get(url + "/api/agent?id=sick-1") as answer:
                            await answer.read()
                            asked.append(answer.status)

                streams = [await crowd.get(url + "/api/stream") for _ in range(STREAMS_MAX)]
                clients = [asyncio.create_task(hammer()) for _ in range(16)]
                loop = asyncio.get_running_loop()
                until = loop.time() + WITHIN_S
                while len(asked) < 200:
                    assert loop.time() < until
                    await made.engine.tick(made.clock.now_us())
                    status = await made.ask("GET", "/v1/status")
                    assert (status.status, made.engine.trouble) == (200, "")
                    await asyncio.wait(clients, timeout=0.05)
                body = {"decision": "approve", "plan_hash": request["plan_hash"]}
                decided = await made.ask("POST", f"/v1/approvals/{request['id']}/decision", body, who="approver")
                assert decided.status == 200, decided.text
                stop.set()
                await asyncio.gather(*clients)
                async with crowd.get(url + "/api/stream") as one_more:
                    assert one_more.status == 503
                for stream in streams:
                    stream.close()
            # refused with the way out is an answer, too; a failure is not
            assert set(asked) <= {200, 429, 503}
            assert asked.count(200) > 100
        finally:
            process.terminate()
            await asyncio.to_thread(process.communicate)
        assert process.returncode == 0


@pytest.mark.fault("F3")
async def test_a_dashboard_that_was_killed_leaves_the_daemon_alone_and_its_sessions_to_the_next(tmp_path):
    async with daemon(tmp_path, on_disk=True, clock=SystemTime()) as made:
        request = open_request(made)
        first = await asyncio.to_thread(dashboard_start, tmp_path, made=made)
        person = await first.browser("approver")
        port, cookies, csrf = first.served.site.options.port, person.session.cookie_jar, person.csrf
        saved = {cookie.key: cookie.value for cookie in cookies}
        await first.close()
        process = launch("--data-dir", str(tmp_path), "--json", "--port", str(port))
        await asyncio.to_thread(process.stdout.readline)
        process.kill()
        await asyncio.to_thread(process.communicate)
        await made.engine.tick(made.clock.now_us())
        assert (await made.ask("GET", "/v1/status")).status == 200
        again = launch("--data-dir", str(tmp_path), "--json", "--port", str(port))
        url = json.loads(await asyncio.to_thread(again.stdout.readline))["url"]
        try:
            async with aiohttp.ClientSession(cookies=saved, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                path = f"{url}/api/approvals/{request['id']}/approve"
                headers = {"X-CSRF-Token": csrf}
                async with session.post(path, json={"plan_hash": request["plan_hash"]}, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()
            assert made.events("approval_granted")[0].actor == "person:approver"
        finally:
            again.terminate()
            await asyncio.to_thread(again.communicate)
