"""Many at once, or each sick by itself: agents that were infected must not hide behind one another, and nobody is blamed for an outage."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.sentinel import one_hand
from tests.unit.sentinel_fleet import COST, ERRORS, INPUT, LATENCY, OUTPUT, RETRIES, TOOLS, alarms, learned
from tests.unit.test_sentinel_shared import Change, causes_in

SICK = (2, 5, 11)
FIVE = (1, 4, 8, 12, 19)


def one_by_one(strike: Change, apart: int = 15, sick: tuple[int, ...] = SICK) -> Change:
    """Agents fall sick by themselves, `apart` seconds one after the other; `strike(nth, row)` alters one agent's vitals."""

    def change(tick: int, values: np.ndarray) -> None:
        for nth, agent in enumerate(sick):
            if tick >= 100 + apart * nth:
                strike(nth, values[agent])

    return change


def explode(nth: int, row: np.ndarray) -> None:
    """Tokens times 4 to 5.7; the time per token of output falls with it."""
    row[[INPUT, OUTPUT]] *= (4.0, 5.7, 4.8)[nth % 3]
    row[COST] = 3e-6 * row[INPUT] + 12e-6 * row[OUTPUT]


def slow(nth: int, row: np.ndarray) -> None:
    row[LATENCY] *= (3.0, 5.5, 4.0)[nth]


def fail(nth: int, row: np.ndarray) -> None:
    row[ERRORS] += 1 + nth % 2


def retry(nth: int, row: np.ndarray) -> None:
    row[RETRIES] += 2 + nth


def loop(nth: int, row: np.ndarray) -> None:
    row[TOOLS] = row[TOOLS] * (4 + nth) + 2


@pytest.mark.parametrize("strike", [explode, slow, fail, retry, loop])
def test_three_of_a_type_that_fall_sick_one_after_the_other_hide_behind_no_shared_cause(strike) -> None:  # type: ignore[no-untyped-def]
    after = learned(15, 100).run(100, 160, one_by_one(strike))
    assert causes_in(after) == set()
    assert alarms(after[-1:]) == set(SICK)


@pytest.mark.slow
def test_five_whose_tokens_explode_within_seconds_are_five_sick_agents_and_no_change() -> None:
    after = learned(24, 100).run(100, 180, one_by_one(explode, apart=4, sick=FIVE))
    assert causes_in(after) == set()
    assert alarms(after[-1:]) == set(FIVE)


@pytest.mark.slow
def test_five_that_become_slow_one_after_the_other_each_by_its_own_factor_are_no_outage() -> None:
    def unlike(nth: int, row: np.ndarray) -> None:
        row[LATENCY] *= (2.5, 6.5, 4.2, 3.0, 5.0)[nth]

    after = learned(25, 100).run(100, 240, one_by_one(unlike, apart=22, sick=FIVE))
    assert causes_in(after) == set()
    assert alarms(after[-1:]) == set(FIVE)


def test_three_whose_tokens_explode_in_one_second_do_not_hide_either() -> None:
    after = learned(15, 100).run(100, 140, one_by_one(explode, apart=0))
    assert causes_in(after) == set()
    assert alarms(after[-1:]) == set(SICK)


def test_less_time_per_token_is_longer_output_and_nothing_from_outside() -> None:
    shared = learned(15, 100).sentinel.shared
    row = shared._names.index("latency_per_output_token")
    assert [shared.from_outside(sign, row) for sign in (0, 1)] == [True, False]


def hit(agents: list[int], since: int, until: int, rng: np.random.Generator, *, late: int = -1, late_since: int = 0) -> Change:
    """Latency, retries and errors of these agents; `late` joins them afterwards, with more retries at first than the rest."""

    def change(tick: int, values: np.ndarray) -> None:
        chosen = [agent for agent in agents if agent != late or tick >= late_since]
        if since <= tick < until:
            values[chosen, LATENCY] *= 4
            values[chosen, RETRIES] += rng.poisson(1.5, len(chosen))
            values[chosen, ERRORS] += rng.poisson(0.8, len(chosen))
            if late in chosen and tick < late_since + 12:
                values[late, RETRIES] = 2 + tick % 2

    return change


MEMBERS = [1, 4, 6, 9, 13, 18, 22, 23, 27, 30, 34, 38]


@pytest.mark.slow
def test_an_outage_of_members_here_and_there_lists_those_that_were_hit_and_no_service() -> None:
    after = learned(40, 100).run(100, 170, hit(MEMBERS, 100, 170, np.random.default_rng(1)))
    (cause,) = after[-1].cohorts
    assert sorted(cause.agents) == MEMBERS
    assert (cause.scope, cause.field) == ("fleet", "")
    assert alarms(after) == set()


@pytest.mark.slow
def test_a_member_that_is_hit_when_the_cause_is_known_is_absorbed_though_it_starts_with_more_than_the_rest() -> None:
    after = learned(40, 100).run(100, 200, hit(MEMBERS, 100, 200, np.random.default_rng(2), late=22, late_since=150))
    assert alarms(after) == set()
    assert 22 in after[-1].cohorts[0].agents


@pytest.mark.slow
def test_an_agent_that_is_slow_by_itself_a_minute_after_an_outage_of_others_does_not_hide_in_it() -> None:
    outage = hit([agent for agent in MEMBERS if agent != 22], 100, 230, np.random.default_rng(4))

    def slow_too(tick: int, values: np.ndarray) -> None:
        outage(tick, values)
        if tick >= 160:
            values[22, LATENCY] *= 5

    after = learned(40, 100).run(100, 230, slow_too)
    assert alarms(after) == {22}
    assert 22 in alarms(after[80:90]), "soon"
    assert 22 in alarms(after[-1:]), "and to the end"
    assert all(22 not in cause.agents for found in after[100:] for cause in found.cohorts)


@pytest.mark.slow
def test_what_was_gathered_during_an_outage_speaks_against_nobody_after_it() -> None:
    watch = learned(40, 100)
    watch.run(100, 160, hit(MEMBERS, 100, 160, np.random.default_rng(3)))
    row = watch.sentinel.table.names.index("errors")
    assert watch.sentinel.arena["sr"][0, :, row, MEMBERS].max() > 1e4
    watch.run(160, 200)
    assert watch.sentinel.shared.causes, "it is still remembered"
    assert watch.sentinel.arena["sr"][0, :, row, MEMBERS].max() < 100


@pytest.mark.parametrize(
    ("members", "fleet", "inside", "moved", "named"),
    [(50, 200, 4, 5, False), (50, 200, 5, 5, True), (30, 100, 3, 3, False), (60, 200, 20, 60, False), (60, 200, 60, 60, True)],
)
def test_a_cohort_gives_its_name_only_where_chance_would_hardly_gather_them(members: int, fleet: int, inside: int, moved: int, named: bool) -> None:
    assert one_hand.names(members, fleet, inside, moved) is named
