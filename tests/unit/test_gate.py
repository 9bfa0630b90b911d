from __future__ import annotations

import asyncio

import pytest

from immune.connectors.gate import GateConnector


def do(coroutine):
    return asyncio.run(coroutine)


def test_an_agent_counts_as_contained_only_once_it_asked_and_was_refused():
    gate = GateConnector()
    assert do(gate.contain("a", "isolated", epoch=1)).outcome == "succeeded"
    assert gate.observed("a") is None
    assert gate.ask("a", "isolated") == (False, "isolated")
    assert gate.observed("a") == "isolated"


@pytest.mark.parametrize("level", ["none", "throttled", "restricted"])
def test_below_isolation_an_agent_may_act_and_is_told_its_level(level):
    gate = GateConnector()
    assert gate.ask("a", level) == (True, level)
    assert gate.observed("a") == level


@pytest.mark.parametrize("level", ["isolated", "evicted"])
def test_canary_work_is_bounded_and_a_new_order_takes_back_what_is_left(level):
    gate = GateConnector()
    do(gate.allow("a", 2, epoch=1))
    assert [gate.ask("a", level)[0] for _ in range(4)] == [True, True, False, False]
    do(gate.allow("a", 2, epoch=1))
    do(gate.contain("a", level, epoch=1))
    assert gate.ask("a", level) == (False, level)


def test_nobody_needs_to_ask_to_be_free():
    gate = GateConnector()
    gate.ask("a", "isolated")
    do(gate.contain("a", "none", epoch=1))
    assert gate.observed("a") == "none"


def test_a_milder_level_is_not_shown_before_the_agent_was_told():
    gate = GateConnector()
    gate.ask("a", "isolated")
    do(gate.contain("a", "throttled", epoch=1))
    assert gate.observed("a") == "isolated"


def test_a_gate_cannot_heal_and_says_so():
    gate = GateConnector()
    assert do(gate.perform("a", "reset_memory", key="k", epoch=1)).outcome == "unsupported"
    assert do(gate.compensate("a", "reset_memory", key="k", epoch=1)).outcome == "unsupported"


@pytest.mark.parametrize("level", ["none", "isolated"])
def test_a_hundred_thousand_strangers_do_not_fill_the_memory_and_whoever_asks_stays_known(level):
    gate = GateConnector(limit=10)
    for n in range(100):
        gate.ask("regular", "isolated")
        gate.ask(f"stranger-{n}", level)
        do(gate.allow(f"stranger-{n}", 1, epoch=1))
    assert len(gate._told) == 10
    assert len(gate._canary) <= 10
    assert gate.observed("regular") == "isolated"
    assert gate.forgotten > 0


def test_the_gate_stands_in_for_everybody():
    assert GateConnector().knows("anybody")
    assert not GateConnector().knows("")
