"""A daemon in one test: engine, ingest, gate and API on one loop, driven by hand. Nothing sleeps."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from argon2 import PasswordHasher
from yarl import URL

from immune.api.app import Api
from immune.api.server import Server, serve
from immune.bootstrap import Stores, build_engine, open_stores
from immune.clock import SystemClock
from immune.connectors.gate import GateConnector
from immune.core import events as ev
from immune.core.decision import Decision, Docket
from immune.core.events import Draft
from immune.core.healing import next_rung
from immune.core.planning import propose
from immune.core.policy import LimitsPolicy, Policy
from immune.core.state import ENDED_KEPT
from immune.core.vitals import AgentIdentity
from immune.observability.panel import Panel
from immune.reports import documents
from immune.reports.explain import explain
from immune.runtime.engine import Engine
from immune.sources.ingest import IngestSource
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.keyring import Keyring
from immune.stores.people import PeopleStore
from immune.stores.tokens import TokenStore

US = 1_000_000
START_US = 1_767_225_600 * US
ROLES = ("viewer", "operator", "approver", "agent")


class HandClock:
    """Time that stands still until somebody moves it."""

    def __init__(self, now_us: int = START_US) -> None:
        self.at_us = now_us

    def now_us(self) -> int:
        return self.at_us

    async def sleep_until_us(self, at_us: int) -> None:
        self.at_us = max(self.at_us, at_us)
        await asyncio.sleep(0)


class SystemTime(SystemClock):
    """The wall clock, with the face of `HandClock`."""

    @property
    def at_us(self) -> int:
        return self.now_us()


@dataclass(kw_only=True)
class Answer:
    status: int
    document: Any
    headers: Any
    text: str = ""


@dataclass(kw_only=True)
class Daemon:
    engine: Engine
    ingest: IngestSource
    gate: GateConnector
    tokens: TokenStore
    people: PeopleStore
    clock: HandClock
    api: Api
    stores: Stores
    server: Server | None = None
    session: aiohttp.ClientSession | None = None
    token: dict[str, str] = field(default_factory=dict)

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.at_us += US
            self.api.refresh_approvers()
            await self.engine.tick(self.clock.at_us)
            await self.settle()

    async def settle(self) -> None:
        for _ in range(4):
            await self.engine.executor.settle()
            await asyncio.sleep(0)

    async def ask(self, method: str, path: str, body: Any = None, *, who: str | None = "admin", raw: bytes | None = None, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if who is not None:
            sent.setdefault("Authorization", f"Bearer {self.token[who]}")
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL(self.server.url + path, encoded=True)
        async with self.session.request(method, url, data=raw, headers=sent, skip_auto_headers=("Content-Type",)) as response:
            text = await response.text()
            is_json = "json" in response.headers.get("Content-Type", "")
            return Answer(status=response.status, document=json.loads(text) if is_json else None, headers=response.headers, text=text)

    async def vitals(self, *samples: dict[str, Any], who: str = "admin", **headers: str) -> Answer:
        return await self.ask("POST", "/v1/vitals", {"samples": list(samples)}, who=who, **headers)

    def kinds(self, subject: str | None = None) -> list[str]:
        return [e.kind for e in self.engine.journal.read(self.engine.run_id) if subject is None or e.subject == subject]

    def events(self, kind: str) -> list[Any]:
        return [e for e in self.engine.journal.read(self.engine.run_id) if e.kind == kind]


def compose(folder: Path, *, policy: Policy | None = None, clock: HandClock | None = None, on_disk: bool = False, run_id: str = "run-1") -> Daemon:
    policy = policy or Policy(mode="act")
    clock = clock or HandClock()
    ingest, gate, tokens = IngestSource(policy.limits), GateConnector(), TokenStore(folder)
    tokens.ensure_admin()
    people = PeopleStore(folder, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))  # as slow as need be for a test
    stores = open_stores(folder if on_disk else None)
    engine = build_engine(run_id=run_id, sources=[ingest], stores=stores, policy=policy, connectors=[gate], keep=ENDED_KEPT)
    reader = partial(SqliteJournal.open_read_only, folder) if on_disk else None
    panel = Panel(engine, clock, inbox=ingest)
    api = Api(
        engine=engine,
        inbox=ingest,
        keys=Keyring(tokens, people, clock.now_us),
        people=people,
        gate=gate,
        papers=documents,
        explain=explain,
        clock=clock,
        reader=reader,
        metrics=panel.expose,
    )
    panel.sides.api = api.context
    return Daemon(engine=engine, ingest=ingest, gate=gate, tokens=tokens, people=people, clock=clock, api=api, stores=stores)


def with_limits(**limits: Any) -> Policy:
    return Policy(mode="act", limits=replace(LimitsPolicy(), **limits))


@asynccontextmanager
async def daemon(folder: Path, **options: Any):
    made = compose(folder, **options)
    made.token["admin"] = made.tokens.admin_token()
    for role in ROLES:
        if role not in made.tokens.roles():
            made.token[role] = made.tokens.create(role, role)
    made.engine.start(made.clock.now_us())
    made.server = await serve(made.api, port=0, data_dir=folder)
    connector = aiohttp.TCPConnector(limit=0)
    made.session = aiohttp.ClientSession(connector=connector)
    try:
        yield made
    finally:
        await made.session.close()
        await made.server.close()
        await made.engine.finish(made.clock.now_us(), "the test is over")
        made.stores.close()


def open_incident(made: Daemon, agent_id: str = "sick-1", severity: float = 8.0, *, kind: str = "token_explosion", onset_us: int = START_US) -> str:
    """An incident on a newly enrolled agent, as the sentinel would have opened it. In theory every action can be carried out."""
    made.engine.rules = replace(made.engine.rules, can=lambda agent_id, action: True)
    state = made.engine.state
    if agent_id not in state.agents:
        index = made.engine.desk.roster.enroll(AgentIdentity(agent_id=agent_id, type="writer", service="desk"))
        event = ev.AgentEnrolled(index=index, type="writer", service="desk")
        made.engine.submit(Decision(drafts=(Draft(at_us=made.clock.at_us, subject=agent_id, event=event),)))
    incident_id = f"inc-{state.ever('incidents') + 1:04d}"
    note = ev.EvidenceNote(
        vital="input_tokens", direction="up", nats=40.0, ratio=9.0, observed=9000.0, expected=1000.0, effect=5.0, growth=0.0, onset_us=onset_us,
        calibration=1.0, basis="own",
    )  # fmt: skip
    opened = ev.IncidentOpened(
        incident_id=incident_id, scope="agent", cohort="", agents=(agent_id,), onset_us=onset_us, nats=40.0, threshold_nats=18.0, severity=severity,
        severity_why=("tokens ×9",), evidence=(note,),
        diagnosis=(ev.HypothesisNote(kind=kind, confidence=0.9, evidence_for=(), evidence_against=()),),
        ruled_out=(), changed=(), policy_version=made.engine.rules.version,
    )  # fmt: skip
    made.engine.submit(Decision(drafts=(Draft(at_us=made.clock.at_us, subject=agent_id, event=opened, correlation_id=incident_id),)))
    return incident_id


def open_request(made: Daemon, agent_id: str = "sick-1", **incident: Any) -> dict[str, Any]:
    """A plan that waits for a person: {id, plan_hash, plan, incident}. The ladder of `kind` says which plan."""
    incident_id = open_incident(made, agent_id, **incident)
    state, rules = made.engine.state, made.engine.rules
    known = state.incidents[incident_id]
    rung = next_rung(state, known, rules.catalogue, rules.actions, rules.policy.healing, made.clock.at_us)
    docket = Docket(state=state, now_us=made.clock.at_us)
    plan_id = propose(docket, rules, known, rung, trigger="auto", actor="system", ask=True)
    made.engine.submit(docket.close())
    request = made.engine.state.approvals[made.engine.state.plans[plan_id].request_id]
    return {"id": request.request_id, "plan_hash": request.plan_hash, "plan": plan_id, "incident": incident_id, "agent": agent_id}
