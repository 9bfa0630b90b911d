"""Calls made up from the daemon's own OpenAPI document, sent to a daemon that runs beside: `fuzz(daemon, calls=5000, seed=1)`.

Half of the calls are what the document allows, half are what it does not. No answer may be a 5xx other than the 503 that the document
names, every status must be one that the document names for the route, and every body of the media type and shape that it says.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from tests.integration.daemon_kit import SystemTime, daemon, open_incident, open_request, with_limits

PATIENT_S = 20
CHECKED = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
UNLIMITED = {"requests_per_s": 1e6, "enrolments_at_once": 100_000}
"""The rate limits are tested elsewhere; here they would only keep the calls out."""


@dataclass(kw_only=True)
class Found:
    """What came of the calls: how many of each (route, status), and what was wrong."""

    calls: int = 0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def server_errors(self) -> int:
        """Answers of 500 and above; there must be none."""
        return sum(count for (_, status), count in self.answers.items() if status >= 500)


@dataclass(kw_only=True)
class Running:
    """A daemon on a loop of its own thread, ticking."""

    url: str
    token: str
    made: object


@contextmanager
def running(folder):
    """A daemon with agents, an incident and a request to a person, that ticks while it is asked."""
    started, stop = threading.Event(), None
    told: list[Running] = []

    async def live() -> None:
        nonlocal stop
        stop = asyncio.Event()
        async with daemon(folder, policy=with_limits(**UNLIMITED), clock=SystemTime(), on_disk=True) as made:
            context = made.api.context
            for buckets in (context.refusals, context.login.by_name, context.login.by_address):
                buckets.per_s = buckets.burst = 1e9
            await made.vitals({"agent": "agent", "latency_ms": 5})
            await made.engine.tick(made.clock.now_us())
            open_incident(made, "sick-0")
            open_request(made, "sick-1")
            told.append(Running(url=made.server.url, token=made.token["admin"], made=made))
            started.set()
            while not stop.is_set():
                await made.engine.tick(made.clock.now_us())
                await asyncio.sleep(0.2)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    try:
        assert started.wait(PATIENT_S)
        yield told[0]
    finally:
        if stop is not None:
            loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENT_S)
        loop.close()


def fuzz(run: Running, *, calls: int, number: int = 1) -> Found:
    """About this many calls over all routes; the same number gives the same calls."""
    import requests

    load_all_checks()
    found = Found()
    with requests.Session() as session:
        document = session.get(run.url + "/openapi.json", timeout=PATIENT_S).json()
        known = known_ids(session, run)
        schema = schemathesis.openapi.from_dict(document)
        operations = [one.ok() for one in schema.get_all_operations()]
        operations = [one for one in operations if one.path != "/v1/stream"]  # it never ends; tests/integration/test_api_stream.py
        each = max(2, -(-calls * 11 // (20 * len(operations))))  # a tenth more: some routes have little that could be sent wrong
        for place, operation in enumerate(operations):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _fuzz_one(found, session, run, operation, mode, each, number * 1000 + place, known)
    return found


def known_ids(session, run: Running) -> list[str]:
    """Ids that lead somewhere: without them every path would end in 404."""
    headers = {"Authorization": f"Bearer {run.token}"}
    asked = session.get(run.url + "/v1/approvals", headers=headers, timeout=PATIENT_S).json()["approvals"]
    return ["agent", "sick-0", "sick-1", "fleet", "inc-0001", *(one["id"] for one in asked)]


def _fuzz_one(found: Found, session, run: Running, operation, mode, times: int, number: int, known: list[str]) -> None:
    try:
        cases = operation.as_strategy(generation_mode=mode)
    except Exception:  # noqa: BLE001 - nothing about this route can be wrong, says schemathesis
        return

    @seed(number)
    @settings(max_examples=times, database=None, deadline=None, derandomize=False, phases=[Phase.generate], verbosity=Verbosity.quiet,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(cases, st.sampled_from(known), st.booleans())
    def call(case, some_id, use_it):
        if use_it and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = some_id
        headers = {"Authorization": f"Bearer {run.token}"}
        response = case.call(base_url=run.url, session=session, headers=headers, timeout=PATIENT_S)
        found.calls += 1
        found.answers[operation.label, response.status_code] += 1
        for trouble in troubles(operation, case, response):
            if len(found.wrong) < 50:
                found.wrong.append(f"{operation.label} {mode.name.lower()}: {trouble}\n  {case.as_curl_command()[:600]}\n  {response.text[:300]}")

    try:
        call()
    except Exception as error:
        if type(error).__name__ not in {"Unsatisfiable", "FailedHealthCheck", "InvalidArgument"}:
            raise


def troubles(operation, case, response) -> list[str]:
    """What is wrong with an answer, held against the document."""
    wrong = [f"status {response.status_code}"] if response.status_code >= 500 else []
    try:
        case.validate_response(response, checks=[CHECKS.get_one(name) for name in CHECKED])
    except FailureGroup as group:
        wrong += [" ".join(str(failure).split())[:200] for failure in group.exceptions]
    return wrong
