"""Sends orders to an endpoint of yours, signed and with an idempotency key, and takes its word for what it did.

An order is one POST with a JSON body::

    {"order": "contain|allow|perform|compensate", "agent": …, "level" | "action" | "dispatches": …, "key": …, "epoch": n, "at": iso}

and the headers ``Idempotency-Key``, ``Immune-Timestamp`` (epoch seconds) and ``Immune-Signature``: ``v1=`` and the hex
HMAC-SHA256 of ``TIMESTAMP.BODY`` with the shared secret (for a GET the query stands for the body). The answer is a 200
with ``{"outcome": "succeeded|failed|unknown|unsupported", "detail": …, "level": …}``; `level` says what is in force and
is asked for by ``GET URL?agent=ID`` too. An order that was repeated must have one effect: key and epoch tell.

Attempts follow a fixed schedule (`PAUSES_S`, no dice: a run can be repeated); the step's own timeout cuts it short. What
never reached the endpoint failed; what may have reached it and was not answered is unknown.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlencode, urlsplit

from immune.clock import US, Clock
from immune.core.acts import Outcome
from immune.core.events import LEVELS, Level, iso
from immune.core.signing import SECRET_BYTES, signed_headers
from immune.errors import InputError
from immune.ports import Answer, Bound
from immune.reach import check_address

if TYPE_CHECKING:
    from aiohttp import ClientSession

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)
REMEMBERED = 10_000
DETAIL_CHARS = 300
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
OUTDATED = Answer(outcome="failed", detail="a newer writer gives the orders")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """One endpoint and the agents it holds.

    url               https, or http where `allow_loopback` is set and the host is this machine
    agents            ids, or patterns with ``*``
    secret            shared with the endpoint, at least 16 bytes
    allow_private     addresses of the inner network may be called
    allow_loopback    this machine may be called
    timeout_s         for one attempt
    observe_every_s   how often the endpoint is asked for the level in force, while somebody wants to know
    """

    url: str
    agents: tuple[str, ...]
    secret: bytes = field(repr=False)
    allow_private: bool = False
    allow_loopback: bool = False
    timeout_s: float = 5.0
    observe_every_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What came back from one attempt; `arrived` is False only if the order certainly never reached the endpoint."""

    status: int = 0
    content: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""
    arrived: bool = True

    @property
    def final(self) -> bool:
        """Whether asking again is of no use."""
        return not self.trouble or (self.status > 0 and self.status not in TRY_AGAIN)


