"""What every reader of a run promises, over memory, SQLite and a real InfluxDB: the same answers to the same questions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest

from immune.clock import SystemClock
from immune.core import acts
from immune.core import events as ev
from immune.core.events import Draft
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, Status, VitalSchema
from immune.errors import UnknownIdError
from immune.ports import Journal, RunReader, Telemetry
from immune.stores.influx.beside import pair
from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.memory import MemoryJournal, MemoryTelemetry
from immune.stores.records import StoreReader
from immune.stores.telemetry_sqlite import SqliteTelemetry

S = 1_000_000
T0 = 1_767_225_600 * S
SCHEMA = VitalSchema.with_extra(["gpu_w", 'odd "name', "status"])
HOSTILE = ['a",drop=1 ', "line\\", '"quoted"', "ünï,cødé = ☂", "'; DROP SERIES FROM agent_vitals --", "x" * 128, "comma\\,", "日本 語"]
RUNS = count()


@dataclass(frozen=True)
class Content:
    """One run's content, before it is put into a store."""

    run_id: str
    drafts: list[Draft]
    batches: list[tuple[int, SampleBatch]]
    agents: tuple[str, ...]


def draft(event, subject="a", at_s=0, actor="system", incident="inc-0001") -> Draft:
    return Draft(at_us=T0 + at_s * S, subject=subject, event=event, correlation_id=incident, actor=actor)


def story(agents=("a", "b", "c"), run_id=None) -> Content:
    """An agent falls ill, a person approves, it is healed; another is only suspected."""
    step = acts.StepNote(action="reset_memory", tier=2, reversible=True, compensation="restore", timeout_s=10.0, summary="forget")
    evidence = (
        ev.EvidenceNote(
            vital="latency_ms",
            direction="up",
            nats=20.5,
            ratio=3.0,
            observed=3000.0,
            expected=1000.0,
            effect=2.0,
            growth=0.0,
            onset_us=T0,
            calibration=1.0,
            basis="own",
        ),
    )
    guess = (ev.HypothesisNote(kind="latency_spike", confidence=0.75, evidence_for=("up",), evidence_against=()),)
    first = agents[0]
    events = [
        *(draft(ev.AgentEnrolled(index=index, type="writer", service="s"), subject=agent, incident="") for index, agent in enumerate(agents)),
        draft(
            ev.IncidentOpened(
                incident_id="inc-0001",
                scope="agent",
                cohort="",
                agents=(first,),
                onset_us=T0,
                nats=20.5,
                threshold_nats=12.0,
                severity=6.5,
                severity_why=(),
                evidence=evidence,
                diagnosis=guess,
                ruled_out=(),
                changed=(),
                policy_version="p",
            ),
            subject=first,
            at_s=10,
        ),
        draft(
            acts.PlanProposed(
                plan_id="plan-0001",
                incident_id="inc-0001",
                signature="x",
                diagnosis="latency_spike",
                rung=0,
                steps=(step,),
                skipped=(),
                plan_hash="h",
                severity=6.5,
                mode="act",
                needs_approval=True,
                rule="r",
                trigger="after_approval",
                deadline_us=T0,
                policy_version="p",
            ),
            subject=first,
            at_s=10,
        ),
        draft(
            acts.ApprovalRequested(
                request_id="req-0001",
                about="plan",
                plan_id="plan-0001",
                incident_id="inc-0001",
                plan_hash="h",
                severity=6.5,
                rule="r",
                level="isolated",
                expires_us=T0 + 900 * S,
                requested_by="policy:r",
            ),
            subject=first,
            at_s=10,
        ),
        draft(acts.ApprovalGranted(request_id="req-0001", plan_hash="h", reason='do "it",\nnow', not_before_us=T0), first, 12, "person:ann"),
        draft(acts.PlanStarted(plan_id="plan-0001", request_id="req-0001", trigger="after_approval"), first, 13),
        draft(acts.StepStarted(plan_id="plan-0001", step=0, action="reset_memory", key="k"), first, 13),
        draft(acts.StepFinished(plan_id="plan-0001", step=0, action="reset_memory", outcome="succeeded", detail="done"), first, 14),
        draft(ev.IncidentClosed(incident_id="inc-0001", outcome="healed", reason="probation"), first, 60),
    ]
    batches = [(T0 + tick * S, samples_at(tick, len(agents))) for tick in range(120)]
    return Content(run_id=run_id or f"run-{next(RUNS)}", drafts=events, batches=batches, agents=tuple(agents))


def samples_at(tick: int, agents: int) -> SampleBatch:
    batch = SampleBatch.blank(agents, len(SCHEMA))
    batch.agent[:] = np.arange(agents)
    batch.at_us[:] = T0 + tick * S - np.arange(agents) * 1000
    batch.values[:, 0] = 100.25 + tick + np.arange(agents)
    batch.values[:, 1] = tick
    batch.values[:, 3] = (tick + 1) / 3e6
    batch.values[:, 9] = 1e15 / 3
    batch.values[:, 10] = 7
    batch.values[:, 11] = 0.1 + 0.2
    batch.values[tick % agents, 1] = np.nan
    batch.step[:] = tick - 1
    batch.status[:] = tick % 4
    return batch


