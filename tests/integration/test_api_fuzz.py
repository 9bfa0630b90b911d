"""The API against calls made up from its own document. `IMMUNE_FUZZ_CALLS=50000` makes as many as you have time for."""

from __future__ import annotations

import os

import pytest

from tests.integration.api_fuzzing import fuzz, running

CALLS = int(os.environ.get("IMMUNE_FUZZ_CALLS") or (5000 if os.environ.get("CI") else 150))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jsonschema", "ignore::DeprecationWarning:schemathesis")


def test_no_call_that_can_be_made_up_brings_the_api_down_or_gets_an_answer_that_is_not_documented(tmp_path):
    with running(tmp_path) as run:
        found = fuzz(run, calls=CALLS)
        ticks = run.made.engine.counters.ticks
    assert found.calls >= CALLS * 0.8, "most routes were called"
    assert found.server_errors == 0, found.answers
    assert found.wrong == []
    assert run.made.api.context.counters.bugs == 0
    assert ticks > 1, "the tick went on meanwhile"
    assert {200, 400, 404} <= {status for _, status in found.answers}, "some calls did something, some were refused"
