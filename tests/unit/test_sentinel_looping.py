"""Progress without change: the same tool with the same size again and again, while the rest of the vitals go on."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import numpy as np

from immune.core.diagnosis import differential
from immune.core.evidence import Assessment
from immune.core.vitals import CONTEXT_FIELDS
from immune.infections import CATALOGUE
from tests.unit.sentinel_fleet import CONTEXT, INPUT, OUTPUT, START_US, TOOLS, US, Watch, at, batch

TOOL = CONTEXT_FIELDS.index("tool")


def run(watch: Watch, first: int, last: int, change=None, tools: int = 4) -> list[Assessment]:  # type: ignore[no-untyped-def]
    """Ticks with tools said; change(tick, values, codes)."""
    names = [watch.lexicon.code(f"tool-{n}") for n in range(tools)]
    found = []
    for tick in range(first, last):
        values = watch.healthy()
        values[:, TOOLS] = 1
        told = batch(tick, values)
        codes = told.codes.copy()
        codes[:, TOOL] = watch.rng.choice(names, watch.agents)
        if change is not None:
            change(tick, values, codes)
        found.append(watch.sentinel.observe(replace(told, values=values, codes=codes), at(tick)))
    return found


@functools.cache
def _warmed() -> Watch:
    watch = Watch(6)
    assert alarms(run(watch, 0, 120)) == set()
    return watch


def settled() -> Watch:
    """A copy of its own of six agents after 120 healthy ticks."""
    return copy.deepcopy(_warmed())


def looping(tick: int, values: np.ndarray, codes: np.ndarray) -> None:
    codes[2, TOOL], values[2, OUTPUT] = codes[2, TOOL] * 0 + 1, 187
    values[2, CONTEXT] += 3 * (tick - 120)


def alarms(found: list[Assessment]) -> set[int]:
    return {finding.agent for assessment in found for finding in assessment.findings if finding.alarm}


def test_the_same_call_again_and_again_is_a_tool_loop_though_context_and_latency_go_on() -> None:
    watch = settled()
    after = run(watch, 120, 140, looping)
    assert alarms(after) == {2}
    (finding,) = (finding for finding in after[-1].findings if finding.agent == 2)
    told = {(item.vital, item.direction): item for item in finding.evidence}
    onset_s = (told["tool_calls", "stuck"].onset_us - START_US) / US
    assert 119 <= onset_s <= 121, "since the first of the calls that were alike"
    assert differential(finding, CATALOGUE, now_us=at(139)).hypotheses[0].kind == "tool_loop"


def test_another_size_each_time_or_another_tool_is_no_loop() -> None:
    def same_tool(tick: int, values: np.ndarray, codes: np.ndarray) -> None:
        codes[2, TOOL] = 1

    def same_size(tick: int, values: np.ndarray, codes: np.ndarray) -> None:
        values[2, OUTPUT] = 300
        codes[2, TOOL] = 1 + tick % 2

    for change in (same_tool, same_size):
        watch = settled()
        assert not [item for a in run(watch, 120, 160, change) for f in a.findings for item in f.evidence if item.direction == "stuck"]


def test_a_loop_that_has_ended_is_no_longer_present() -> None:
    watch = settled()
    run(watch, 120, 150, looping)
    (finding,) = (finding for finding in run(watch, 150, 165)[-1].findings if finding.agent == 2)
    assert not finding.present


def test_input_that_stays_away_is_no_loop() -> None:
    def without(tick: int, values: np.ndarray, codes: np.ndarray) -> None:
        codes[2, TOOL], values[2, OUTPUT], values[2, INPUT] = 1, np.nan, np.nan

    watch = settled()
    assert not [item for a in run(watch, 120, 150, without) for f in a.findings for item in f.evidence if item.direction == "stuck"]
