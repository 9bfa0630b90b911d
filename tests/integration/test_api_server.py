"""Where the daemon answers, and what it writes down about that."""

from __future__ import annotations

import asyncio
import json
import os
import socket

import aiohttp
import pytest

from immune.api.server import serve
from immune.errors import InputError, RefusedError, StoreUnavailableError, UnreachableError
from tests.integration.daemon_kit import compose, daemon


async def test_the_address_is_written_where_programs_look_and_taken_back_at_the_end(tmp_path):
    async with daemon(tmp_path) as made:
        note = tmp_path / "daemon.json"
        content = json.loads(note.read_text())
        assert content == {"url": made.server.url, "pid": os.getpid(), "run_id": "run-1", "started_at": "2026-01-01T00:00:00.000000Z"}
        assert note.stat().st_mode & 0o777 == 0o600
        async with aiohttp.ClientSession() as session, session.get(content["url"] + "/healthz") as response:
            assert response.status == 200
    assert not note.exists()


async def test_a_note_of_another_daemon_is_left_alone(tmp_path):
    async with daemon(tmp_path) as made:
        (tmp_path / "daemon.json").write_text(json.dumps({"pid": os.getpid() + 1}))
        await made.server.close()
        assert (tmp_path / "daemon.json").exists()


async def test_a_taken_port_says_so_and_names_a_way_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RefusedError, match=f"port {port} is taken") as refused:
            await serve(compose(tmp_path).api, port=port)
    assert refused.value.exit_code == 4
    assert "0 for a free one" in refused.value.way_out


@pytest.mark.parametrize("port", [-1, 65_536])
async def test_what_is_no_port_is_bad_input(tmp_path, port):
    with pytest.raises(InputError):
        await serve(compose(tmp_path).api, port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
async def test_an_address_that_others_can_reach_is_refused_unless_allowed(tmp_path, host):
    with pytest.raises(RefusedError, match="in the clear"):
        await serve(compose(tmp_path).api, host=host, port=0)


async def test_an_address_that_is_not_ours_is_unreachable(tmp_path):
    with pytest.raises(UnreachableError) as unreachable:
        await serve(compose(tmp_path).api, host="192.0.2.1", port=0, allow_remote=True)
    assert unreachable.value.exit_code == 3


async def test_a_data_directory_that_cannot_be_written_is_named(tmp_path):
    api = compose(tmp_path).api
    with pytest.raises(StoreUnavailableError):
        await serve(api, port=0, data_dir=tmp_path / "nowhere")


async def test_an_allowed_name_of_the_host_is_answered(tmp_path):
    from immune.api.app import Api

    made = compose(tmp_path)
    context = made.api.context
    api = Api(
        engine=context.engine, inbox=context.inbox, keys=context.keys, gate=context.gate, papers=context.papers, explain=context.explain,
        clock=context.clock, hosts=["immune.internal"],
    )  # fmt: skip
    server = await serve(api, port=0)
    async with aiohttp.ClientSession() as session:
        for host, status in (("immune.internal:80", 200), ("IMMUNE.internal", 200), ("other.internal", 421)):
            async with session.get(server.url + "/healthz", headers={"Host": host}) as response:
                assert response.status == status
    await server.close()


@pytest.mark.parametrize(
    "line",
    [b"Authorization: Bearer SECRET\x00x", b"Authorization Bearer SECRET", b"Authorization: Bearer SECRET\r\nTransfer-Encoding: chunked\r\n\r\nzz"],
)
@pytest.mark.fault("F34", "F42")
async def test_a_broken_request_leaves_none_of_its_text_in_the_log(tmp_path, caplog, line):
    caplog.set_level("DEBUG")
    async with daemon(tmp_path) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.server.port)
        writer.write(b"POST /v1/stop HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n\r\n")
        assert b"400" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        assert "SECRET" not in caplog.text
        assert "not a request" in caplog.text


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_harms_nobody(tmp_path, caplog):
    async with daemon(tmp_path) as made:
        _, writer = await asyncio.open_connection("127.0.0.1", made.server.port)
        head = f"POST /v1/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.token['admin']}\r\nContent-Length: 500\r\n\r\n"
        writer.write(head.encode() + b'{"reason": "r')
        await made.ask("GET", "/healthz")
        writer.close()
        for _ in range(200):
            await made.ask("GET", "/healthz")
            if ("post_v1_stop", 400) in made.api.context.counters.requests:
                break
        assert made.api.context.counters.requests["post_v1_stop", 400] == 1
        assert made.engine.state.active_containments == ()
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
