"""Run as a program: a journal whose disk refuses every fsync from a moment on, by order of the kernel (a seccomp filter, which needs no rights).

Says on standard output what was acknowledged: ``acknowledged N`` lines, then ``refused: …`` for each append that the disk did not confirm.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from pathlib import Path

from immune.core import events as ev
from immune.core.events import Draft
from immune.errors import StoreUnavailableError
from immune.stores.journal_sqlite import SqliteJournal

SYNCS = {"x86_64": (74, 75), "aarch64": (82, 83)}
"""Numbers of fsync and fdatasync."""
NOT_HERE = 77
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_syncs() -> None:
    """From now on fsync and fdatasync fail with EIO for this thread, and nothing can take that back."""
    fsync, fdatasync = SYNCS[platform.machine()]
    code = b"".join(
        struct.pack("HBBI", *one)
        for one in (
            (LOAD, 0, 0, 0),  # the number of the system call
            (JUMP_IF_EQUAL, 1, 0, fsync),
            (JUMP_IF_EQUAL, 0, 1, fdatasync),
            (RETURN, 0, 0, ERRNO | errno.EIO),
            (RETURN, 0, 0, ALLOW),
        )
    )
    kept = ctypes.create_string_buffer(code)
    program = _Program(5, ctypes.cast(kept, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        sys.exit(NOT_HERE)


def draft(number: int) -> Draft:
    return Draft(at_us=number, subject=f"a-{number}", event=ev.AgentEnrolled(index=number, type="t", service="s"))


def main(folder: Path) -> None:
    if platform.machine() not in SYNCS:
        sys.exit(NOT_HERE)
    journal = SqliteJournal(folder)
    epoch = journal.acquire("r", "one", 0)
    for number in range(5):
        journal.append("r", [draft(number)], expected_seq=number, epoch=epoch)
        print("acknowledged", number + 1, flush=True)
    refuse_syncs()
    for _ in range(10):
        try:
            journal.append("r", [draft(5)], expected_seq=5, epoch=epoch)
            print("acknowledged", 6, flush=True)
        except StoreUnavailableError as error:
            print("refused:", error, "| head", journal.head("r")[0], flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
