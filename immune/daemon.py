"""The daemon: engine, API and their children, from start to signal.

A run goes on across restarts: unless a new one is asked for, the newest run of the same kind in the data directory is
taken up again, with its containments in force before the first sample is read. A simulated fleet is brought from outside
(`Extras`); nothing in here knows of one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

from immune.api.app import Api
from immune.api.server import Server, announce, serve
from immune.bootstrap import SECOND_US, Stores, build_engine, new_run_id, open_stores, rules_for
from immune.clock import Clock, SystemClock, VirtualClock, run_virtual
from immune.companions import Beside, companions
from immune.connectors.config import load_connectors
from immune.connectors.gate import GateConnector
from immune.connectors.process import ProcessConnector
from immune.connectors.webhook import WebhookConnector
from immune.core.events import iso
from immune.core.policy import Policy
from immune.core.state import ENDED_KEPT
from immune.errors import FencedError, JournalBrokenError, RefusedError, StoreUnavailableError, UnknownIdError
from immune.observability.otel_settings import read_otel_settings
from immune.observability.panel import Panel
from immune.ports import AgentSource, Companion, Connector
from immune.reports import documents
from immune.reports.explain import explain
from immune.runtime.engine import Engine
from immune.runtime.standin import ClosedInbox, StandIn, room_again
from immune.runtime.supervisor import Failure, Supervisor
from immune.settings import Settings
from immune.sources.ingest import IngestSource
from immune.stores.archive import taken_up_next
from immune.stores.care import readable
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.keyring import Keyring
from immune.stores.memory import MemoryTelemetry
from immune.stores.people import PeopleStore
from immune.stores.tokens import TokenStore
from immune.stores.witness import Why, Witness, compare

HEAD_START_S = 3
WITNESS_EVERY_US = 60 * SECOND_US
SOURCE = "daemon"
STAND_IN_S = (0.5, 2.0, 5.0, 10.0, 30.0)
"""How long it stands in at least before it tries to start again; a disk that lets it start and then not go on is tried less often."""
PROBE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the user asked for."""

    settings: Settings
    policy: Policy
    config: Path | None = None
    run_id: str | None = None
    new: bool = False
    duration_s: float | None = None
    warm_start: str | None = None
    take_over: bool = False
    as_json: bool = False
    period_us: int = SECOND_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What a caller brings beside the daemon's own sources and hands. `warmup_s` is run through on the virtual clock first."""

    name: str = SOURCE
    sources: tuple[AgentSource, ...] = ()
    connectors: tuple[Connector, ...] = ()
    warmup_s: int = 0
    companions: tuple[Companion, ...] = ()


Bring = Callable[[int, bool], Extras]
"""(time of the first tick, whether a run is taken up again) -> what is brought."""


