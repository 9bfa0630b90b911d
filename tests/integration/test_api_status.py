"""The status page: how the daemon itself is doing, and how full everything is that outsiders could fill."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from immune.api.status import status_document
from immune.core.events import iso
from immune.core.policy import LimitsPolicy, Policy
from immune.daemon import _surroundings
from immune.runtime.supervisor import Supervisor
from tests.integration.daemon_kit import US, daemon, open_incident, with_limits

KEYED_FROM_OUTSIDE = {
    "api.buckets_of_failures", "api.buckets_of_refusals", "api.buckets_of_requests", "api.receipts", "api.stream_clients", "api.stream_events",
    "engine.notes", "executor.errors", "executor.waiting_orders", "gate.canary", "gate.told", "ingest.enrolments", "ingest.queue_samples",
    "lexicon.words", "login.buckets_of_addresses", "login.buckets_of_names", "login.waiting", "mirror.cohorts", "mirror.probations",
    "login.sessions",
    "otlp.senders", "otlp.series", "otlp.turns", "roster.agents", "roster.services", "roster.types", "sentinel.curves", "state.answers",
    "state.approvals", "state.containments", "state.failed_here",
    "state.incidents", "state.memory", "state.plans", "state.tasks", "telemetry.queue_ticks",
}  # fmt: skip


async def test_the_status_says_how_the_daemon_is_doing_and_no_secret(tmp_path):
    async with daemon(tmp_path) as made:
        await made.vitals({"agent": "a"})
        await made.tick(3)
        answer = await made.ask("GET", "/v1/status", who="viewer")
        found = answer.document
        assert found["troubles"] == []
        assert found["ticks"]["done"] == 3
        assert found["journal"]["writable"] is True
        assert found["journal"]["head"] == made.engine.state.head
        assert found["fleet"]["agents"] == 1
        assert {"name": "approver", "role": "approver"} in found["who_may_speak"]
        assert not [token for token in made.token.values() if token.split("_", 2)[2] in answer.text]
        assert (await made.ask("GET", "/v1/status", who="agent")).status == 403


async def test_troubles_come_as_sentences(tmp_path):
    around = {
        "children": [{"name": "mirror", "status": "waiting", "failures": 3, "last_error": "OSError: gone", "since": ""}],
        "doubts": ["the journal does not hold: event 7"],
        "order_errors": {"held": "hook.example: cannot connect", "free": "an old error", "nobody": "gone"},
        "companions": {"watchdog": {"trouble": "the loop has not come round for 4.0 s"}, "calm": {"trouble": ""}},
    }
    async with daemon(tmp_path) as made:
        made.api.context.surroundings = lambda: around
        await made.vitals({"agent": "held"}, {"agent": "free"})
        await made.tick()
        assert (await made.ask("POST", "/v1/agents/held/contain", {"level": "isolated", "reason": "odd"})).status == 200
        made.clock.at_us += 60 * US
        troubles = (await made.ask("GET", "/v1/status")).document["troubles"]
        assert troubles == [
            "the journal does not hold: event 7",
            "the last tick was 60 s ago",
            "watchdog: the loop has not come round for 4.0 s",
            "mirror died and waits to be started again: OSError: gone",
            "held is not held as ordered: hook.example: cannot connect",
        ]


@pytest.mark.fault("F54")
async def test_a_dead_child_is_seen_on_the_page_with_what_killed_it_and_when_it_starts_again(tmp_path):
    async def dies():
        raise OSError("the mirror broke")

    async with daemon(tmp_path) as made:
        supervisor = Supervisor(made.clock, lambda failure: None)
        made.api.context.surroundings = lambda: _surroundings(SimpleNamespace(supervisor=supervisor, companions=(), doubts=[], engine=made.engine))
        waits = asyncio.get_running_loop().create_future()

        async def sleep_until_us(at_us):
            waits.set_result(at_us)
            await asyncio.Event().wait()

        made.clock.sleep_until_us = sleep_until_us
        supervisor.start("mirror", dies)
        again_us = await waits
        found = (await made.ask("GET", "/v1/status")).document
        await supervisor.stop()
    (child,) = found["children"]
    assert (child["status"], child["failures"], child["last_error"]) == ("waiting", 1, "OSError: the mirror broke")
    assert child["next_start"] == iso(again_us)
    assert "mirror died and waits to be started again: OSError: the mirror broke" in found["troubles"]


async def test_everything_that_outsiders_could_fill_has_a_limit_and_is_on_the_page(tmp_path):
    async with daemon(tmp_path) as made:
        bounds = {one["name"]: one for one in status_document(made.api.context, made.clock.at_us)["bounds"]}
        assert set(bounds) >= KEYED_FROM_OUTSIDE
        assert {name for name, one in bounds.items() if not one["limit"]} == set(), "nothing is without a limit"
        assert all(one["size"] <= one["limit"] for one in bounds.values())


async def test_what_is_nearly_full_is_a_trouble_before_it_is_full(tmp_path):
    async with daemon(tmp_path, policy=with_limits(max_agents=10)) as made:
        await made.vitals(*[{"agent": f"a-{n}"} for n in range(9)])
        await made.tick()
        assert "roster.agents is nearly full: 9 of 10" in (await made.ask("GET", "/v1/status")).document["troubles"]


@pytest.mark.fault("F30")
async def test_a_hundred_thousand_invented_ids_are_refused_and_the_others_are_served(tmp_path):
    limits = LimitsPolicy(max_agents=2000, enrolments_at_once=1000, enrolments_per_s=100.0)
    async with daemon(tmp_path, policy=Policy(mode="act", limits=limits)) as made:
        honest = [{"agent": f"honest-{n}", "latency_ms": 100.0} for n in range(20)]
        assert (await made.vitals(*honest)).document["accepted"] == 20
        await made.tick()
        invented = 0
        for first in range(0, 100_000, 5000):
            lines = b"".join(b'{"agent": "invented-%d", "type": "t%d", "service": "s%d"}\n' % (n, n, n) for n in range(first, first + 5000))
            answer = await made.ask("POST", "/v1/vitals", raw=lines, Content_Type="application/x-ndjson")
            invented += answer.document["accepted"]
            assert (await made.vitals(*honest)).document == {"accepted": 20, "rejected": []}, "those who are known are not harmed"
            await made.tick()
        assert len(made.engine.state.agents) == len(made.engine.desk.roster) <= 2000
        assert invented == len(made.engine.desk.roster) - 20
        rejected = made.ingest.counts.rejected
        assert rejected["enrolling_too_fast"] + rejected.get("fleet_full", 0) == 100_000 - invented
        bounds = {one.name: one for one in made.engine.bounds()}
        assert all(one.size <= one.limit for one in bounds.values() if one.limit)
        assert bounds["roster.types"].size <= bounds["roster.types"].limit == 4096
        assert made.engine.counters.samples == 20 * 21 + invented
        assert (await made.ask("GET", "/v1/gate/honest-3")).document["allowed"] is True
        assert len(json.dumps((await made.ask("GET", "/v1/status")).document)) < 20_000, "the page does not grow with strangers"


@pytest.mark.fault("F55")
async def test_an_incident_that_the_state_let_go_of_is_read_from_the_journal(tmp_path):
    async with daemon(tmp_path, on_disk=True) as made:
        made.engine.state = replace(made.engine.state, keep=5)
        for _ in range(60):
            incident_id = open_incident(made, "sick-1")
            assert (await made.ask("POST", f"/v1/incidents/{incident_id}/feedback", {"verdict": "false_alarm"})).status == 200
            made.clock.at_us += US
        state = made.engine.state
        assert state.forgotten["incidents"] >= 20
        assert "inc-0001" not in state.incidents
        old = await made.ask("GET", "/v1/incidents/inc-0001")
        assert (old.status, old.document["outcome"]) == (200, "false_alarm")
        assert (await made.ask("GET", "/v1/why/inc-0001")).status == 200
        assert (await made.ask("GET", "/v1/incidents/inc-9999")).status == 404
        assert open_incident(made, "sick-1") == "inc-0061", "names go on where they were"
