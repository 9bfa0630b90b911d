"""kill -9 under load, again and again on one data directory: what was acknowledged must be there, what was contained must hold.

The harness is everything outside the daemon: the hands behind the webhook, the people who command, the listener of the live
stream. It believes nobody's word but what came back over a socket before the kill.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from immune.core.events import GENESIS, LEVELS, follow
from immune.core.fold import fold
from immune.core.state import RunState
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.tokens import TokenStore
from proving.victim import Victim, prepared

ISOLATED = LEVELS.index("isolated")
QUIET_S = 20.0
FIRST_LIFE_S = 16.0


@dataclass(kw_only=True)
class Tally:
    """What was counted; every list of troubles has to stay empty."""

    kills: int = 0
    kills_while_starting: int = 0
    acknowledged_events: int = 0
    acknowledged_commands: int = 0
    retried_commands: int = 0
    contained_at_restart: int = 0
    pending_at_restart: int = 0
    plans_ended: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    lost: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)

    @property
    def troubles(self) -> list[str]:
        """Everything that must not be."""
        return [*self.lost, *self.escaped, *self.forgotten, *self.doubled, *self.left_open]


class Receiver:
    """The hands behind the webhook. Keeps levels and effects, remembers keys, refuses an older epoch; answers late now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.levels: dict[str, str] = {}
        self.effects: list[tuple[str, str]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.epoch = 0
        self.stale = 0
        self._runner: web.AppRunner | None = None

    async def open(self) -> str:
        """Listen; the address."""
        application = web.Application()
        application.router.add_post("/hands", self._order)
        application.router.add_get("/hands", self._look)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/hands"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _look(self, request: web.Request) -> web.Response:
        return web.json_response({"level": self.levels.get(request.query.get("agent", ""), "none")})

    async def _order(self, request: web.Request) -> web.Response:
        order = await request.json()
        if order["epoch"] < self.epoch:
            self.stale += 1
            return web.json_response({"outcome": "failed", "detail": "a newer writer gives the orders"})
        self.epoch = order["epoch"]
        await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.01, 0.05, 0.3)))
        key = order["key"]
        if key not in self.answers:
            self.answers[key] = {"outcome": "succeeded"}
            if order["order"] == "contain":
                self.levels[order["agent"]] = order["level"]
            elif order["order"] in {"perform", "compensate"}:
                self.effects.append((key, order["agent"]))
        await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.01, 0.2)))
        return web.json_response({**self.answers[key], "level": self.levels.get(order["agent"], "none")})