def put(content: Content, journal: Journal, telemetry: Telemetry) -> StoreReader:
    epoch = journal.acquire(content.run_id, "test", 0)
    journal.append(content.run_id, content.drafts, expected_seq=0, epoch=epoch)
    telemetry.begin(content.run_id, SCHEMA)
    telemetry.name_agents(content.run_id, 0, content.agents)
    for at_us, batch in content.batches:
        telemetry.write(content.run_id, at_us // S, at_us, batch)
    return StoreReader(journal, telemetry)


async def bring(target, folder, content: Content, journal: Journal) -> None:
    roster = Roster()
    for agent in content.agents:
        roster.enroll(AgentIdentity(agent_id=agent, type="writer", service="s"))
    both = pair(target, folder=folder, run_id=content.run_id, roster=roster, schema=SCHEMA, journal=journal, clock=SystemClock(), say=print)
    for at_us, batch in content.batches:
        both.writer.take(at_us, batch)
    await both.mirror.bring_all()
    await both.writer.close()
    await both.mirror.close()
    account = both.writer.account()
    assert account.stored == account.accepted


@pytest.fixture(scope="module")
def mirrored(influx_server):
    return influx_server.target()


@pytest.fixture(params=["memory", "sqlite", pytest.param("influx", marks=pytest.mark.influx)])
def reading(request, tmp_path):
    """(content) -> a reader of a store that holds it."""
    asker = None
    if request.param == "influx":
        from immune.stores.influx.asking import Asker
        from immune.stores.influx.reading import InfluxReader

        target = request.getfixturevalue("mirrored")
        asker = Asker(target)

    def read(content: Content) -> RunReader:
        if request.param == "memory":
            return put(content, MemoryJournal(), MemoryTelemetry())
        if request.param == "sqlite":
            return put(content, SqliteJournal(tmp_path), SqliteTelemetry(tmp_path))
        journal = MemoryJournal()
        put(content, journal, MemoryTelemetry())
        asyncio.run(bring(target, tmp_path / "influx", content, journal))
        return InfluxReader(asker)

    yield read
    if asker is not None:
        asker.close()


def test_the_vitals_of_an_agent_come_back_as_they_were_measured(reading):
    content = story()
    reader = reading(content)
    assert isinstance(reader, RunReader)
    assert reader.agents(content.run_id) == content.agents
    expected = MemoryTelemetry()
    put(content, MemoryJournal(), expected)
    for vital in (*SCHEMA.names[:4], "gpu_w", 'odd "name', "status", "retries"):
        for span in ({}, {"from_us": T0 + 5 * S, "to_us": T0 + 50 * S}):
            found, wanted = (one.series(content.run_id, "b", vital, **span) for one in (reader, expected))
            assert found.at_us.tolist() == wanted.at_us.tolist()
            assert found.value.tolist() == wanted.value.tolist()


def test_a_long_range_may_be_asked_for_in_means(reading):
    content = story()
    reader = reading(content)
    found = reader.series(content.run_id, "a", "latency_ms", every_us=60 * S)
    assert found.at_us.tolist() == [T0, T0 + 60 * S]
    np.testing.assert_allclose(found.value, [100.25 + 29.5, 100.25 + 89.5])


def test_the_newest_sample_of_every_agent(reading):
    content = story()
    latest = reading(content).latest(content.run_id)
    wanted = samples_at(119, 3)
    assert latest.agent.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(latest.values, wanted.values)
    assert latest.at_us.tolist() == wanted.at_us.tolist()
    assert latest.step.tolist() == [118] * 3
    assert latest.status.tolist() == [Status.DONE] * 3


def test_incidents_approvals_and_actions(reading):
    content = story()
    reader = reading(content)
    (incident,) = reader.incidents(content.run_id)
    assert (incident.infection, incident.severity, incident.outcome) == ("latency_spike", 6.5, "healed")
    assert (incident.opened_at_us, incident.closed_at_us) == (T0 + 10 * S, T0 + 60 * S)
    (approval,) = reader.approvals(content.run_id)
    assert (approval.decision, approval.by, approval.agent, approval.decided_at_us) == ("approved", "person:ann", "a", T0 + 12 * S)
    begun, ended = reader.actions(content.run_id)
    assert (begun.outcome, begun.success, ended.outcome, ended.success) == ("started", None, "succeeded", True)
    assert (ended.action, ended.trigger, ended.decision, ended.direction) == ("reset_memory", "after_approval", "approved", "do")


@pytest.mark.fault("F31", "F32")
def test_hostile_ids_come_back_as_written_and_touch_nothing_else(reading):
    content = story(agents=(*HOSTILE, "plain"))
    reader = reading(content)
    assert reader.agents(content.run_id) == content.agents
    assert len(reader.latest(content.run_id)) == len(content.agents)
    for index, agent in enumerate(content.agents):
        assert reader.series(content.run_id, agent, "latency_ms").value[0] == 100.25 + index
    assert [incident.agent for incident in reader.incidents(content.run_id)] == [HOSTILE[0]]
    with pytest.raises(UnknownIdError):
        reader.series(content.run_id, "plain' OR 1=1 --", "latency_ms")
    with pytest.raises(UnknownIdError):
        reader.series(content.run_id, "plain", 'latency_ms" FROM agent_vitals --')


@pytest.mark.fault("F32")
def test_nothing_leaks_from_another_run(reading):
    content = story()
    reader = reading(content)
    for run_id in ("", "' OR run_id != '", content.run_id + " ", f"{content.run_id}' OR '1'='1"):
        assert reader.agents(run_id) == ()
        assert reader.incidents(run_id) == reader.approvals(run_id) == reader.actions(run_id) == []
        assert len(reader.latest(run_id)) == 0
        with pytest.raises(UnknownIdError):
            reader.series(run_id, "a", "latency_ms")
