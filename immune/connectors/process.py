"""Holds and restarts child processes that it started itself: one agent, one child, on the same machine.

How each level is made real, and why so:

none        the child goes on (SIGCONT); one that was evicted is started anew
throttled   a beat: runs `BEAT_RUN_S`, is stopped `BEAT_HOLD_S`. A lower priority (nice) would do nothing for an agent
            that mostly waits for a model; stopped time slows whatever it does. The stops are short, so that open
            connections outlive them.
restricted  a signal cannot take tools away: left to the gate, if the agent asks one; `unsupported` without
isolated    all of the session is stopped (SIGSTOP). It stays so when the daemon dies.
evicted     SIGTERM, then SIGKILL after a grace. A child that is held is killed outright: its own clean-up code is work,
            and an isolated agent does none.

Canary work cannot be counted from outside, so it is bounded in time: `seconds_per_dispatch` for each dispatch in one
stretch (stop and go for each would break open connections), then stopped again; one that was evicted is started for the
stretch and ended after it.

What is observed is read from the process table each time, never remembered from what was ordered. A process that leaves
its session *and* its parents is out of reach; run such programs in a container and give that one's client as `argv`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from immune.connectors.child import Child
from immune.connectors.proctable import Seen, boot_id, family, look, signal_exactly
from immune.core.events import LEVELS, Level
from immune.errors import InputError, UnreachableError
from immune.ports import Answer, Bound, Connector

log = logging.getLogger("immune.connectors")

BEAT_RUN_S = 1.0
BEAT_HOLD_S = 2.0
ANSWERS_KEPT = 10_000
EARLY_S = 0.1
"""A program that ends within this of its start did not start."""

RESTARTS = frozenset({"restart_agent", "reset_agent", "replace_agent"})
OURS = ("IMMUNE_", "INFLUXDB_", "OTEL_")
"""Variables of the daemon that no agent needs, and that hold its secrets."""

ISOLATED = LEVELS.index("isolated")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to start one agent. `env` is added to the daemon's environment, without the daemon's own settings in it.

    cwd                   where it starts; the daemon's own directory for None
    log                   file that its output is added to; None: thrown away
    grace_s               time from SIGTERM to SIGKILL
    seconds_per_dispatch  how long one canary dispatch may take
    """

    agent_id: str
    argv: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    log: Path | None = None
    grace_s: float = 3.0
    seconds_per_dispatch: float = 1.0


@dataclass(slots=True, kw_only=True)
class _Hand:
    """What is held of one agent. `wanted` is the level ordered last; `watch` is the beat or the canary stretch."""

    spec: ProcessSpec
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    child: Child | None = None
    wanted: Level = "none"
    watch: asyncio.Task[None] | None = None
    beat_held: bool = False
    canary: bool = False


