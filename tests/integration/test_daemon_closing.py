"""What runs beside the engine may fail while it is closed: the rest is closed all the same, and the daemon ends."""

from __future__ import annotations

import asyncio
import os
import signal

from immune.core.policy import Policy
from immune.daemon import Extras, Launch, run_daemon
from immune.errors import StoreUnavailableError
from immune.settings import Settings


class Beside:
    """Asks the daemon to stop as soon as it runs, and notes that it was closed."""

    name = "beside"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = False

    async def run(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = self.error is None
        if self.error is not None:
            raise self.error

    def health(self):
        return {"trouble": ""}


def test_a_companion_that_fails_at_its_end_keeps_no_other_open_and_the_daemon_from_no_end(tmp_path, capsys):
    config = tmp_path / "immune.toml"
    config.write_text('[[process]]\nagent = "a-1"\nargv = ["sleep", "600"]\n')
    failing, other = Beside(StoreUnavailableError("the disk reports an error")), Beside()
    launch = Launch(settings=Settings(data_dir=tmp_path / "data", port=0), policy=Policy(), config=config)
    run_daemon(launch, lambda first_us, resumed: Extras(companions=(failing, other)))
    assert other.closed
    assert '"children": {}' in (tmp_path / "data" / "processes.json").read_text(), "its child was ended"
    said = capsys.readouterr().err
    assert "could not be closed in order: the disk reports an error" in said
    assert "nothing new is decided" not in said.lower(), "whoever was told to stop does not stand in"
