"""Where the daemon answers, and what it writes down about that."""

from __future__ import annotations

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