class ProcessConnector:
    """Starts and owns one child per spec.

    specs   the agents; an id may occur once
    gate    told every level too, and the one that carries out `restricted`
    ledger  file that remembers the children of this daemon, so that the next one ends what a killed one left behind

    Use: ``await start()`` once, ``await close()`` at the end, which ends every child.
    """

    name = "process"

    def __init__(self, specs: Iterable[ProcessSpec], *, gate: Connector | None = None, ledger: Path | None = None) -> None:
        self._hands: dict[str, _Hand] = {}
        for spec in specs:
            if spec.agent_id in self._hands:
                raise InputError("two processes for one agent", field="process.agent_id", value=spec.agent_id, way_out="give each its own id")
            self._hands[_checked(spec).agent_id] = _Hand(spec=spec)
        self._gate = gate
        self._ledger = ledger
        self._begun = False
        self._epoch = 0
        self._answered: OrderedDict[str, Answer] = OrderedDict()

    @property
    def agents(self) -> tuple[str, ...]:
        """Who is started here."""
        return tuple(self._hands)

    def pid(self, agent_id: str) -> int | None:
        """The process number of an agent's child, None if none runs."""
        child = self._hands[agent_id].child
        return child.pid if child is not None and not child.leader_ended() else None

    async def start(self, levels: Mapping[str, Level] | None = None) -> dict[str, str]:
        """Start every child, at its level from the first instruction on (`levels`: what the journal says is desired).

        Children that an earlier daemon left behind are ended first. The answer names those that did not start, with the
        reason: one broken agent must not keep the others unwatched. Raises UnreachableError where there is no `/proc`.
        """
        if not sys.platform.startswith("linux"):
            raise UnreachableError("child processes are held through /proc", field="process", value=sys.platform, way_out="use Linux, or the gate")
        await self._end_leftovers()
        self._begun = True
        failed: dict[str, str] = {}
        for agent_id, hand in self._hands.items():
            hand.wanted = (levels or {}).get(agent_id, "none")
            try:
                async with hand.lock:
                    await self._bring(hand)
            except UnreachableError as error:
                failed[agent_id] = str(error)
        return failed

    async def close(self) -> None:
        """End every child. What is held is not let go first."""
        await asyncio.gather(*(self._close(hand) for hand in self._hands.values()))
        self._remember()

    def bounds(self) -> Sequence[Bound]:
        """Answers that are remembered, so that an order that comes twice is carried out once."""
        return (Bound(name="process.answers", size=len(self._answered), limit=ANSWERS_KEPT),)

    def knows(self, agent_id: str) -> bool:
        """Whether it is a child of ours."""
        return agent_id in self._hands

    def can(self, agent_id: str, action: str) -> bool:
        """Stop a child and start it again, in whatever sense the action means it."""
        return agent_id in self.agents and action in RESTARTS

    async def contain(self, agent_id: str, level: Level, *, epoch: int) -> Answer:
        """Make a level real; `succeeded` only when the process table shows it (for `restricted`: when the gate was told)."""
        if not self._fence(epoch):
            return OUTDATED
        if not self._begun:
            return Answer(outcome="failed", detail="nothing is started yet")
        hand = self._hands[agent_id]
        async with hand.lock:
            if self._gate is not None:
                await self._gate.contain(agent_id, level, epoch=epoch)
            if level == "restricted" and self._gate is None:
                return Answer(outcome="unsupported", detail="a signal cannot take tools away; let the agent ask its gate")
            hand.wanted = level
            try:
                await self._bring(hand)
            except UnreachableError as error:
                return Answer(outcome="failed", detail=str(error))
            if level == "restricted" or self.observed(agent_id) == level:
                return Answer(outcome="succeeded")
            return Answer(outcome="failed", detail=f"signalled, but not all of it obeyed: {self._moving(hand)}")

    def observed(self, agent_id: str) -> Level | None:
        """The level as the process table shows it now; None before the start."""
        hand = self._hands[agent_id]
        if hand.canary and _running(hand.watch):
            # half open: held but for a stretch that ends by itself
            return hand.wanted
        if hand.child is None:
            return "evicted" if hand.wanted == "evicted" else None
        alive = hand.child.everyone()
        if not alive:
            # whatever is not there does no work: held as strictly as was asked, and free if nothing was
            return hand.wanted
        if hand.wanted == "throttled":
            return "throttled" if hand.beat_held and _running(hand.watch) else "none"
        if all(seen.still for seen in alive):
            return "isolated"
        if hand.wanted == "restricted" and self._gate is not None:
            return self._gate.observed(agent_id)
        return "none"

    async def allow(self, agent_id: str, dispatches: int, *, epoch: int) -> Answer:
        """Let it run for `dispatches` times `seconds_per_dispatch`, then hold it again."""
        if not self._fence(epoch):
            return OUTDATED
        hand = self._hands[agent_id]
        async with hand.lock:
            if LEVELS.index(hand.wanted) < ISOLATED:
                return Answer(outcome="failed", detail="only an isolated agent does canary work")
            if self._gate is not None:
                await self._gate.allow(agent_id, dispatches, epoch=epoch)
            await self._unwatch(hand)
            seconds = max(0, dispatches) * hand.spec.seconds_per_dispatch
            try:
                if hand.child is None:
                    await self._begin(hand, held=True)
            except UnreachableError as error:
                return Answer(outcome="failed", detail=str(error))
            if hand.child is None or hand.child.gone():
                return Answer(outcome="failed", detail="nothing of it runs any more; restart it")
            hand.canary = True
            hand.watch = asyncio.create_task(self._canary(hand, hand.child, seconds))
            return Answer(outcome="succeeded", detail=f"runs for {seconds:g} s")

    async def perform(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """Stop and start again, at the level that is in force; anything else is beyond a signal."""
        if not self._fence(epoch):
            return OUTDATED
        if action not in RESTARTS:
            return Answer(outcome="unsupported", detail=f"a process can be restarted; {action.replace('_', ' ')} needs the agent's own help")
        hand = self._hands[agent_id]
        async with hand.lock:
            # within the lock, so that a repeat that comes while the first is under way waits for its answer
            if key not in self._answered:
                self._answered[key] = await self._restart(hand)
                while len(self._answered) > ANSWERS_KEPT:
                    self._answered.popitem(last=False)
            return self._answered[key]

    async def compensate(self, agent_id: str, action: str, *, key: str, epoch: int) -> Answer:
        """What ran is gone: a restart cannot be undone."""
        if not self._fence(epoch):
            return OUTDATED
        return Answer(outcome="unsupported", detail=f"{action.replace('_', ' ')} of a process cannot be undone")

    # -- levels --------------------------------------------------------------------------------------------------------

    async def _bring(self, hand: _Hand) -> None:
        """Make `wanted` real."""
        await self._unwatch(hand)
        if hand.wanted == "evicted":
            await self._end(hand)
            return
        held = hand.wanted in ("throttled", "isolated")
        child = hand.child or await self._begin(hand, held=held)
        if held:
            stopped = await child.stop()
        else:
            child.go_on()
            await child.until(lambda: not _all_stopped(child))
            return
        if hand.wanted == "throttled":
            # the beat begins with a stop, so that it is seen to hold before anybody is told so
            hand.beat_held = stopped
            hand.watch = asyncio.create_task(self._beat(hand, child))

    async def _beat(self, hand: _Hand, child: Child) -> None:
        while not child.gone():
            await asyncio.sleep(BEAT_HOLD_S)
            child.go_on()
            await asyncio.sleep(BEAT_RUN_S)
            hand.beat_held = await child.stop()

    async def _canary(self, hand: _Hand, child: Child, seconds: float) -> None:
        try:
            child.go_on()
            await asyncio.sleep(seconds)
        finally:
            await child.stop()
            if hand.wanted == "evicted":
                with contextlib.suppress(UnreachableError):  # what is still there is seen by whoever looks
                    await self._end(hand)
            hand.canary = False

    async def _unwatch(self, hand: _Hand) -> None:
        watch, hand.watch = hand.watch, None
        hand.beat_held = hand.canary = False
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def _moving(self, hand: _Hand) -> str:
        moving = [str(seen.pid) for seen in (hand.child.everyone() if hand.child else []) if not seen.still]
        return "still running: pid " + ", ".join(moving[:5]) if moving else "nothing runs"

    # -- life and death ------------------------------------------------------------------------------------------------

    async def _restart(self, hand: _Hand) -> Answer:
        await self._unwatch(hand)
        try:
            await self._end(hand)
            await self._bring(hand)
        except UnreachableError as error:
            return Answer(outcome="failed", detail=str(error))
        return Answer(outcome="succeeded", detail="ended; it begins anew when it is let go" if hand.wanted == "evicted" else "ended and begun anew")

    async def _begin(self, hand: _Hand, *, held: bool) -> Child:
        spec = hand.spec
        hand.child = child = await Child.start(spec.argv, env=environment(spec), cwd=spec.cwd, log=spec.log, held=held)
        self._remember()
        if not held and await child.until(child.leader_ended, EARLY_S):
            code = await child.end(grace_s=0.0)
            hand.child = None
            raise UnreachableError(f"it ended at once with exit code {code}", field="argv", value=spec.argv[0], way_out="see its log")
        return child

    async def _end(self, hand: _Hand) -> None:
        child = hand.child
        if child is None:
            return
        if await child.end(grace_s=0.0 if _all_stopped(child) else hand.spec.grace_s) is None:
            raise UnreachableError("it does not end even when killed", field="pid", value=child.pid, way_out="see what it waits for in the kernel")
        hand.child = None
        self._remember()

    async def _close(self, hand: _Hand) -> None:
        async with hand.lock:
            await self._unwatch(hand)
            with contextlib.suppress(UnreachableError):
                await self._end(hand)

    def _fence(self, epoch: int) -> bool:
        self._epoch = max(self._epoch, epoch)
        return epoch == self._epoch

    # -- what a killed daemon leaves behind ----------------------------------------------------------------------------

    def _remember(self) -> None:
        if self._ledger is None:
            return
        living = {agent_id: [hand.child.pid, hand.child.started] for agent_id, hand in self._hands.items() if hand.child is not None}
        draft = self._ledger.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"boot": boot_id(), "children": living}) + "\n", encoding="utf-8")
            draft.replace(self._ledger)
        except OSError as error:
            # holding and ending the children goes on: a disk that takes nothing must not set them free
            log.warning("the children could not be noted in %s (%s): if this daemon is killed, the next one does not find them", self._ledger, error)

    async def _end_leftovers(self) -> None:
        """End children of a daemon that was killed: same boot, same number, same start time, leader of its session."""
        for pid, started in self._leftovers():
            await _end_orphan(pid, started)
        self._remember()

    def _leftovers(self) -> list[tuple[int, int]]:
        if self._ledger is None or not self._ledger.exists():
            return []
        try:
            content = json.loads(self._ledger.read_text(encoding="utf-8"))
            return [(int(pid), int(started)) for pid, started in content["children"].values()] if content["boot"] == boot_id() else []
        except (ValueError, KeyError, TypeError, AttributeError):
            # torn by the same crash: nobody can be named, and nobody is signalled on a guess
            return []