@dataclass(slots=True, kw_only=True)
class Parts:
    """Everything a running daemon consists of."""

    launch: Launch
    engine: Engine
    stores: Stores
    inbox: IngestSource
    gate: GateConnector
    tokens: TokenStore
    people: PeopleStore
    processes: ProcessConnector | None
    webhooks: list[WebhookConnector]
    first_us: int
    witness: Witness
    panel: Panel
    companions: list[Companion] = field(default_factory=list)
    witnessed_us: int = 0
    troubled: bool = False
    doubts: list[str] = field(default_factory=list)
    """Why the journal may not be the one that was here last; stays on the status page until the daemon is started anew."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    fatal: RefusedError | None = None
    supervisor: Supervisor | None = None


def run_daemon(launch: Launch, bring: Bring | None = None) -> None:
    """Run until the duration is over or a signal comes. Raises what the user must know of: port taken, writer held …

    A disk that takes nothing does not keep it from answering for what is in force: it stands in until there is room.
    """
    for patience_s in chain(STAND_IN_S, repeat(STAND_IN_S[-1])):
        try:
            _run_once(launch, bring)
        except StoreUnavailableError as error:
            if _stood_in(launch, error, patience_s) == "room":
                continue
        gc.freeze()  # the interpreter's end would look through everything once more: half a second of processor for nothing
        return


def _run_once(launch: Launch, bring: Bring | None) -> None:
    stores = open_stores(launch.settings.data_dir)
    try:
        parts = _compose(launch, stores, bring)
        _say(f"run {parts.engine.run_id} in {launch.settings.data_dir}, policy {parts.engine.rules.version}, mode {launch.policy.mode}")
        asyncio.run(_live(parts))
        if parts.fatal is not None:
            raise parts.fatal
    finally:
        _let_go(stores)


def _let_go(stores: Stores) -> None:
    try:
        stores.close()
    except StoreUnavailableError as error:
        _say(f"the stores could not be closed in order: {error}; nothing that was acknowledged is lost by that")


def _stood_in(launch: Launch, error: StoreUnavailableError, patience_s: float) -> Literal["room", "stopped"]:
    """Answer from what can be read until the disk takes something again. Raises the error where nothing is in force, or can be read."""
    try:
        with readable(launch.settings.data_dir) as where, SqliteJournal.open_read_only(where) as journal:
            run_id = launch.run_id or (None if launch.new else taken_up_next(journal.runs()))
            if run_id is None or journal.head(run_id)[0] == 0:
                raise error
            rules = rules_for(launch.policy)
            engine = StandIn(journal=journal, telemetry=MemoryTelemetry(), run_id=run_id, rules=rules, period_us=launch.period_us, error=error)
            return asyncio.run(_stand_in(launch, engine, where, patience_s))
    except StoreUnavailableError:
        raise error from None


async def _stand_in(launch: Launch, engine: StandIn, where: Path, patience_s: float) -> Literal["room", "stopped"]:
    clock, stop = SystemClock(), asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    data_dir, tokens = launch.settings.data_dir, TokenStore(launch.settings.data_dir)
    reader = partial(SqliteJournal.open_read_only, where)
    api = Api(engine=engine, inbox=ClosedInbox(), keys=tokens, gate=GateConnector(), papers=documents, explain=explain, clock=clock, reader=reader)
    server = await serve(api, port=launch.settings.port)
    with suppress(StoreUnavailableError):  # whoever knows the port still finds it
        announce(server, data_dir)
    held = sum(agent.desired != "none" for agent in engine.state.agents.values())
    _say(f"{engine.trouble}. Nothing new is decided; {held} agents stay contained, and the gate on {server.url} says so until there is room")
    until_us = None if launch.duration_s is None else clock.now_us() + round(launch.duration_s * SECOND_US)
    try:
        await _wait(stop, patience_s)
        while not stop.is_set() and not room_again(data_dir):
            if until_us is not None and clock.now_us() >= until_us:
                return "stopped"
            await _wait(stop, PROBE_EVERY_S)
    finally:
        await server.close()
    if stop.is_set():
        return "stopped"
    _say("the disk takes something again: starting")
    return "room"


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _compose(launch: Launch, stores: Stores, bring: Bring | None) -> Parts:
    read_otel_settings()  # what cannot be meant is refused before anything is touched
    clock = SystemClock()
    run_id, resumed = _choose_run(launch, stores)
    first_us = _next_second(clock.now_us()) + HEAD_START_S * SECOND_US if not resumed else _next_second(clock.now_us())
    extras = bring(first_us, resumed) if bring else Extras()
    inbox, gate, tokens = IngestSource(launch.policy.limits), GateConnector(), TokenStore(launch.settings.data_dir)
    tokens.ensure_admin()
    people = PeopleStore(launch.settings.data_dir)
    specs = load_connectors(launch.config)
    processes = ProcessConnector(specs.processes, gate=gate, ledger=launch.settings.data_dir / "processes.json") if specs.processes else None
    webhooks = [WebhookConnector(spec, clock) for spec in specs.webhooks]
    hands: list[Connector] = [*extras.connectors, *([processes] if processes else []), *webhooks, gate]
    engine = build_engine(
        run_id=run_id,
        sources=[*extras.sources, inbox],
        stores=stores,
        policy=launch.policy,
        period_us=launch.period_us,
        source=extras.name,
        connectors=hands,
        keep=ENDED_KEPT,
    )
    engine.take_over = launch.take_over
    if launch.warm_start is not None:
        _warm_start(engine, stores, launch.warm_start)
    if extras.warmup_s and not resumed and launch.warm_start is None:
        _fast_forward(engine, first_us, extras.warmup_s)
    if not engine.opened:
        # the lock comes before the address: whoever is refused must not take the address of the one who runs
        engine.open(clock.now_us())
    panel = Panel(engine, clock, inbox=inbox)
    beside = Beside(
        settings=launch.settings,
        policy=launch.policy,
        engine=engine,
        stores=stores,
        clock=clock,
        say=_say,
        panel=panel,
        config=launch.config,
    )
    return Parts(
        launch=launch,
        engine=engine,
        companions=[*companions(beside), *extras.companions],
        panel=panel,
        stores=stores,
        inbox=inbox,
        gate=gate,
        tokens=tokens,
        people=people,
        processes=processes,
        webhooks=webhooks,
        first_us=first_us,
        witness=Witness(launch.settings.witness_path),
    )


def _choose_run(launch: Launch, stores: Stores) -> tuple[str, bool]:
    """The run to write, and whether it is taken up again."""
    if launch.run_id is not None:
        return launch.run_id, stores.journal.head(launch.run_id)[0] > 0
    newest = None if launch.new else taken_up_next(stores.journal.runs())
    if newest is not None:
        return newest, True
    return "live-" + new_run_id(SystemClock()).removeprefix("run-"), False


def _warm_start(engine: Engine, stores: Stores, from_run: str) -> None:
    if stores.journal.head(from_run)[0] == 0:
        raise UnknownIdError("no such run", field="--warm-start", value=from_run, way_out="see `immune runs`")
    if not engine.warm_start(stores.journal, from_run):
        _say(f"run {from_run} left no baselines that fit; only its memory of cures is taken over")


def _fast_forward(engine: Engine, first_us: int, warmup_s: int) -> None:
    """Learn from a healthy stretch of virtual time that ends when real time begins."""
    start_us = first_us - warmup_s * SECOND_US
    _say(f"fast-forwarding {warmup_s // 60} healthy minutes of virtual time, so that there is something to compare with")

    async def forward() -> None:
        engine.start(start_us)
        await engine.run(VirtualClock(start_us), first_us=start_us, until_us=first_us)

    run_virtual(forward())


async def _live(parts: Parts) -> None:
    engine, clock = parts.engine, SystemClock()
    reader = partial(SqliteJournal.open_read_only, parts.launch.settings.data_dir)
    api = Api(
        engine=engine,
        inbox=parts.inbox,
        keys=Keyring(parts.tokens, parts.people, clock.now_us),
        people=parts.people,
        gate=parts.gate,
        papers=documents,
        explain=explain,
        clock=clock,
        reader=reader,
        metrics=parts.panel.expose,
        surroundings=partial(_surroundings, parts),
    )
    parts.panel.sides.api, parts.panel.sides.companions = api.context, parts.companions
    server = await serve(api, port=parts.launch.settings.port, data_dir=parts.launch.settings.data_dir)
    try:
        await _serve(parts, api, server, clock)
    finally:
        await server.close()
        await _close(parts)


async def _close(parts: Parts) -> None:
    """Everything beside the engine. What fails is told: it must neither leave the rest open, nor be taken for a disk to stand in for."""
    closing = [*(companion.close() for companion in parts.companions), *(webhook.close() for webhook in parts.webhooks)]
    if parts.processes is not None:
        closing.append(parts.processes.close())
    for error in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(error, Exception):
            _say(f"something beside the engine could not be closed in order: {error}")


async def _serve(parts: Parts, api: Api, server: Server, clock: Clock) -> None:
    engine, launch = parts.engine, parts.launch
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, parts.stop.set)
    _recognise(parts)
    if engine.view is None:
        engine.start(clock.now_us())
    _bear_witness(parts, clock.now_us(), "started")
    if parts.processes is not None:
        levels = {agent.agent_id: agent.desired for agent in engine.state.agents.values()}
        for agent_id, trouble in (await parts.processes.start(levels)).items():
            _say(f"{agent_id}: {trouble}")
    if engine.executor is not None:
        await engine.executor.settle()
    if engine.learns_anew:
        _say("the baselines of this run are of another build: every agent is learned anew; containments and plans go on")
    _welcome(parts, server)
    until_us = None if launch.duration_s is None else parts.first_us + round(launch.duration_s * SECOND_US)

    def failed(failure: Failure) -> None:
        _say(f"{failure.child} failed ({failure.error}), restarting in {failure.restart_in_s:g} s")
        engine.failed(failure, clock.now_us())

    async def ticks() -> None:
        try:
            first_us = max(parts.first_us, _next_second(clock.now_us()))
            await engine.run(clock, first_us=first_us, until_us=until_us, stopped=parts.stop.is_set)
        except FencedError as fenced:
            parts.fatal = fenced
        parts.stop.set()

    parts.supervisor = supervisor = Supervisor(clock, failed)
    engine.on_tick = lambda now_us: _after_tick(parts, api, now_us)
    api.refresh_approvers()
    supervisor.start("ticks", ticks)
    for companion in parts.companions:
        supervisor.start(companion.name, companion.run)
    await parts.stop.wait()
    await supervisor.stop()
    if parts.fatal is None:
        await engine.finish(clock.now_us(), "stopped")
        _bear_witness(parts, clock.now_us(), "stopped")
        if engine.trouble:
            _say(f"the end is not on record: {engine.trouble}")
        _report(launch, "stopped", run_id=engine.run_id, ticks=engine.counters.ticks, events=engine.state.seq, head=engine.state.head)
        _say(f"stopped in order after {engine.counters.ticks} ticks; nothing was approved, healed or released by it")


def _surroundings(parts: Parts) -> dict[str, object]:
    """Children and companions for the status page."""
    children = parts.supervisor.children() if parts.supervisor is not None else []
    executor = parts.engine.executor
    return {
        "doubts": parts.doubts,
        "order_errors": executor.level_errors if executor is not None else {},
        "children": [
            {
                "name": one.name,
                "status": one.status,
                "failures": one.failures,
                "last_error": one.last_error,
                "since": iso(one.since_us),
                "next_start": iso(one.next_start_us) if one.status == "waiting" else None,
            }
            for one in children
        ],
        "companions": {companion.name: dict(companion.health()) for companion in parts.companions},
    }


def _after_tick(parts: Parts, api: Api, now_us: int) -> None:
    api.refresh_approvers()
    trouble = parts.engine.trouble
    if bool(trouble) != parts.troubled:
        parts.troubled = bool(trouble)
        _say(
            f"the journal cannot be written: {trouble}. What is contained stays contained, nothing new begins until it can"
            if trouble
            else "the journal takes events again; the outage is on record"
        )
    if now_us - parts.witnessed_us >= WITNESS_EVERY_US and not trouble:
        _bear_witness(parts, now_us, "running")


def _recognise(parts: Parts) -> None:
    """Say so when the journal is not the one that was here last: an older copy, a cut tail. What it contains is enforced all the same."""
    engine, doubts = parts.engine, parts.doubts
    if engine.broken is not None:
        doubts.append(f"the journal does not hold: {engine.broken}. What it contains is enforced; run `immune journal verify`")
    try:
        compare(engine.journal, engine.run_id, parts.witness.sightings(engine.run_id))
    except JournalBrokenError as found:
        seq, head = engine.journal.head(engine.run_id)
        doubts.append(f"older copy, or a cut one: run {engine.run_id} ends at seq {seq}, head {head}; {found.what} (seq {found.seq})")
    except StoreUnavailableError as error:
        doubts.append(f"nobody can tell whether the journal is whole: {error}")
    for doubt in doubts:
        _say(doubt)


def _bear_witness(parts: Parts, now_us: int, why: Why) -> None:
    """Note the head outside the journal; on standard error too when the daemon starts and stops, because logs are kept elsewhere."""
    engine = parts.engine
    seq, head = engine.state.seq, engine.state.head
    parts.witnessed_us = now_us
    if why != "running":
        _say(f"{why}: run {engine.run_id} at seq {seq}, head {head}")
    try:
        parts.witness.note(now_us, engine.run_id, seq, head, why)
    except StoreUnavailableError as error:
        _say(f"the head could not be witnessed: {error}")


def _welcome(parts: Parts, server: Server) -> None:
    data_dir = parts.launch.settings.data_dir
    _report(parts.launch, "started", url=server.url, run_id=parts.engine.run_id, data_dir=str(data_dir), policy=parts.engine.rules.version)
    _say(f"control API on {server.url}, token in {data_dir / 'admin.token'}")
    if not parts.engine.state.agents:
        _say("no agents yet; send vitals of one like this:")
        _say(
            f'  curl -X POST {server.url}/v1/vitals -H "Authorization: Bearer $(cat {data_dir / "admin.token"})" '
            '-H \'Content-Type: application/json\' -d \'{"samples": [{"agent": "writer-1", "latency_ms": 812, "output_tokens": 230}]}\''
        )


def _next_second(now_us: int) -> int:
    return -(-now_us // SECOND_US) * SECOND_US


def _say(text: str) -> None:
    sys.stderr.write(f"immune: {text}\n")
    sys.stderr.flush()


def _report(launch: Launch, happened: str, **facts: object) -> None:
    """One JSON line for programs that started the daemon."""
    if launch.as_json:
        sys.stdout.write(json.dumps({"happened": happened, **facts}) + "\n")
        sys.stdout.flush()
