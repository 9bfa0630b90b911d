"""One key, one effect, one answer: also on a retry after the daemon died."""

from __future__ import annotations

import asyncio

import pytest

from immune.api.ingesting import SLICE
from tests.integration.daemon_kit import START_US, US, HandClock, daemon, open_incident, open_request

REASON = {"reason": "r"}


async def test_the_same_key_has_one_effect_and_the_same_answer(tmp_path):
    async with daemon(tmp_path) as made:
        first = await made.ask("POST", "/v1/stop", REASON, who="operator", Idempotency_Key="k1")
        seq = made.engine.state.seq
        again = await made.ask("POST", "/v1/stop", REASON, who="operator", Idempotency_Key="k1")
        assert (again.status, again.text) == (first.status, first.text)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert made.engine.state.seq == seq
        assert len(made.events("contained")) == 1
        await made.ask("POST", "/v1/stop", REASON, who="operator", Idempotency_Key="k2")
        await made.ask("POST", "/v1/stop", REASON, who="operator")
        assert len(made.events("contained")) == 3


async def test_a_key_belongs_to_who_sent_it_and_where_to(tmp_path):
    async with daemon(tmp_path) as made:
        await made.ask("POST", "/v1/stop", REASON, who="operator", Idempotency_Key="k")
        other = await made.ask("POST", "/v1/stop", REASON, who="approver", Idempotency_Key="k")
        assert other.document["by"] == "person:approver"
        elsewhere = await made.ask("POST", "/v1/containments/fleet/release", REASON, who="operator", Idempotency_Key="k")
        assert elsewhere.document["command"] == "release"


async def test_a_key_with_another_body_is_refused(tmp_path):
    async with daemon(tmp_path) as made:
        await made.ask("POST", "/v1/stop", REASON, Idempotency_Key="k")
        assert (await made.ask("POST", "/v1/stop", {"reason": "other"}, Idempotency_Key="k")).status == 422
        await made.vitals({"agent": "a"}, Idempotency_Key="v")
        assert (await made.vitals({"agent": "b"}, Idempotency_Key="v")).status == 422


async def test_vitals_with_a_key_are_taken_once(tmp_path):
    async with daemon(tmp_path) as made:
        answers = [await made.vitals({"agent": "a"}, {"agent": "a", "latency_ms": -1}, Idempotency_Key="v") for _ in range(3)]
        assert len({(answer.status, answer.text) for answer in answers}) == 1
        assert made.ingest.waiting == 1


async def test_a_retry_that_meets_its_first_try_under_way_doubles_no_sample(tmp_path):
    """A sender whose patience ends before a large request is through sends it again; none of these has a time of its own."""
    rows = [{"agent": "a", "latency_ms": 5 + n % 7} for n in range(8 * SLICE)]
    async with daemon(tmp_path) as made:
        answers = await asyncio.gather(*(made.vitals(*rows, Idempotency_Key="k") for _ in range(3)))
        assert {answer.status for answer in answers} <= {202, 503}
        assert made.ingest.waiting == len(rows)
        assert (await made.vitals(*rows, Idempotency_Key="k")).document["accepted"] == len(rows), "then it is told what the first one was told"
        assert made.ingest.waiting == len(rows)


async def test_fifty_retries_at_once_have_one_effect(tmp_path):
    async with daemon(tmp_path) as made:
        request = open_request(made)
        body = {"decision": "approve", "plan_hash": request["plan_hash"]}
        path = f"/v1/approvals/{request['id']}/decision"
        answers = await asyncio.gather(*(made.ask("POST", path, body, who="approver", Idempotency_Key="k") for _ in range(50)))
        assert {(answer.status, answer.text) for answer in answers} == {(200, answers[0].text)}
        assert len(made.events("approval_granted")) == 1
        assert made.events("command_refused") == []


@pytest.mark.parametrize("command", ["grant", "refuse", "stop", "enroll"])
@pytest.mark.fault("F1")
async def test_a_retry_after_a_restart_gets_the_answer_that_was_lost(tmp_path, command):
    clock = HandClock(START_US)
    async with daemon(tmp_path, on_disk=True, clock=clock) as made:
        tokens = dict(made.token)
        open_incident(made, "sick-1")
        request = open_request(made, "sick-2")
        path, body, who = {
            "grant": (f"/v1/approvals/{request['id']}/decision", {"decision": "approve", "plan_hash": request["plan_hash"]}, "approver"),
            "refuse": (f"/v1/approvals/{request['id']}/decision", {"decision": "approve", "plan_hash": "x"}, "approver"),
            "stop": ("/v1/stop", REASON, "operator"),
            "enroll": ("/v1/agents", {"id": "fresh"}, "operator"),
        }[command]
        first = await made.ask("POST", path, body, who=who, Idempotency_Key="k")
    clock.at_us += 60 * US
    async with daemon(tmp_path, on_disk=True, clock=clock) as made:
        made.token |= tokens
        before = made.engine.state.seq
        again = await made.ask("POST", path, body, who=who, Idempotency_Key="k")
        assert (again.status, again.text) == (first.status, first.text)
        assert again.status == (412 if command == "refuse" else 200)
        assert made.engine.state.seq == before, "nothing happened twice"
        assert made.engine.journal.verify("run-1") == before


async def test_an_answer_is_in_the_same_append_as_what_it_answers(tmp_path):
    async with daemon(tmp_path, on_disk=True) as made:
        appended = []
        append = made.engine.journal.append

        def watched(run_id, drafts, **rest):
            appended.append([draft.event.kind for draft in drafts])
            return append(run_id, drafts, **rest)

        made.engine.journal.append = watched
        await made.ask("POST", "/v1/stop", REASON, Idempotency_Key="k")
        assert appended == [["contained", "command_answered"]]


async def test_a_command_that_cannot_be_made_durable_is_not_answered_as_done(tmp_path):
    from immune.errors import StoreUnavailableError

    async with daemon(tmp_path) as made:
        append = made.engine.journal.append

        def full(*_, **__):
            raise StoreUnavailableError("the disk is full", field="journal.db", way_out="free some space")

        made.engine.journal.append = full
        answer = await made.ask("POST", "/v1/stop", REASON, Idempotency_Key="k")
        assert (answer.status, answer.document["detail"]) == (503, "the disk is full; free some space")
        assert (await made.ask("GET", "/v1/gate/a")).document["allowed"] is True
        made.engine.journal.append = append
        assert (await made.ask("POST", "/v1/stop", REASON, Idempotency_Key="k")).status == 200
