"""What every pair of hands must do, whatever it holds: asked of all of them alike."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from immune.clock import SystemClock
from immune.connectors import webhook as webhook_module
from immune.connectors.child import Child
from immune.connectors.gate import GateConnector
from immune.connectors.process import ProcessConnector, ProcessSpec
from immune.connectors.webhook import WebhookConnector, WebhookSpec
from immune.core.events import LEVELS
from immune.core.vitals import Lexicon, Roster, VitalSchema
from immune.errors import InputError
from immune.ports import Connector, Desk
from simulation.connector import SimulatedConnector
from simulation.fleet import SimulatedFleet

SECRET = b"a secret of some thirty-two bytes"
CONTAINED = ("throttled", "isolated", "evicted")


@dataclass(frozen=True, kw_only=True)
class Hands:
    """`look` lets the agent meet its connector once, while a level is decided for it; `effects` counts how often something was really carried out."""

    connector: Connector
    agent: str
    look: Callable[[str], Awaitable[None]]
    effects: Callable[[], int]
    heals: bool = True
    fences: bool = True

    async def seen(self, level) -> None:
        async with asyncio.timeout(5.0):
            while self.connector.observed(self.agent) != level:
                await self.look(level)


@dataclass(kw_only=True)
class Endpoint:
    """What somebody else would run behind a webhook: checks the signature, has one effect for one key."""

    levels: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    orders: list[dict] = field(default_factory=list)
    trouble: list[int] = field(default_factory=list)
    """Statuses of the coming answers, before it works again."""
    answer: dict = field(default_factory=lambda: {"outcome": "succeeded"})
    unsigned: int = 0
    wait_s: float = 0.0
    in_pieces: bool = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/hook", self.post)
        app.router.add_get("/hook", self.get)
        return app

    def _check(self, request: web.Request, content: bytes) -> None:
        stamp = request.headers["Immune-Timestamp"].encode()
        due = "v1=" + hmac.new(SECRET, stamp + b"." + content, hashlib.sha256).hexdigest()
        self.unsigned += not hmac.compare_digest(due, request.headers["Immune-Signature"])

    async def post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._check(request, body)
        order = json.loads(body)
        assert request.headers["Idempotency-Key"] == order["key"]
        self.orders.append(order)
        await asyncio.sleep(self.wait_s)
        if self.trouble:
            return web.Response(status=self.trouble.pop(0), headers={"Location": "http://169.254.169.254/"})
        if "level" in order:
            self.levels[order["agent"]] = order["level"]
        if order.get("action", "restart_agent") != "restart_agent":
            return web.json_response({"outcome": "unsupported", "detail": "no such thing here"})
        if order["key"] not in self.done:
            self.done[order["key"]] += 1
        answer = web.json_response({**self.answer, "level": self.levels.get(order["agent"], "none")})
        return await self._letter_by_letter(request, answer) if self.in_pieces else answer

    async def _letter_by_letter(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """As a network may deliver it: each byte by itself."""
        slow = web.StreamResponse(headers={"Content-Type": answer.content_type})
        await slow.prepare(request)
        for letter in answer.text.encode():
            await slow.write(bytes([letter]))
            await pause()
        return slow

    async def get(self, request: web.Request) -> web.Response:
        self._check(request, request.query_string.encode())
        return web.json_response({"level": self.levels.get(request.query["agent"], "none")})


async def pause(_=None) -> None:
    await asyncio.sleep(0.005)


def simulated() -> Hands:
    fleet = SimulatedFleet(agents=3, start_us=0, scenario="calm", warmup_s=0.0)
    fleet.open(Desk(roster=Roster(), lexicon=Lexicon(), schema=VitalSchema()))
    connector, effects = SimulatedConnector(fleet), []
    perform = fleet.perform
    # an action takes its time, and may fail, in the simulated world; here only the connector is looked at
    fleet.perform = lambda *order: effects.append(order) or replace(perform(*order), after_s=0.0, outcome="succeeded")
    ticks = iter(range(1, 10_000))

    async def tick(_) -> None:
        fleet.advance(next(ticks) * 1_000_000)
        await asyncio.sleep(0)

    return Hands(connector=connector, agent=fleet.cast.ids[0], look=tick, effects=lambda: len(effects))


def gate() -> Hands:
    connector = GateConnector()

    async def ask(level) -> None:
        connector.ask("agent-1", level)

    return Hands(connector=connector, agent="agent-1", look=ask, effects=lambda: 0, heals=False, fences=False)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def hook(endpoint) -> AsyncIterator[WebhookConnector]:
    server = TestServer(endpoint.app())
    await server.start_server()
    spec = WebhookSpec(
        url=str(server.make_url("/hook")), agents=("agent-*",), secret=SECRET, allow_loopback=True, timeout_s=2.0, observe_every_s=0.01
    )
    connector = WebhookConnector(spec, SystemClock())
    yield connector
    await connector.close()
    await server.close()
    assert endpoint.unsigned == 0


@pytest.fixture
async def quick(monkeypatch) -> None:
    monkeypatch.setattr(webhook_module, "PAUSES_S", (0.0, 0.01, 0.01))


PROCESS = pytest.param("process", marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"))


@pytest.fixture(params=["simulated", "gate", PROCESS, "webhook"])
async def hands(request, tmp_path, monkeypatch, endpoint, hook) -> AsyncIterator[Hands]:
    if request.param == "process":
        starts = []
        start = Child.start
        monkeypatch.setattr(Child, "start", lambda *given, **named: starts.append(given) or start(*given, **named))
        connector = ProcessConnector([ProcessSpec(agent_id="agent-1", argv=("sleep", "60"), grace_s=0.5)], ledger=tmp_path / "children.json")
        await connector.start()
        yield Hands(connector=connector, agent="agent-1", look=pause, effects=lambda: len(starts) - 1)
        await connector.close()
    elif request.param == "webhook":
        carried_out = lambda: sum(number for key, number in endpoint.done.items() if key.startswith("run/"))
        yield Hands(connector=hook, agent="agent-1", look=pause, effects=carried_out)
    else:
        yield {"simulated": simulated, "gate": gate}[request.param]()


@pytest.mark.parametrize("level", CONTAINED)
async def test_a_level_is_made_real_and_seen_and_taken_back(hands, level):
    answer = await hands.connector.contain(hands.agent, level, epoch=1)
    assert answer.outcome == "succeeded"
    await hands.seen(level)
    assert (await hands.connector.contain(hands.agent, "none", epoch=1)).outcome == "succeeded"
    await hands.seen("none")


async def test_the_same_level_again_is_the_same_level(hands):
    for _ in range(2):
        assert (await hands.connector.contain(hands.agent, "isolated", epoch=1)).outcome == "succeeded"
        await hands.seen("isolated")


async def test_every_level_gets_an_answer_and_never_an_exception(hands):
    for level in (*LEVELS, *reversed(LEVELS)):
        answer = await hands.connector.contain(hands.agent, level, epoch=1)
        assert answer.outcome in ("succeeded", "unsupported"), (level, answer)


async def test_an_action_with_the_same_key_has_one_effect_and_one_answer(hands):
    order = {"key": "run/plan-1/0/do", "epoch": 1}
    first = await hands.connector.perform(hands.agent, "restart_agent", **order)
    again = await hands.connector.perform(hands.agent, "restart_agent", **order)
    assert first == again
    assert first.outcome == ("succeeded" if hands.heals else "unsupported")
    assert hands.effects() == (1 if hands.heals else 0)


async def test_the_same_order_twice_at_once_has_one_effect(hands):
    order = {"key": "run/plan-1/0/do", "epoch": 1}
    answers = await asyncio.gather(*(hands.connector.perform(hands.agent, "restart_agent", **order) for _ in range(2)))
    assert answers[0] == answers[1]
    assert hands.effects() <= 1


async def test_another_key_is_another_order(hands):
    for number in range(2):
        await hands.connector.perform(hands.agent, "restart_agent", key=f"run/plan-1/{number}/do", epoch=1)
    assert hands.effects() == (2 if hands.heals else 0)


async def test_what_is_beyond_the_connector_is_said_and_not_raised(hands):
    if isinstance(hands.connector, SimulatedConnector):
        with pytest.raises(InputError):
            await hands.connector.perform(hands.agent, "sing", key="run/plan-1/0/do", epoch=1)
        return
    answer = await hands.connector.perform(hands.agent, "sing", key="run/plan-1/0/do", epoch=1)
    assert answer.outcome in ("unsupported", "failed")
    assert answer.detail
    assert (await hands.connector.compensate(hands.agent, "sing", key="run/plan-1/0/undo", epoch=1)).outcome in ("unsupported", "failed")


async def test_a_lower_epoch_is_refused_and_changes_nothing(hands):
    if not hands.fences:
        return
    await hands.connector.contain(hands.agent, "isolated", epoch=5)
    await hands.seen("isolated")
    for order in (
        hands.connector.contain(hands.agent, "none", epoch=4),
        hands.connector.perform(hands.agent, "restart_agent", key="run/plan-1/0/do", epoch=4),
    ):
        assert (await order).outcome == "failed"
    assert hands.effects() == 0
    await hands.seen("isolated")


async def test_canary_work_leaves_the_agent_contained(hands):
    await hands.connector.contain(hands.agent, "isolated", epoch=1)
    await hands.seen("isolated")
    assert (await hands.connector.allow(hands.agent, 3, epoch=1)).outcome == "succeeded"
    assert hands.connector.observed(hands.agent) == "isolated"


def test_it_knows_its_own_agents(hands):
    assert hands.connector.knows(hands.agent)
    if not isinstance(hands.connector, GateConnector):
        assert not hands.connector.knows("somebody-else")


# -- what only a webhook can do wrong ----------------------------------------------------------------------------------


async def test_a_stumbling_endpoint_is_asked_again_under_the_same_key(hook, endpoint, quick):
    endpoint.trouble = [503, 429]
    assert (await hook.perform("agent-1", "restart_agent", key="run/p/0/do", epoch=1)).outcome == "succeeded"
    assert [order["key"] for order in endpoint.orders] == ["run/p/0/do"] * 3
    assert endpoint.done == {"run/p/0/do": 1}


async def test_an_endpoint_that_only_stumbles_leaves_the_outcome_unknown_and_may_be_asked_again(hook, endpoint, quick):
    endpoint.trouble = [500] * 3
    answer = await hook.perform("agent-1", "restart_agent", key="run/p/0/do", epoch=1)
    assert answer.outcome == "unknown"
    assert (await hook.perform("agent-1", "restart_agent", key="run/p/0/do", epoch=1)).outcome == "succeeded"


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404])
async def test_a_refusal_or_a_redirect_is_final_and_not_followed(hook, endpoint, quick, status):
    endpoint.trouble = [status]
    answer = await hook.perform("agent-1", "restart_agent", key="run/p/0/do", epoch=1)
    assert answer.outcome == "failed"
    assert str(status) in answer.detail
    assert len(endpoint.orders) == 1


async def test_an_endpoint_that_is_not_there_failed_for_certain(quick):
    spec = WebhookSpec(url="http://127.0.0.1:1/secret-path?token=abc", agents=("*",), secret=SECRET, allow_loopback=True)
    hook = WebhookConnector(spec, SystemClock())
    answer = await hook.contain("agent-1", "isolated", epoch=1)
    assert answer.outcome == "failed"
    assert "secret" not in answer.detail
    assert "token" not in answer.detail
    assert hook.observed("agent-1") is None
    await hook.close()


@pytest.mark.fault("F52")
async def test_an_answer_that_comes_too_late_is_unknown(hook, endpoint, monkeypatch):
    monkeypatch.setattr(webhook_module, "PAUSES_S", (0.0,))
    endpoint.wait_s = 0.3
    slow = WebhookConnector(replace(hook.spec, timeout_s=0.05), SystemClock())
    assert (await slow.perform("agent-1", "restart_agent", key="run/p/0/do", epoch=1)).outcome == "unknown"
    await slow.close()


@pytest.mark.parametrize("answer", [{}, {"outcome": "cured"}, {"outcome": None}])
async def test_an_answer_without_a_known_outcome_is_unknown(hook, endpoint, quick, answer):
    endpoint.answer = answer
    assert (await hook.perform("agent-1", "restart_agent", key="run/p/0/do", epoch=1)).outcome == "unknown"


async def test_the_level_in_force_is_what_the_endpoint_says_later(hook, endpoint):
    await hook.contain("agent-1", "isolated", epoch=1)
    assert hook.observed("agent-1") == "isolated"
    endpoint.levels["agent-1"] = "none"
    async with asyncio.timeout(5.0):
        while hook.observed("agent-1") != "none":
            await pause()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "ftp://example.org/hook",
        "https://",
        "https://user:pass@example.org/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://10.0.0.5/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0/",
    ],
)
@pytest.mark.fault("F43")
def test_an_address_that_may_not_be_called_is_refused_at_once(url):
    with pytest.raises(InputError) as refused:
        WebhookConnector(WebhookSpec(url=url, agents=("*",), secret=SECRET), SystemClock())
    assert refused.value.field == "webhook.url"
    assert "pass" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/",
        "https://0.0.0.0/",
        "https://100.100.100.200/",
        "https://[fd00:ec2::254]/",
        "https://[fd20:ce::254]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[::ffff:100.100.100.200]/",
        "https://[2002:a9fe:a9fe::1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[fe80::1]/",
        "https://[fec0::1]/",
    ],
)
@pytest.mark.fault("F43")
def test_metadata_services_may_not_be_called_even_where_inner_addresses_may(url):
    with pytest.raises(InputError):
        WebhookConnector(WebhookSpec(url=url, agents=("*",), secret=SECRET, allow_private=True, allow_loopback=True), SystemClock())


@pytest.mark.fault("F43")
async def test_a_name_that_leads_to_an_inner_address_is_not_connected_to(quick):
    hook = WebhookConnector(WebhookSpec(url="https://localhost:1/hook", agents=("*",), secret=SECRET), SystemClock())
    answer = await hook.contain("agent-1", "isolated", epoch=1)
    assert answer.outcome == "failed"
    assert "cannot connect" in answer.detail
    await hook.close()


@pytest.mark.fault("F42")
def test_the_secret_is_never_shown():
    spec = WebhookSpec(url="https://example.org/hook", agents=("*",), secret=SECRET)
    assert SECRET.decode() not in repr(spec) + repr(WebhookConnector(spec, SystemClock()))
    with pytest.raises(InputError) as refused:
        WebhookConnector(replace(spec, secret=b"too short"), SystemClock())
    assert "too short'" not in str(refused.value)


async def test_an_answer_that_arrives_in_pieces_is_one_answer(endpoint, hook):
    endpoint.in_pieces = True
    assert (await hook.perform("crawler-1", "restart_agent", key="k", epoch=1)).outcome == "succeeded"
