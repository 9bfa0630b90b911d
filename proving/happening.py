"""What each fault of a script does to a history: to the agents, the disk, the process, or by what people say."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from immune.clock import US
from immune.errors import WriterHeldError
from proving.auditor import Alarm, hold
from proving.commands import some_command
from proving.disk import Survives, Trouble
from proving.mortal import Fate
from proving.people import PEOPLE
from proving.script import Fault
from proving.setup import RUN, Process
from proving.world import MISHAPS, SAMPLE_MISHAPS, VITALS

if TYPE_CHECKING:
    from proving.history import History

TROUBLES: tuple[Trouble, ...] = ("full", "read_only", "sync_error", "slow")
SURVIVES: tuple[Survives, ...] = ("kept", "lost")


def happen(history: History, process: Process, fault: Fault) -> None:
    """Let a fault happen. Raises Alarm where it shows a breach."""
    world, a, b = history.world, fault.a, fault.b
    patient = world.patients[a % len(world.patients)]
    match fault.what:
        case "sick":
            patient.ratio, patient.vital = (1.4, 3.0, 8.0, 30.0)[b % 4], VITALS[fault.c % len(VITALS)]
        case "well":
            patient.ratio = 1.0
        case "obey":
            patient.obeys = not patient.obeys
        case "outage":
            world.outage = not world.outage
        case "join":
            world.enrolled = len(world.patients)
        case "hand":
            world.mishaps.extend([MISHAPS[a % len(MISHAPS)]] * (1 + b % 2))
        case "sample":
            world.sample_mishaps.append(SAMPLE_MISHAPS[a % len(SAMPLE_MISHAPS)])
        case "burst":
            rows = [{"agent": f"ghost-{n}", "output_tokens": 300} for n in range(30)]
            process.inbox.offer(rows, process.clock.now_us())
        case "roles":
            name = ("ann", "bob")[a % 2]
            history.keys.held[name] = ("approver", "viewer", "approver")[b % 3]
        case "disk":
            history.until(process, 2 + b % 10, lambda: setattr(history.disk, "trouble", ""))
            history.disk.trouble = TROUBLES[a % len(TROUBLES)]
            history.auditor.excused_us += 12 * US
        case "telemetry":
            history.until(process, 2 + b % 20, lambda: setattr(history.telemetry, "broken", False))
            history.telemetry.broken = True
        case "stall":
            history.suspend((2.0, 7.0, 60.0, 3600.0)[a % 4])
        case "second":
            _a_second_daemon(history)
        case _:
            _to_the_process(history, process, fault)


def _to_the_process(history: History, process: Process, fault: Fault) -> None:
    match fault.what:
        case "say":
            history.spawn(process, _say(history, process, fault))
        case "agree":
            history.spawn(process, _agree(history, process, fault))
        case "crash":
            history.doom(process, fault)
            history.down_s = (0, 0, 1, 5, 40)[fault.c % 5]
            history.disk.survives = SURVIVES[fault.b % 2]
            if fault.c % 7 == 0:
                history.doomed = fault
        case "restart":
            process.orderly = True
            history.down_s = (0, 5)[fault.a % 2]
            history.turn_clock((0, 0, 3600, -3600)[fault.b % 4] * US)
        case "take_over":
            history.take_overs += 1
            process.life.pause()


def _a_second_daemon(history: History) -> None:
    try:
        history.build_journal(history.disk, Fate()).acquire(RUN, "second", history.world.now_us)
    except WriterHeldError:
        return
    raise Alarm("I28", "a second writer was let in")


async def _agree(history: History, process: Process, fault: Fault) -> None:
    """Somebody decides what waits; now and then several at once."""
    state = process.engine.state
    if not state.open_approvals:
        return
    request = state.approvals[state.open_approvals[fault.a % len(state.open_approvals)]]
    path = f"/v1/approvals/{request.request_id}/decision"
    body = {"decision": "approve" if fault.b % 4 else "reject", "reason": "because", "plan_hash": request.plan_hash}
    names = ("ann", "bob", "a-0", "ann") if fault.c % 3 == 0 else (("ann", "bob")[fault.c % 2],)
    answers = await asyncio.gather(*(history.desk.ask(process.application, history.desk.wish(name, "POST", path, body)) for name in names))
    hold(sum(status == 200 for status, _ in answers) <= 1, "I15", "two people won the same decision")


async def _say(history: History, process: Process, fault: Fault) -> None:
    rng = random.Random(f"{fault.a}/{fault.b}/{fault.c}")
    who = PEOPLE[fault.a % len(PEOPLE)][0]
    method, path, body = some_command(process.engine.state, rng, process.clock.now_us())
    wish = history.desk.wish(who, method, path, body)
    status, _ = await history.desk.ask(process.application, wish)
    if fault.b % 5 == 0 and status < 500:
        await history.desk.ask(process.application, wish)  # the same again, as a client does that never got the answer
