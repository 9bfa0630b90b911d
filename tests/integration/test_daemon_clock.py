"""F23: the clock goes back an hour while the daemon is down. What is contained stays contained, and nobody becomes invisible."""

from __future__ import annotations

import numpy as np
import pytest

from tests.integration.daemon_kit import US, HandClock, daemon

HOUR_US = 3600 * US


async def report(made, times: int) -> None:
    for n in range(times):
        await made.vitals(*[{"agent": name, "latency_ms": 100 + (n * 7 + len(name)) % 11} for name in ("b", "cc")])
        await made.tick()


@pytest.mark.fault("F23")
async def test_after_a_restart_with_a_clock_an_hour_back_agents_are_seen_contained_and_not_silent(tmp_path):
    async with daemon(tmp_path, on_disk=True) as made:
        await made.vitals({"agent": "a", "latency_ms": 100})
        await report(made, 60)
        assert (await made.ask("POST", "/v1/agents/a/contain", {"level": "isolated", "reason": "by hand"})).status == 200
        await made.tick()
        stopped_us = made.clock.at_us
    async with daemon(tmp_path, on_disk=True, clock=HandClock(stopped_us - HOUR_US)) as made:
        assert (await made.ask("GET", "/v1/gate/a")).document["allowed"] is False
        await report(made, 60)
        assert made.engine.counters.rejected.get("late", 0) == 0, "samples of now are not late for an hour"
        assert made.engine.counters.samples >= 118
        state = made.engine.state
        assert (state.agents["b"].liveness, state.agents["b"].health) == ("working", "healthy")
        assert state.agents["a"].desired == "isolated"
        assert np.isfinite(made.engine.view.assessment.nats).all()
        assert (await made.ask("POST", "/v1/agents/a/release", {"reason": "mended"})).status == 200
        assert made.engine.journal.verify("run-1") == made.engine.state.seq
