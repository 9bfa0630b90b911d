"""Approvals under fire, over HTTP: many people decide the same request at once, and everything that must not be taken for a yes is tried."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from immune.api.app import Api
from immune.api.server import Server, serve
from immune.bootstrap import Stores, build_engine
from immune.connectors.gate import GateConnector
from immune.core import events as ev
from immune.core.acts import ApprovalClosed, CommandRefused
from immune.core.decision import Decision, Docket
from immune.core.events import Draft
from immune.core.healing import next_rung
from immune.core.planning import propose
from immune.core.policy import ApprovalsPolicy, DetectionPolicy, LimitsPolicy, Policy
from immune.core.vitals import AgentIdentity
from immune.reports import documents
from immune.reports.explain import explain
from immune.runtime.engine import Engine
from immune.sources.ingest import IngestSource
from immune.stores.memory import MemoryJournal, MemoryTelemetry
from immune.stores.tokens import TokenStore

US = 1_000_000
START_US = 1_767_225_600 * US
EXPIRE_S = 900.0
PER_DAEMON = 250
"""Decisions per daemon: each leaves an open incident behind, and a state of thousands is not what is measured."""
ROLES = {"p1": "approver", "p2": "approver", "p3": "approver", "p4": "approver", "p5": "admin", "op": "operator", "vi": "viewer", "ag": "agent"}
ABUSES = (
    "expired",
    "altered plan",
    "another request's plan",
    "plan of another run",
    "replayed after a rejection",
    "replayed after a grant",
    "the requester himself",
    "role lost before the decision",
    "role lost before the start",
    "agent's own token",
    "operator",
    "viewer",
    "unknown token",
    "expired while it was granted",
)

REFUSED = {
    "expired": ("p1", 410),
    "altered plan": ("p1", 412),
    "another request's plan": ("p1", 412),
    "plan of another run": ("p1", 412),
    "replayed after a rejection": ("p2", 409),
    "replayed after a grant": ("p1", 409),
    "the requester himself": ("p1", 403),
    "role lost before the decision": ("p4", 403),
    "agent's own token": ("ag", 403),
    "operator": ("op", 403),
    "viewer": ("vi", 403),
}
"""Whose attempt is refused, and with which status; the journal must hold exactly that."""
CLOSED = {"role lost before the start": "withdrawn", "expired while it was granted": "expired"}
"""A yes that was valid when it was said: what becomes of the request."""


class HandClock:
    """Time that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.at_us = START_US

    def now_us(self) -> int:
        """Now."""
        return self.at_us

    async def sleep_until_us(self, at_us: int) -> None:
        """No need."""
        self.at_us = max(self.at_us, at_us)