class Crowd:
    """People and programs at one data directory, over all its lives."""

    def __init__(self, token: str, tokens: dict[str, str], rng: random.Random, tally: Tally) -> None:
        self.token, self.tokens, self.rng, self.tally = token, tokens, rng, tally
        self.seen: dict[int, str] = {}
        self.told: dict[str, list[str]] = {}
        self.unanswered: dict[str, tuple[str, str, str, Any]] = {}
        self.asked = 0
        self.url = ""

    async def live(self, session: aiohttp.ClientSession) -> None:
        """Until the connection is gone."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._quietly(self._listen(session)))
            for _ in range(3):
                group.create_task(self._quietly(self._command(session)))
            group.create_task(self._quietly(self._decide(session)))

    async def _quietly(self, work: Any) -> None:
        with suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            await work

    async def ask(self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None, *, who: str = "", key: str = "") -> tuple[int, Any]:
        """One request."""
        headers = {"Authorization": f"Bearer {self.tokens.get(who, self.token)}"}
        if key:
            headers["Idempotency-Key"] = key
        async with session.request(method, self.url + path, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        after = max(self.seen, default=0)
        async with session.get(f"{self.url}/v1/stream?after={after}", headers={"Authorization": f"Bearer {self.token}"}) as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    self.seen[event["seq"]] = event["hash"]

    async def _command(self, session: aiohttp.ClientSession) -> None:
        while True:
            self.asked += 1
            key = f"key-{self.asked}"
            await self._settle(session, key, self._some_command())

    async def _settle(self, session: aiohttp.ClientSession, key: str, wanted: tuple[str, str, str, Any]) -> None:
        self.unanswered[key] = wanted
        who, method, path, body = wanted
        status, document = await self.ask(session, method, path, body, who=who, key=key)
        if status == 503:
            return
        self.unanswered.pop(key, None)
        if status < 300:
            self.told[key] = list(document.get("events", ()))
            self.tally.acknowledged_commands += 1

    def _some_command(self) -> tuple[str, str, str, Any]:
        rng = self.rng
        agent = rng.choice(("worker-1", "worker-3", "worker-5", "extra-1"))  # the sick ones are left to the daemon, and to who approves
        match rng.randrange(5):
            case 0 | 1:
                return "oli", "POST", f"/v1/agents/{agent}/contain", {"level": rng.choice(LEVELS[1:4]), "reason": "by hand"}
            case 2:
                return "oli", "POST", f"/v1/agents/{agent}/release", {"reason": "enough"}
            case 3:
                return "oli", "POST", "/v1/agents", {"id": f"extra-{rng.randrange(5)}", "type": "coder", "service": "search"}
            case _:
                return "oli", "POST", f"/v1/agents/{agent}/report", {"reason": "it is rude"}

    async def _decide(self, session: aiohttp.ClientSession) -> None:
        while True:
            _, document = await self.ask(session, "GET", "/v1/approvals?status=pending")
            waiting = document.get("approvals", [])
            if waiting and self.rng.random() < 0.3:
                one = self.rng.choice(waiting)
                self.asked += 1
                body = {"decision": self.rng.choice(("approve", "approve", "reject")), "reason": "seen", "plan_hash": one["plan_hash"]}
                await self._settle(session, f"key-{self.asked}", ("ann", "POST", f"/v1/approvals/{one['id']}/decision", body))
            await asyncio.sleep(0.05)

    async def after_restart(self, session: aiohttp.ClientSession, before: RunState) -> None:
        """The first words to a new life: the gate holds, what waited for a person waits, what was not answered is asked again."""
        for agent in before.agents.values():
            if LEVELS.index(agent.desired) >= ISOLATED:
                self.tally.contained_at_restart += 1
                _, gate = await self.ask(session, "GET", f"/v1/gate/{agent.agent_id}?look=1")
                if gate.get("allowed"):
                    self.tally.escaped.append(f"{agent.agent_id} was let through after a restart")
        for key in before.open_approvals:
            if before.approvals[key].status == "pending":
                self.tally.pending_at_restart += 1
                _, approval = await self.ask(session, "GET", f"/v1/approvals/{key}")
                if approval.get("status") not in {"pending", "expired", "withdrawn"}:
                    self.tally.forgotten.append(f"{key} was pending before the kill and is {approval.get('status')} now")
        for key, wanted in list(self.unanswered.items()):
            self.tally.retried_commands += 1
            await self._settle(session, key, wanted)


@contextmanager
def reading(data_dir: Path) -> Iterator[SqliteJournal]:
    """The journal as it lies there."""
    journal = SqliteJournal.open_read_only(data_dir)
    try:
        yield journal
    finally:
        journal.close()


class PostMortem:
    """Reads the journal of a killed daemon, and holds it against what it had said."""

    def __init__(self, data_dir: Path, crowd: Crowd, tally: Tally) -> None:
        self.data_dir, self.crowd, self.tally = data_dir, crowd, tally
        self.state = RunState()
        self.hashes: dict[int, str] = {}
        self.keys: Counter[str] = Counter()

    def examine(self) -> RunState:
        """The state that the dead one left."""
        with reading(self.data_dir) as journal:
            runs = journal.runs()
            if not runs:
                return self.state
            fresh = list(follow(journal.read(runs[0].run_id, after_seq=self.state.seq), self.state.seq, self.state.head or GENESIS))
        for envelope in fresh:
            self.hashes[envelope.seq] = envelope.hash
            if envelope.kind == "command_answered":
                self.keys[json.loads(envelope.body)["key"]] += 1
        self.state = fold(self.state, fresh)
        self._hold_to_its_word()
        return self.state

    def _hold_to_its_word(self) -> None:
        crowd, tally = self.crowd, self.tally
        tally.acknowledged_events = len(crowd.seen)
        tally.lost = [f"event {seq} was shown and is not there" for seq, seen in crowd.seen.items() if self.hashes.get(seq) != seen]
        told = [one for events in crowd.told.values() for one in events]
        tally.lost += [f"{one} was acknowledged and is not there" for one in told if int(one[1:]) not in self.hashes]
        tally.doubled = [f"a command took effect {times} times" for times in self.keys.values() if times > 1]


def examine_effects(state: RunState, receiver: Receiver, tally: Tally) -> None:
    """Effects happened once, or were undone, or a person was called; started plans ended."""
    times = Counter(key for key, _ in receiver.effects)
    tally.effects = sum(times.values())
    tally.doubled += [f"{key} took effect {count} times" for key, count in times.items() if count > 1]
    for plan in state.plans.values():
        if plan.live:
            tally.left_open.append(f"{plan.plan_id} is {plan.status}")
        if plan.outcome:
            tally.plans_ended[plan.outcome] += 1
        for number, step in enumerate(plan.steps):
            key = f"{state.run_id}/{plan.plan_id}/{number}"
            stands = f"{key}/do" in times and f"{key}/undo" not in times
            accounted = plan.outcome in {"succeeded", ""} or not step.note.reversible or step.status == "uncompensated"
            if stands and not accounted:
                tally.doubled.append(f"{step.note.action} of {plan.plan_id} still stands, and the plan was {plan.outcome}")


async def kill_again_and_again(folder: Path, *, kills: int, seed: int = 1, longest_s: float = 1.6) -> Tally:
    """One data directory, many lives. Raises nothing of what it finds: it is in the tally."""
    rng = random.Random(seed)
    tally, receiver = Tally(), Receiver(rng)
    orders = prepared(folder, webhook=await receiver.open(), agents=24)
    store = TokenStore(orders.data_dir)
    store.ensure_admin()
    tokens = {name: store.create(name, role) for name, role in (("ann", "approver"), ("oli", "operator"))}
    crowd = Crowd(store.admin_token(), tokens, rng, tally)
    post_mortem = PostMortem(orders.data_dir, crowd, tally)
    try:
        while tally.kills < kills:
            await _one_life(Victim(orders=orders), crowd, post_mortem, rng, tally, longest_s)
        await _calm(Victim(orders=orders), crowd, post_mortem, tally)
        examine_effects(post_mortem.state, receiver, tally)
        if receiver.stale:
            tally.doubled.append(f"{receiver.stale} orders of a writer that was replaced")
    finally:
        await receiver.close()
    return tally


async def _one_life(victim: Victim, crowd: Crowd, post_mortem: PostMortem, rng: random.Random, tally: Tally, longest_s: float) -> None:
    before = post_mortem.state
    victim.start()
    if tally.kills > 3 and rng.random() < 0.15:
        await asyncio.sleep(rng.random() * 0.3)
        tally.kills_while_starting += 1
    else:
        hurries = tally.kills > 0
        if await asyncio.to_thread(victim.wait_ready):
            tally.starts_s.append(victim.started_s)
            crowd.url = victim.address["url"]
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                with suppress(aiohttp.ClientError, ConnectionError):
                    await crowd.after_restart(session, before)
                life = asyncio.create_task(crowd.live(session))
                await asyncio.sleep(rng.random() * longest_s if hurries else FIRST_LIFE_S)
                await asyncio.to_thread(victim.kill)
                with suppress(TimeoutError):
                    await asyncio.wait_for(life, 10)
        else:
            tally.left_open.append(f"it did not start: {victim.log()[-300:]}")
    await asyncio.to_thread(victim.kill)
    tally.kills += 1
    post_mortem.examine()


async def _calm(victim: Victim, crowd: Crowd, post_mortem: PostMortem, tally: Tally) -> None:
    """A last life without load: what is under way comes to its end."""
    victim.start()
    if not await asyncio.to_thread(victim.wait_ready):
        tally.left_open.append(f"the last life did not start: {victim.log()[-300:]}")
        return
    crowd.url = victim.address["url"]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        await crowd.after_restart(session, post_mortem.state)
        for _ in range(round(QUIET_S / 0.25)):
            _, document = await crowd.ask(session, "GET", "/v1/plans?limit=2000")
            if not any(one["status"] in {"running", "probation", "compensating"} for one in document.get("plans", ())):
                break
            await asyncio.sleep(0.25)
    await asyncio.to_thread(victim.kill)
    post_mortem.examine()
