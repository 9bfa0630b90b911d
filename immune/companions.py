"""What runs beside the engine: each companion is built here from the settings, and supervised by the daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from immune.bootstrap import Stores
from immune.clock import Clock
from immune.core.policy import Policy
from immune.ports import Companion
from immune.runtime.engine import Engine
from immune.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a companion may be built from."""

    settings: Settings
    policy: Policy
    engine: Engine
    stores: Stores
    clock: Clock
    say: Callable[[str], None]


BUILDERS: tuple[Callable[[Beside], Companion | None], ...] = ()
"""One per kind of companion; None where the settings do not ask for it."""


def companions(beside: Beside) -> list[Companion]:
    """The companions that the settings ask for."""
    return [companion for build in BUILDERS if (companion := build(beside)) is not None]
