"""Every alert rule on a real InfluxDB: it fires for the run in which its trouble is now, and for no other, and not once it is long past.

What Grafana does with a rule is done here by hand: the query over the rule's window, then the threshold, run by run; no rows at all are
what `noDataState` says. Everything comes there on the product's own way: a journal that is mirrored, samples through the writer's encoder.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import yaml

from immune.clock import SystemClock
from immune.core import acts
from immune.core import events as ev
from immune.core.events import Draft
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from immune.stores.influx.courier import Courier
from immune.stores.influx.letters import DeadLetters
from immune.stores.influx.mark import Mark
from immune.stores.influx.mirror import JournalMirror
from immune.stores.influx.vitals import Encoder
from immune.stores.influx.writer import pack
from immune.stores.memory import MemoryJournal
from tests.integration.grafana_queries import ALERTS, filled

pytestmark = pytest.mark.influx
S, MINUTE = 1_000_000, 60_000_000
RULES = {rule["uid"]: rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]}


def opened(severity):
    return ev.IncidentOpened(
        incident_id="inc-1", scope="agent", cohort="", agents=("a",), onset_us=0, nats=9.0, threshold_nats=6.0, severity=severity, severity_why=(),
        evidence=(), diagnosis=(), ruled_out=(), changed=(), policy_version="p",
    )  # fmt: skip


def asked(request_id):
    return acts.ApprovalRequested(
        request_id=request_id, about="plan", plan_id="plan-1", incident_id="inc-1", plan_hash="h", severity=5.0, rule="r", level="none",
        expires_us=0, requested_by="policy",
    )  # fmt: skip


def granted(request_id):
    return acts.ApprovalGranted(request_id=request_id, plan_hash="h", reason="yes", not_before_us=0)


ILL = {
    "immune-not-enforced": [(2, acts.EnforcementFailed(desired="isolated", observed="none", error="no answer", waited_s=9.0))],
    "immune-severe": [(2, opened(8.5))],
    "immune-waits": [(12, asked("req-1"))],
    "immune-person-needed": [(2, acts.LadderExhausted(incident_id="inc-1", tried=("restart_agent",), reason="nothing helped"))],
    "immune-budget": [(2, acts.ContainmentDeferred(incident_id="inc-1", level="isolated", contained=3, allowed=3))],
    "immune-itself": [(2, ev.TelemetryLost(samples=10, reason="disk full"))],
}
"""Rule -> what happens so many minutes before now in the run that is to be told of."""
WELL = [(13, asked("req-0")), (12, granted("req-0")), (3, asked("req-2")), (2, opened(5.0)), (1, granted("req-2"))]
"""As much goes on, and nobody need be told."""


async def mirrored(target, folder, run_id, happened, now_us):
    journal = MemoryJournal()
    epoch = journal.acquire(run_id, "test", 0)
    drafts = [Draft(at_us=now_us - minutes * MINUTE, subject="a", event=event) for minutes, event in sorted(happened, key=lambda one: -one[0])]
    journal.append(run_id, drafts, expected_seq=0, epoch=epoch)
    courier, mark = Courier(target=target, clock=SystemClock(), say=print), Mark(folder / f"mark-{run_id}", target)
    mirror = JournalMirror(run_id=run_id, journal=journal, courier=courier, letters=DeadLetters(folder), mark=mark, clock=SystemClock())
    assert await mirror.bring_all() == 0
    await mirror.close()


async def sampled(target, run_id, at_us):
    roster = Roster()
    roster.enroll(AgentIdentity(agent_id="a", type="t"))
    batch = SampleBatch.blank(1)
    batch.agent[:], batch.at_us[:], batch.values[:] = 0, at_us, np.nan
    batch.values[0, 0] = 100.0
    courier = Courier(target=target, clock=SystemClock(), say=print)
    assert (await courier.deliver(pack(Encoder(run_id, roster, VitalSchema()).samples(batch)), "us", 1)).stored == 1
    await courier.close()


def firing(target, rule):
    """The runs for which a rule fires now; `*` is an alarm over the absence of everything."""
    from influxdb_client.client.influxdb_client import InfluxDBClient

    asks, threshold = rule["data"]
    window = asks["relativeTimeRange"]
    query = filled(asks["model"]["query"], {}, bucket=target.bucket, start=f"-{window['from']}s", stop="now()")
    with InfluxDBClient(url=target.url, token=target.token, org=target.org, timeout=30_000) as client:
        found = {record["run_id"]: record["_value"] for one in client.query_api().query(query) for record in one.records}
    (condition,) = threshold["model"]["conditions"]
    assert (threshold["model"]["type"], threshold["model"]["expression"], condition["evaluator"]["type"]) == ("threshold", asks["refId"], "gt")
    if not found:
        return {"*"} if rule["noDataState"] == "Alerting" else set()
    return {run for run, value in found.items() if value > condition["evaluator"]["params"][0]}


def test_every_rule_is_tried_here():
    assert set(RULES) == {*ILL, "immune-silent"}


@pytest.mark.parametrize("uid", ILL)
def test_a_rule_fires_for_the_run_in_trouble_and_no_longer_when_it_is_past(influx_server, tmp_path, uid):
    target, now_us = influx_server.target(), SystemClock().now_us()
    asyncio.run(mirrored(target, tmp_path, "well", WELL, now_us))
    assert firing(target, RULES[uid]) == set()
    past = [(minutes + 180, event) for minutes, event in ILL[uid]]
    asyncio.run(mirrored(target, tmp_path, "past", past, now_us))
    assert firing(target, RULES[uid]) == set()
    asyncio.run(mirrored(target, tmp_path, "ill", ILL[uid], now_us))
    assert firing(target, RULES[uid]) == {"ill"}
    others = {other for other in ILL if other != uid and firing(target, RULES[other])}
    assert others == set(), "no other rule takes it for its own"


def test_a_request_stops_firing_when_it_is_answered(influx_server, tmp_path):
    target, now_us = influx_server.target(), SystemClock().now_us()
    asyncio.run(mirrored(target, tmp_path, "r", [(12, asked("req-1")), (11, asked("req-2"))], now_us))
    assert firing(target, RULES["immune-waits"]) == {"r"}
    target = influx_server.target()
    closed = acts.ApprovalClosed(request_id="req-2", outcome="expired", reason="nobody answered")
    asyncio.run(mirrored(target, tmp_path, "s", [(12, asked("req-1")), (11, asked("req-2")), (1, granted("req-1")), (1, closed)], now_us))
    assert firing(target, RULES["immune-waits"]) == set()


def test_silence_fires_and_a_sample_ends_it(influx_server):
    target, now_us = influx_server.target(), SystemClock().now_us()
    asyncio.run(sampled(target, "r", now_us - 5 * MINUTE))
    assert firing(target, RULES["immune-silent"]) == {"*"}
    asyncio.run(sampled(target, "r", now_us - 10 * S))
    assert firing(target, RULES["immune-silent"]) == set()
