"""A journal on a disk that can be full, slow, or lie about what it synced, under processes that die while they write.

One transaction is all or nothing, as the store's own log makes it (torn logs of the real store: tests/integration/test_wal_damage.py).
What was written and not synced is kept, lost or torn at a crash; what was acknowledged must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from immune.core.events import Draft, Envelope
from immune.errors import StoreUnavailableError
from immune.stores.memory import MemoryJournal
from proving.mortal import Fate

Trouble = Literal["", "full", "read_only", "sync_error", "slow"]
Survives = Literal["kept", "lost"]


class Disk:
    """What outlives a process: the content, the lock, and who was told what."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.trouble: Trouble = ""
        self.survives: Survives = "lost"
        self.synced = 0
        self.acknowledged: list[Envelope] = []
        self.unsynced: list[Envelope] = []
        self.on_synced: Callable[[Sequence[Envelope]], None] = lambda envelopes: None
        self.stall: Callable[[float], None] = lambda seconds: None

    def envelopes(self, run_id: str) -> list[Envelope]:
        """Everything in the file of a run."""
        return list(self.journal.read(run_id))

    def crash(self, run_id: str) -> list[Envelope]:
        """A process died. What it had written and not synced survives or not; what comes out survived unheard of."""
        chain = self.journal._shelf.chains.get(run_id)
        survivors: list[Envelope] = []
        if chain is not None:
            written = [one for one in self.unsynced if one.seq > len(chain.envelopes)]
            if self.survives == "lost":
                del chain.envelopes[self.synced :]
            elif written and written[0].seq == len(chain.envelopes) + 1 and written[0].prev_hash == chain.head()[1]:
                chain.envelopes.extend(written)  # refused by the disk, and there all the same
            survivors = chain.envelopes[self.synced :]
            self.synced = len(chain.envelopes)
        self.unsynced = []
        return survivors

    def epoch(self, run_id: str) -> int:
        """The newest fencing epoch."""
        chain = self.journal._shelf.chains.get(run_id)
        return chain.epoch if chain is not None else 0


class DiskJournal(MemoryJournal):
    """One process's handle on a disk."""

    syncs = True
    """Whether it waits for the disk before it acknowledges; a journal that does not is for finding out who notices."""

    def __init__(self, disk: Disk, fate: Fate) -> None:
        super().__init__()
        self._shelf = disk.journal._shelf
        self.disk = disk
        self.fate = fate

    def append(self, run_id: str, drafts: Sequence[Draft], *, expected_seq: int, epoch: int) -> list[Envelope]:
        """Write, sync, acknowledge; any of it may be the last thing that happens."""
        if not drafts:
            return []
        disk = self.disk
        self.fate.passes("write")
        self._checked(run_id, epoch)
        self._refuse_if_no_room()
        sealed = super().append(run_id, drafts, expected_seq=expected_seq, epoch=epoch)
        disk.unsynced = list(sealed)
        if disk.trouble == "slow":
            disk.stall(0.7)
        self.fate.passes("sync")
        if disk.trouble == "sync_error":
            del self._shelf.chains[run_id].envelopes[expected_seq:]
            raise StoreUnavailableError("the disk reports an error", field="journal.db", way_out="check the disk")
        if self.syncs:
            disk.synced = sealed[-1].seq
            disk.unsynced = []
            disk.on_synced(sealed)
        self.fate.passes("ack")
        disk.acknowledged += sealed
        return sealed

    def save_snapshot(self, run_id: str, seq: int, name: str, content: bytes, *, epoch: int) -> None:
        """Keep it, unless there is no room."""
        self.fate.passes("write")
        self._checked(run_id, epoch)
        self._refuse_if_no_room()
        super().save_snapshot(run_id, seq, name, content, epoch=epoch)

    def confirm(self, run_id: str, epoch: int) -> None:
        """As every journal."""
        if not self.fate.alive:
            return
        super().confirm(run_id, epoch)

    def _refuse_if_no_room(self) -> None:
        if self.disk.trouble in ("full", "read_only"):
            what = "the disk is full" if self.disk.trouble == "full" else "the store cannot be written"
            raise StoreUnavailableError(what, field="journal.db", way_out="free some space")
