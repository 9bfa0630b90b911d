"""What every history is set up with: a hasty policy, quick actions, measurements that fail now and then, and one life of the daemon."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from immune.actions import ACTIONS
from immune.clock import VirtualClock
from immune.connectors.gate import GateConnector
from immune.core.policy import ApprovalsPolicy, ContainmentPolicy, DetectionPolicy, HealingPolicy, LimitsPolicy, Policy
from immune.core.vitals import SampleBatch
from immune.errors import StoreUnavailableError
from immune.infections import CATALOGUE
from immune.runtime.engine import Engine
from immune.sources.ingest import IngestSource
from immune.stores.memory import MemoryTelemetry
from proving.mortal import Life
from proving.world import Hands

RUN = "r-1"
QUICK_ACTIONS = {action.name: replace(action, timeout_s=3.0) for action in ACTIONS}
FEW_KINDS = tuple(kind for kind in CATALOGUE if kind.kind == "token_explosion")
POLICY = Policy(
    mode="act",
    detection=DetectionPolicy(close_after_s=5.0),
    containment=ContainmentPolicy(enforce_within_s=2.0, cap_at_least=2, override_for_s=15.0),
    healing=HealingPolicy(
        settle_s=0.0,
        plan_deadline_s=60.0,
        plans_at_once=2,
        probation_samples=5,
        probation_timeout_s=15.0,
        relapse_window_s=60.0,
        action_window_s=30.0,
        task_deadline_s=10.0,
    ),
    approvals=ApprovalsPolicy(severity_at=3.5, expire_after_s=12.0, undo_window_s=2.0),
    limits=LimitsPolicy(enrolments_at_once=12, enrolments_per_s=1.0, max_agents=24, telemetry_queue_ticks=8),
)


class FickleTelemetry(MemoryTelemetry):
    """Measurements that are refused now and then."""

    broken = False

    def write(self, run_id: str, tick: int, now_us: int, batch: SampleBatch) -> None:
        """Store, or refuse."""
        if self.broken:
            raise StoreUnavailableError("no space left", field="telemetry")
        super().write(run_id, tick, now_us, batch)


@dataclass(kw_only=True)
class Process:
    """One life of the daemon and what only it knows."""

    life: Life
    engine: Engine
    inbox: IngestSource
    hands: Hands
    gate: GateConnector
    clock: VirtualClock
    skew_us: int
    began_us: int
    epoch: int = 0
    orderly: bool = False
    fenced: bool = False
    started: bool = False
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    application: web.Application = field(default_factory=web.Application)

    @property
    def true_us(self) -> int:
        """The time outside."""
        return self.began_us + self.life.loop._virtual_us