OUTDATED = Answer(outcome="failed", detail="a newer writer gives the orders")


async def _end_orphan(pid: int, started: int) -> None:
    """End a process and what belongs to it, if it is still the one that was started under this number."""

    def members() -> list[Seen]:
        seen = look(pid)
        same = seen is not None and seen.started == started and seen.session == pid
        return [member for member in family(pid) if not member.dead] if same else []

    for _ in range(200):
        alive = members()
        if not alive:
            return
        for member in alive:
            signal_exactly(member, signal.SIGKILL)
        await asyncio.sleep(0.01)


def _running(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done()


def _all_stopped(child: Child) -> bool:
    alive = child.everyone()
    return bool(alive) and all(seen.still for seen in alive)


def environment(spec: ProcessSpec, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a child: the daemon's without its own settings and secrets, and those of the spec."""
    given = os.environ if inherited is None else inherited
    return {**{name: value for name, value in given.items() if not name.startswith(OURS)}, **spec.env}


def _checked(spec: ProcessSpec, find: Callable[..., str | None] = shutil.which) -> ProcessSpec:
    if not spec.argv:
        raise InputError("nothing to start", field="process.argv", value=spec.agent_id, way_out='for example argv = ["python", "agent.py"]')
    # looked up before anything starts: a program that begins stopped would show only later that it is not there
    where = environment(spec).get("PATH")
    program = str(spec.cwd / spec.argv[0]) if spec.cwd and os.sep in spec.argv[0] else spec.argv[0]
    if find(program, path=where) is None:
        raise InputError("no such program", field="process.argv", value=spec.argv[0], way_out="give a path, or a name that is on PATH")
    if spec.cwd is not None and not spec.cwd.is_dir():
        raise InputError("no such directory", field="process.cwd", value=str(spec.cwd), way_out="make it, or name another")
    return spec
