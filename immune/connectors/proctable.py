"""What the kernel says of processes: who belongs to a session, and whether they are stopped. Linux `/proc` only."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

STILL = frozenset("TtZXx")
"""States in which a process executes nothing: stopped, traced, zombie, dead (proc(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One line of the process table. `state` is the letter of proc(5), `started` is in clock ticks since boot."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: int

    @property
    def still(self) -> bool:
        """Whether it executes nothing."""
        return self.state in STILL

    @property
    def dead(self) -> bool:
        """Whether it only waits to be reaped."""
        return self.state in "ZXx"


def look(pid: int) -> Seen | None:
    """One process, or None when there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - called for every process of the machine
            line = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name in brackets may hold anything, brackets and blanks included; what follows the last one is figures
    fields = line[line.rindex(b")") + 2 :].split()
    return Seen(pid=pid, state=fields[0].decode(), parent=int(fields[1]), group=int(fields[2]), session=int(fields[3]), started=int(fields[19]))


def family(leader: int) -> list[Seen]:
    """Everyone who belongs to `leader`: its session and the descendants of that, dead ones included."""
    everyone = [seen for name in os.listdir("/proc") if name.isdigit() and (seen := look(int(name))) is not None]  # noqa: PTH208 - names only
    found = {seen.pid: seen for seen in everyone if leader in (seen.pid, seen.session, seen.group)}
    grew = True
    while grew:
        kin = [seen for seen in everyone if seen.parent in found and seen.pid not in found]
        found.update((seen.pid, seen) for seen in kin)
        grew = bool(kin)
    return list(found.values())


def signal_exactly(seen: Seen, number: signal.Signals) -> None:
    """Signal the very process that was seen; nobody, when its number has gone to another since."""
    try:
        handle = os.pidfd_open(seen.pid)
    except ProcessLookupError:
        return
    try:
        now = look(seen.pid)
        if now is not None and now.started == seen.started:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        # ended, or runs as another user: what came of it is seen by looking, not by this call
        return
    finally:
        os.close(handle)


def boot_id() -> str:
    """What tells this boot from others: process numbers and start times mean nothing beyond it."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
        return file.read().strip()
