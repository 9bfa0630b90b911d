"""Hundreds of decisions at once over HTTP: exactly one wins; whatever is not a valid yes starts nothing and is on record."""

from __future__ import annotations

import pytest

from proving.deciding import ABUSES, abuses, office, races


@pytest.mark.fault("F37")
async def test_of_people_who_decide_at_once_exactly_one_wins_and_the_others_are_told_who_and_when(tmp_path):
    found = await races(tmp_path, 60)
    assert (found.races, found.decisions) == (60, 300)
    assert found.not_one_winner == 0
    assert found.losers_without_a_name == 0


@pytest.mark.fault("F38", "F39", "F40", "F41")
async def test_no_abuse_of_an_approval_starts_anything_and_all_are_on_record(tmp_path):
    found = await abuses(tmp_path, 2 * len(ABUSES))
    assert set(found.abuses) == set(ABUSES)
    assert found.executed == []
    assert found.not_on_record == 0


async def test_a_valid_yes_does_start_its_plan(tmp_path):
    """Or the test above would prove nothing."""
    async with office(tmp_path) as here:
        request = here.request()
        status, _ = await here.decide("p1", request)
        assert status == 200
        await here.tick(3)
        assert here.engine.state.plans[request["plan"]].started_at_us
        assert here.status(request) == "used"
