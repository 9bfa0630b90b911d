"""Cells by model and tool: what alternates is no alarm, what changes is judged as before, and a fault is found in either."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest

from immune.core.evidence import Assessment
from immune.core.sentinel import contexts
from tests.unit.sentinel_fleet import COST, INPUT, LATENCY, OUTPUT, Watch, alarms, at, batch

AGENTS = 12
SLOW = 3.0


def run(watch: Watch, first: int, last: int, model, change=None) -> list[Assessment]:  # type: ignore[no-untyped-def]
    """Ticks in which `model(tick)` gives everybody's model, and the slow one takes `SLOW` times as long and costs as much."""
    told = []
    for tick in range(first, last):
        values, models = watch.healthy(), model(tick)
        slow = np.array([name == "slow" for name in models])
        values[slow, LATENCY] *= SLOW
        values[slow, COST] *= SLOW
        if change is not None:
            change(tick, values)
        made = batch(tick, values)
        made.codes[:, contexts.MODEL] = [watch.lexicon.code(name) for name in models]
        told.append(watch.sentinel.observe(made, at(tick)))
    return told


def by_turns(tick: int) -> list[str]:
    drawn = np.random.default_rng([tick, 8]).random(AGENTS)
    return ["slow" if x < 0.4 else "quick" for x in drawn]


def always_quick(_: int) -> list[str]:
    return ["quick"] * AGENTS


@functools.cache
def _warmed(alternates: bool) -> tuple[Watch, frozenset[int], int]:
    watch = Watch(AGENTS, seed=21)
    told = run(watch, 0, 400, by_turns if alternates else always_quick)
    return watch, frozenset(alarms(told)), sum(len(a.facts) for a in told)


def warmed(alternates: bool) -> Watch:
    return copy.deepcopy(_warmed(alternates)[0])


def test_two_models_by_turns_are_no_alarm_and_no_news_after_the_first_time():
    _, blamed, changes = _warmed(True)
    assert not blamed
    assert changes == AGENTS, "the other model is told once"


def test_what_the_slow_model_adds_is_learned_by_every_agent():
    sentinel = warmed(True).sentinel
    row = sentinel.table.names.index("latency_ms")
    rows = sentinel.arena["context_row"][:AGENTS]
    main = sentinel.arena["main_context"][:AGENTS]
    sign = np.where(main // contexts.TOOLS - 1 == sentinel.lexicon.code("slow"), -1, 1)
    effect = sign * sentinel.contexts.cells["effect"][rows, 0, row]
    assert np.allclose(effect, np.log(SLOW), atol=0.35)


@pytest.mark.parametrize("which", ["slow", "quick"])
def test_an_agent_that_is_sick_with_one_of_its_models_is_found(which):
    watch = warmed(True)

    def sick(tick: int, values: np.ndarray) -> None:
        if by_turns(tick)[4] == which:
            values[4, LATENCY] *= 4

    assert alarms(run(watch, 400, 460, by_turns, sick)) == {4}


def test_another_model_is_no_blind_spot_and_no_illness():
    def one_other(tick: int) -> list[str]:
        return ["quick"] * 4 + ["new"] + ["quick"] * (AGENTS - 5)

    def sick(tick: int, values: np.ndarray) -> None:
        values[4, LATENCY] *= 4

    assert alarms(run(warmed(False), 400, 460, one_other)) == set()
    changed, same = warmed(False), warmed(False)
    first = [next(n for n, a in enumerate(run(w, 400, 440, model, sick)) if alarms([a])) for w, model in ((changed, one_other), (same, always_quick))]
    assert first[0] <= first[1] + 1, "not later than without the change"
    finding = next(f for f in changed.sentinel.observe(batch(441, changed.healthy()), at(441)).findings if f.agent == 4)
    assert ("model", "quick", "new") in {change[:3] for change in finding.changed}


def test_what_others_have_learned_of_a_model_is_lent_to_the_next():
    """Two always had the quick one; when they turn to the slow one it costs what it costs the others."""
    watch = Watch(AGENTS, seed=22)

    def most(tick: int) -> list[str]:
        return ["quick", "quick", *by_turns(tick)[2:]]

    run(watch, 0, 400, most)
    assert alarms(run(watch, 400, 460, by_turns)) == set()


def test_tools_of_different_size_are_no_alarm():
    watch = Watch(AGENTS, seed=23)
    rng = np.random.default_rng(3)
    size = np.array([1.0, 4.0, 0.3, 2.0])
    blamed: set[int] = set()
    for tick in range(450):
        values, tool = watch.healthy(), rng.integers(0, 4, AGENTS)
        values[:, [INPUT, OUTPUT]] = np.rint(values[:, [INPUT, OUTPUT]] * size[tool, None])
        made = batch(tick, values)
        made.codes[:, contexts.TOOL] = [watch.lexicon.code(f"tool-{number}") for number in tool]
        blamed |= alarms([watch.sentinel.observe(made, at(tick))])
    assert not blamed


def test_cells_are_bounded_and_evictions_counted():
    watch = Watch(AGENTS, seed=24)
    rng = np.random.default_rng(4)
    for _ in range(2):
        run(watch, 0, 60, lambda tick: [f"model-{n}" for n in rng.integers(0, 40, AGENTS)])
    cells = watch.sentinel.contexts
    assert cells.cells.size <= AGENTS
    assert cells.evicted > 100
    before = watch.sentinel.snapshot()
    watch.sentinel.restore(before)
    assert watch.sentinel.snapshot() == before
