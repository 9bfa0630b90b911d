"""People and programs who speak to the daemon through its whole API: tokens, roles, bodies, idempotency keys; only the sockets are left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from immune.core.commands import RANK, Principal, Role

PEOPLE: tuple[tuple[str, Role], ...] = (("ann", "approver"), ("bob", "approver"), ("oli", "operator"), ("vic", "viewer"), ("a-0", "agent"))


class Keyring:
    """Tokens in memory: the token is the name. Roles may change while the daemon runs, and outlive it."""

    def __init__(self) -> None:
        self.held: dict[str, Role] = dict(PEOPLE)

    @property
    def broken(self) -> str:
        """Nothing can be wrong with it."""
        return ""

    def find(self, token: str) -> Principal | None:
        """Whose token this is."""
        role = self.held.get(token)
        return Principal(name=token, role=role) if role is not None else None

    def roles(self) -> Mapping[str, Role]:
        """Role by name."""
        return self.held

    def approvers(self) -> frozenset[str]:
        """Names that may approve at this moment."""
        return frozenset(name for name, role in self.held.items() if role != "agent" and RANK[role] >= RANK["approver"])


@dataclass
class Wish:
    """One request of one person, asked again with the same key until it is answered."""

    who: str
    method: str
    path: str
    body: dict[str, Any] | None
    key: str
    answers: list[tuple[int, Any]] = field(default_factory=list)


class Desk:
    """Where people ask. It outlives the daemon; each process brings its own application."""

    def __init__(self, heard: Callable[[Wish, int, Any], None]) -> None:
        self.heard = heard
        self.waiting: dict[str, Wish] = {}
        self.speaking: dict[str, int] = {}
        self.asked = 0
        transport = mock.Mock()
        transport.get_extra_info.return_value = ("127.0.0.1", 1)
        self._protocol = mock.Mock(_reading_paused=False, transport=transport, peername=("127.0.0.1", 1), ssl_context=None)
        self._writer = mock.Mock(transport=transport)

    def wish(self, who: str, method: str, path: str, body: dict[str, Any] | None = None) -> Wish:
        """A new request."""
        self.asked += 1
        return Wish(who=who, method=method, path=path, body=body, key=f"wish-{self.asked}")

    async def ask(self, application: web.Application, wish: Wish) -> tuple[int, Any]:
        """Ask; whoever dies before it answers is asked again by `ask_again`."""
        self.waiting[wish.key] = wish
        request = self._request(wish)
        self.speaking[wish.who] = self.speaking.get(wish.who, 0) + 1
        response = await application._handle(request)  # whoever is killed in here never stops speaking
        assert isinstance(response, web.Response)
        if response.status < 500:  # after a failure nobody knows yet whether it took effect: it may turn up on the disk later
            self.speaking[wish.who] -= 1
        assert isinstance(response.body, bytes)
        status, document = response.status, json.loads(response.body)
        del self.waiting[wish.key]
        wish.answers.append((status, document))
        self.heard(wish, status, document)
        return status, document

    async def ask_again(self, application: web.Application) -> None:
        """What the last process did not answer."""
        for wish in list(self.waiting.values()):
            await self.ask(application, wish)

    def _request(self, wish: Wish) -> web.Request:
        raw = json.dumps(wish.body).encode() if wish.body is not None else b""
        headers = {"Host": "localhost", "Authorization": f"Bearer {wish.who}", "Content-Type": "application/json", "Content-Length": str(len(raw))}
        if wish.method != "GET":
            headers["Idempotency-Key"] = wish.key
        loop = asyncio.get_running_loop()
        content = StreamReader(self._protocol, 2**16, loop=loop)
        content.feed_data(raw)
        content.feed_eof()
        named = CIMultiDictProxy(CIMultiDict(headers))
        message = RawRequestMessage(wish.method, wish.path, HttpVersion11, named, (), False, None, False, False, URL(wish.path, encoded=True))
        return web.Request(message, content, self._protocol, self._writer, mock.sentinel.task, loop, client_max_size=2**24)