class WebhookConnector:
    """The hands behind an endpoint. ``await close()`` at the end."""

    name = "webhook"

    def __init__(self, spec: WebhookSpec, clock: Clock) -> None:
        self.spec = _checked(spec)
        self._clock = clock
        self._host = urlsplit(spec.url).hostname or ""
        self._session: ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._epoch = 0
        self._orders = 0
        self._levels: OrderedDict[str, Level] = OrderedDict()
        self._answered: OrderedDict[str, Answer] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Answer]] = {}
        self._asked_us: dict[str, int] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"WebhookConnector({self._host})"

    def bounds(self) -> Sequence[Bound]:
        """What is remembered of agents and orders; the oldest is forgotten first, and asked for again when it matters."""
        kept: Mapping[str, Mapping[str, object]] = {"levels": self._levels, "answers": self._answered, "asked": self._asked_us}
        return [Bound(name=f"webhook.{name}", size=len(one), limit=REMEMBERED) for name, one in kept.items()]

    def knows(self, agent_id: str) -> bool:
        """Whether the agent's id fits one of the patterns."""
        return any(fnmatchcase(agent_id, pattern) for pattern in self.spec.agents)

    def can(self, agent_id: str, action: str) -> bool:
        """Whatever the endpoint makes of it; it may still answer that it cannot."""
        return True

    async def contain(self, agent_id: str, level: Level, *, epoch: int) -> Answer:
        """Order a level. A new order each time: the key tells it from its own repeats."""
        self._orders += 1
        return await self._order({"order": "contain", "agent": agent_id, "level": level}, f"contain/{agent_id}/{epoch}/{self._orders}", epoch)

    def observed(self, agent_id: str) -> Level | None:
        """The level that the endpoint said last; asks anew in the background when that is some time ago."""
        now_us = self._clock.now_us()
        if now_us - self._asked_us.get(agent_id, 0) >= self.spec.observe_every_s * US:
            self._asked_us[agent_id] = now_us
            _bound(self._asked_us)
            task = asyncio.create_task(self._ask(agent_id))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return self._levels.get(agent_id)

    async def allow(self, agent_id: str, dispatches: int, *, epoch: int) -> Answer:
        """Order canary work."""
        self._orders += 1
        return await self._order({"order": "allow", "agent": agent_id, "dispatches": dispatches}, f"allow/{agent_id}/{epoch}/{self._orders}", epoch)

    async def perform(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Order a healing action."""
        return await self._order({"order": "perform", "agent": agent_id, "action": action}, key, epoch)

    async def compensate(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Order that a healing action be undone."""
        return await self._order({"order": "compensate", "agent": agent_id, "action": action}, key, epoch)

    async def close(self) -> None:
        """Let go of the connections; what is under way is abandoned."""
        for task in (*self._asking, *self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._asking, *self._under_way.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # -- orders --------------------------------------------------------------------------------------------------------

    async def _order(self, order: dict[str, Any], key: str, epoch: int) -> Answer:
        self._epoch = max(self._epoch, epoch)
        if epoch < self._epoch:
            return OUTDATED
        if key in self._answered:
            return self._answered[key]
        if key not in self._under_way:
            task = asyncio.create_task(self._send(order, key, epoch))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await self._under_way[key]

    async def _send(self, order: dict[str, Any], key: str, epoch: int) -> Answer:
        body = json.dumps({**order, "key": key, "epoch": epoch, "at": iso(self._clock.now_us())}, ensure_ascii=True, separators=(",", ":")).encode()
        arrived = False
        reply = _Reply()
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            reply = await self._post(body, key)
            arrived = arrived or reply.arrived
            if reply.final:
                break
        answer = self._answer(reply, arrived=arrived)
        if answer.outcome != "unknown":
            self._answered[key] = answer
            _bound(self._answered)
        self._note_level(str(order["agent"]), reply.content)
        return answer

    def _answer(self, reply: _Reply, *, arrived: bool) -> Answer:
        if reply.trouble:
            refused = reply.final and reply.status >= 300
            outcome: Outcome = "failed" if refused or not arrived else "unknown"
            return Answer(outcome=outcome, detail=f"{self._host}: {reply.trouble}")
        said = next((known for known in OUTCOMES if known == reply.content.get("outcome")), None)
        if said is None:
            return Answer(outcome="unknown", detail=f"{self._host}: an answer without a known outcome")
        return Answer(outcome=said, detail=str(reply.content.get("detail") or "")[:DETAIL_CHARS])

    def _note_level(self, agent_id: str, content: Mapping[str, Any]) -> None:
        level = content.get("level")
        if level in LEVELS:
            self._levels[agent_id] = level
            _bound(self._levels)

    async def _ask(self, agent_id: str) -> None:
        reply = await self._get(urlencode({"agent": agent_id}))
        if reply.trouble or reply.content.get("level") not in LEVELS:
            # an endpoint that does not say is one that nobody can know of
            self._levels.pop(agent_id, None)
        else:
            self._note_level(agent_id, reply.content)

    # -- the wire ------------------------------------------------------------------------------------------------------

    async def _post(self, body: bytes, key: str) -> _Reply:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key.encode("ascii", "backslashreplace").decode(), **self._signed(body)}
        return await self._call("POST", self.spec.url, headers, body)

    async def _get(self, query: str) -> _Reply:
        joint = "&" if urlsplit(self.spec.url).query else "?"
        return await self._call("GET", f"{self.spec.url}{joint}{query}", self._signed(query.encode()), None)

    def _signed(self, content: bytes) -> dict[str, str]:
        return signed_headers(self.spec.secret, self._clock.now_us(), content)

    async def _call(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> _Reply:
        from aiohttp import ClientConnectorError, ClientError  # noqa: PLC0415 - 0.2 s that only its users should pay
        from yarl import URL  # noqa: PLC0415 - as aiohttp

        from immune.outbound import ANSWER_BYTES, open_session, read_up_to  # noqa: PLC0415 - as aiohttp

        if self._session is None or self._loop is not asyncio.get_running_loop():  # a warm-up runs on a loop of its own
            self._loop = asyncio.get_running_loop()
            self._session = open_session(private=self.spec.allow_private, loopback=self.spec.allow_loopback, timeout_s=self.spec.timeout_s)
        try:
            target = URL(url, encoded=True)
            async with self._session.request(method, target, data=body, headers=headers, allow_redirects=False) as response:
                content = await read_up_to(response.content, ANSWER_BYTES)
                return _read(response.status, content)
        except ClientConnectorError as error:
            return _Reply(trouble=f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}", arrived=False)
        except TimeoutError:
            return _Reply(trouble=f"no answer within {self.spec.timeout_s:g} s")
        except (ClientError, OSError) as error:
            # only the kind: the text of such an error may hold the address with what is secret in it
            return _Reply(trouble=f"the connection broke ({type(error).__name__})")


def _read(status: int, content: bytes) -> _Reply:
    if 300 <= status < 400:
        return _Reply(status=status, trouble=f"answered {status}: redirects are not followed")
    if status != 200:
        return _Reply(status=status, trouble=f"answered {status}")
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        return _Reply(status=status, trouble="the answer is not a JSON object")
    return _Reply(status=status, content=parsed)


def _bound(kept: OrderedDict[str, Any] | dict[str, Any]) -> None:
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


def _checked(spec: WebhookSpec) -> WebhookSpec:
    host = check_address(spec.url, "webhook.url", private=spec.allow_private, loopback=spec.allow_loopback)
    if len(spec.secret) < SECRET_BYTES:
        raise InputError("too short a secret", field="webhook.secret", way_out=f"use at least {SECRET_BYTES} bytes: openssl rand -hex 32")
    if not spec.agents:
        raise InputError("an endpoint without agents", field="webhook.agents", value=host, way_out='for example agents = ["crawler-*"]')
    return spec