@dataclass(kw_only=True)
class Office:
    """A daemon in this process, on a real socket, with requests made to order."""

    engine: Engine
    api: Api
    clock: HandClock
    server: Server
    session: aiohttp.ClientSession
    store: TokenStore
    tokens: dict[str, str]
    made: int = 0

    async def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, and the engine look."""
        self.clock.at_us += round(seconds * US)
        self.api.refresh_approvers()
        await self.engine.tick(self.clock.at_us)

    async def ask(self, who: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One POST."""
        headers = {"Authorization": f"Bearer {self.tokens.get(who, 'no such token')}"}
        async with self.session.post(self.server.url + path, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def decide(self, who: str, request: dict[str, str], decision: str = "approve", plan_hash: str | None = None) -> tuple[int, dict[str, Any]]:
        """One decision."""
        body = {"decision": decision, "reason": "seen", "plan_hash": plan_hash or request["plan_hash"]}
        return await self.ask(who, f"/v1/approvals/{request['id']}/decision", body)

    def request(self, *, actor: str = ev.SYSTEM) -> dict[str, str]:
        """A plan on a newly sick agent that waits for a person: {id, plan_hash, plan, agent}."""
        self.made += 1
        agent_id = f"agent-{self.made}"
        engine, now_us = self.engine, self.clock.at_us
        index = engine.desk.roster.enroll(AgentIdentity(agent_id=agent_id, type="writer", service="desk"))
        enrolled = Draft(at_us=now_us, subject=agent_id, event=ev.AgentEnrolled(index=index, type="writer", service="desk"))
        incident_id = f"inc-{self.made:04d}"
        opened = ev.IncidentOpened(
            incident_id=incident_id,
            scope="agent",
            cohort="",
            agents=(agent_id,),
            onset_us=START_US,
            nats=40.0,
            threshold_nats=18.0,
            severity=8.0,
            severity_why=("tokens ×9",),
            evidence=(),
            diagnosis=(ev.HypothesisNote(kind="token_explosion", confidence=0.9, evidence_for=(), evidence_against=()),),
            ruled_out=(),
            changed=(),
            policy_version=engine.rules.version,
        )
        engine.submit(Decision(drafts=(enrolled, Draft(at_us=now_us, subject=agent_id, event=opened, correlation_id=incident_id))))
        state, rules = engine.state, engine.rules
        incident = state.incidents[incident_id]
        rung = next_rung(state, incident, rules.catalogue, rules.actions, rules.policy.healing, now_us)
        docket = Docket(state=state, now_us=now_us)
        plan_id = propose(docket, rules, incident, rung, trigger="auto", actor=actor, ask=True)
        engine.submit(docket.close())
        request = engine.state.approvals[engine.state.plans[plan_id].request_id]
        return {"id": request.request_id, "plan_hash": request.plan_hash, "plan": plan_id, "agent": agent_id}

    def status(self, request: dict[str, str]) -> str:
        """What became of a request."""
        return self.engine.state.approvals[request["id"]].status

    def refusals(self) -> int:
        """Refused attempts on record."""
        return sum(envelope.kind == "command_refused" for envelope in self.engine.journal.read(self.engine.run_id))


@asynccontextmanager
async def office(folder: Path, *, run_id: str = "run-1") -> AsyncIterator[Office]:
    """A daemon for as long as the block lasts."""
    limits = LimitsPolicy(requests_per_s=1e6, enrolments_at_once=100_000, enrolments_per_s=1e6)
    # incidents stay open for longer than a request lives: a yes that comes to nothing must have come to nothing by what is looked at
    detection = DetectionPolicy(close_after_s=2 * EXPIRE_S)
    policy = Policy(mode="act", detection=detection, approvals=ApprovalsPolicy(undo_window_s=2.0, expire_after_s=EXPIRE_S), limits=limits)
    clock = HandClock()
    inbox, gate, store = IngestSource(policy.limits), GateConnector(), TokenStore(folder)
    stores = Stores(journal=MemoryJournal(), telemetry=MemoryTelemetry())
    engine = build_engine(run_id=run_id, sources=[inbox], stores=stores, policy=policy, connectors=[gate])
    engine.rules = replace(engine.rules, can=lambda agent_id, action: True)
    api = Api(engine=engine, inbox=inbox, keys=store, gate=gate, papers=documents, explain=explain, clock=clock)
    tokens = {name: store.create(name, role) for name, role in ROLES.items() if name not in store.roles()}
    engine.start(clock.now_us())
    server = await serve(api, port=0, data_dir=folder)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    try:
        yield Office(engine=engine, api=api, clock=clock, server=server, session=session, store=store, tokens=tokens)
    finally:
        await session.close()
        await server.close()
        await engine.finish(clock.now_us(), "done")
        for name in tokens:
            if name in store.roles():
                store.revoke(name)


@dataclass(kw_only=True)
class Verdicts:
    """What was counted."""

    races: int = 0
    decisions: int = 0
    not_one_winner: int = 0
    losers_without_a_name: int = 0
    abuses: Counter[str] = field(default_factory=Counter)
    executed: list[str] = field(default_factory=list)
    not_on_record: int = 0


async def races(folder: Path, count: int, *, people: int = 5) -> Verdicts:
    """So many requests, each decided by several people at the same time, some for and some against."""
    found = Verdicts()
    while found.races < count:
        async with office(folder) as here:
            for _ in range(min(PER_DAEMON, count - found.races)):
                await _race(here, found, people)
                here.clock.at_us += 60 * US  # the limit on refused attempts is not what is looked at
    return found


async def _race(here: Office, found: Verdicts, people: int) -> None:
    request = here.request()
    names = [f"p{1 + n % 5}" for n in range(people)]
    words = ["approve" if (found.races + n) % 3 else "reject" for n in range(people)]
    answers = await asyncio.gather(*(here.decide(name, request, word) for name, word in zip(names, words, strict=True)))
    winners = [name for name, (status, _) in zip(names, answers, strict=True) if status == 200]
    found.races += 1
    found.decisions += people
    found.not_one_winner += len(winners) != 1
    decided = here.engine.state.approvals[request["id"]]
    for status, document in answers:
        told = document.get("detail", "")
        if status != 200 and (status != 409 or f"by {decided.decided_by} at {ev.iso(decided.decided_at_us)}" not in told):
            found.losers_without_a_name += 1
    ends = [e for e in here.engine.journal.read(here.engine.run_id, after_seq=decided.seq) if e.kind in {"approval_granted", "approval_closed"}]
    found.not_one_winner += len(ends) != 1


async def abuses(folder: Path, count: int) -> Verdicts:
    """So many attempts to get something done without a valid yes; none may lead to a start, each must be on record."""
    found = Verdicts()
    (elsewhere := folder / "another").mkdir(exist_ok=True)
    while sum(found.abuses.values()) < count:
        async with office(folder) as here, office(elsewhere, run_id="run-2") as there:
            for _ in range(min(PER_DAEMON, count - sum(found.abuses.values()))):
                how = ABUSES[sum(found.abuses.values()) % len(ABUSES)]
                await _abuse(here, there, how, found)
                found.abuses[how] += 1
                here.clock.at_us += 60 * US
    return found


async def _abuse(here: Office, there: Office, how: str, found: Verdicts) -> None:
    request = here.request(actor="person:p1" if how == "the requester himself" else ev.SYSTEM)
    before, failed = here.engine.state.seq, here.api.context.doorman.failed
    match how:
        case "expired":
            here.clock.at_us += round((EXPIRE_S + 1) * US)
            await here.decide("p1", request)
        case "altered plan":
            await here.decide("p1", request, plan_hash="0" * 64)
        case "another request's plan":
            other = here.request()
            await here.decide("p1", request, plan_hash=other["plan_hash"])
        case "plan of another run":
            there.made = here.made - 1
            twin = there.request()  # the same agent, incident, steps and policy
            await here.decide("p1", request, plan_hash=twin["plan_hash"])
        case "replayed after a rejection":
            await here.decide("p1", request, "reject")
            await here.decide("p2", request)
        case "replayed after a grant":
            await here.decide("p1", request)
            await here.ask("p1", f"/v1/approvals/{request['id']}/undo", {"reason": "no"})
            await here.decide("p1", request)
        case "the requester himself":
            await here.decide("p1", request)
        case "role lost before the decision":
            kept = here.tokens["p4"]
            here.store.revoke("p4")
            here.tokens["p4"] = here.store.create("p4", "viewer")
            await here.decide("p4", request)
            here.store.revoke("p4")
            here.tokens["p4"] = kept
            await here.decide("p4", request)
            here.tokens["p4"] = here.store.create("p4", "approver")
        case "role lost before the start":
            await here.decide("p4", request)
            here.store.revoke("p4")
            await here.tick(3)
            here.tokens["p4"] = here.store.create("p4", "approver")
        case "agent's own token" | "operator" | "viewer":
            await here.decide({"agent's own token": "ag", "operator": "op", "viewer": "vi"}[how], request)
        case "unknown token":
            await here.decide("nobody", request)
        case _:
            await here.decide("p1", request)
            here.clock.at_us += round((EXPIRE_S + 100) * US)
    await here.tick(3)
    await here.tick(1)
    events = list(here.engine.journal.read(here.engine.run_id, after_seq=before))
    started = here.engine.state.plans[request["plan"]].started_at_us if request["plan"] in here.engine.state.plans else 0
    if started:
        found.executed.append(f"{how}: {request['plan']}")
    found.not_on_record += not _on_record(how, request, events, here.api.context.doorman.failed - failed)


def _on_record(how: str, request: dict[str, str], events: Sequence[ev.Envelope], failed: int) -> bool:
    told = [(envelope.actor.partition(":")[2], envelope.event()) for envelope in events]
    if how in REFUSED:
        who, status = REFUSED[how]
        return any(isinstance(e, CommandRefused) and (by, e.status, e.target) == (who, status, request["id"]) for by, e in told)
    if how in CLOSED:
        return any(isinstance(e, ApprovalClosed) and (e.request_id, e.outcome) == (request["id"], CLOSED[how]) for _, e in told)
    return failed == 1  # nobody is nobody: such attempts are counted and slowed down, not written by whoever makes them up
