"""Old runs leave the journal by themselves: archived, checked, then deleted, by the policy's age. What is written or taken up again stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from immune.clock import Clock
from immune.errors import ImmuneError
from immune.stores.archive import FOLDER, SUFFIX, put_away
from immune.stores.journal_sqlite import SqliteJournal

US = 1_000_000
FIRST_AFTER_S = 120.0
EVERY_S = 6 * 3600.0


class Retention:
    """A companion that looks a few times a day. `age_s` counts from a run's last event; the work is done in a thread."""

    name = "retention"

    def __init__(self, data_dir: Path, clock: Clock, *, age_s: float, say: Callable[[str], None]) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self.age_s = age_s
        self.say = say
        self.archived = 0
        self.trouble = ""

    async def run(self) -> None:
        """Look until cancelled."""
        await self.clock.sleep_until_us(self.clock.now_us() + round(FIRST_AFTER_S * US))
        while True:
            await asyncio.to_thread(self.put_old_runs_away, self.clock.now_us())
            await self.clock.sleep_until_us(self.clock.now_us() + round(EVERY_S * US))

    async def close(self) -> None:
        """Nothing to finish: a run that is not whole in its archive is still in the journal."""

    def health(self) -> Mapping[str, str | int | float | bool]:
        """How many runs were put away, and what kept one from it."""
        return {"trouble": self.trouble, "archived": self.archived, "age_days": round(self.age_s / 86_400, 2)}

    def put_old_runs_away(self, now_us: int) -> list[str]:
        """Archive every run that is old enough and may go; their ids. What fails is told, and tried again next time."""
        done: list[str] = []
        self.trouble = ""
        for run_id in self._old(now_us):
            try:
                put_away(self.data_dir, run_id, self.data_dir / FOLDER / (run_id + SUFFIX), now_us)
            except ImmuneError as error:
                self.trouble = f"{run_id} could not be put away: {error}"
                continue
            done.append(run_id)
            self.archived += 1
            self.say(f"run {run_id} is older than {self.age_s / 86_400:g} days: archived in {FOLDER}/ and deleted from the journal")
        return done

    def _old(self, now_us: int) -> list[str]:
        """Runs past their age but for the newest: it is the one that is written, or would be taken up again."""
        try:
            with SqliteJournal.open_read_only(self.data_dir) as journal:
                runs = journal.runs()
        except ImmuneError as error:
            self.trouble = str(error)
            return []
        newest_live = next((run.run_id for run in runs if run.run_id.startswith("live-")), None)
        return [run.run_id for run in runs[1:] if run.last_at_us < now_us - round(self.age_s * US) and run.run_id != newest_live]
