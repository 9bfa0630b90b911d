from __future__ import annotations

import itertools

import pytest

from dashboard.places import Concerning, Places
from immune.core import acts
from immune.core import events as ev
from immune.core.events import Draft, seal

RUN = "run-1"
US = 1_000_000


class Kept:
    """A journal in a list that counts what it hands out."""

    def __init__(self, envelopes):
        self.envelopes, self.handed_out = envelopes, 0

    def read(self, run_id, *, after_seq=0, limit=None):
        for one in itertools.islice(self.envelopes[after_seq:], limit):
            self.handed_out += 1
            yield one


def written(rounds=200, agents=10):
    drafts = []
    for number in range(rounds):
        name, key = f"a-{number % agents}", f"inc-{number:04d}"
        drafts += [
            Draft(at_us=number * US, subject=name, event=ev.HealthChanged(before="healthy", after="sick", nats=1.0, samples=9, basis="own")),
            Draft(at_us=number * US, subject=name, event=ev.IncidentClosed(incident_id=key, outcome="healed", reason="well"), correlation_id=key),
            Draft(
                at_us=number * US,
                subject=name,
                event=acts.PlanStarted(plan_id=f"plan-{number:04d}", request_id=f"req-{number:04d}", trigger="after_approval"),
            ),
        ]
    return seal(RUN, drafts, 0, ev.GENESIS)


@pytest.mark.parametrize("entries_max", [10**6, 800, 300])
def test_what_concerns_somebody_is_found_as_in_the_whole_journal_even_after_half_was_forgotten(entries_max):
    envelopes = written()
    places = Places(entries_max)
    for start in range(0, len(envelopes), 50):
        places.note(envelopes[start : start + 50])
    assert (places.from_seq > 0) == (entries_max < 2000)
    for keys in (["a-3"], ["inc-0007"], ["a-3", "inc-0199"], ["plan-0150"], ["req-0150"], ["nobody"]):
        for last in (len(envelopes), 311):
            journal = Concerning(Kept(envelopes), places, keys, last=last)

            def holds(one, keys=keys):
                carried = {f"plan-{(one.seq - 1) // 3:04d}", f"req-{(one.seq - 1) // 3:04d}"} if one.kind == "plan_started" else set()
                return bool({one.subject, one.correlation_id, *carried} & set(keys))

            wanted = [one for one in envelopes[:last] if holds(one)]
            assert [one for one in journal.read(RUN) if holds(one)] == wanted
            assert [one for one in journal.read(RUN, after_seq=100) if holds(one)] == [one for one in wanted if one.seq > 100]


@pytest.mark.parametrize("entries_max", [10**6, 300])
def test_the_newest_come_a_page_at_a_time_each_once(entries_max):
    envelopes = written()
    places = Places(entries_max)
    places.note(envelopes)
    journal, before, found = Concerning(Kept(envelopes), places, ["a-3"], last=len(envelopes)), len(envelopes) + 1, []
    while before > 1:
        page, low = journal.newest(RUN, before, 7)
        assert low < before
        before = low
        found = [one for one in page if one.subject == "a-3"] + found
    assert found == [one for one in envelopes if one.subject == "a-3"]


def test_one_agent_costs_its_own_events_not_those_of_the_run():
    envelopes = written(rounds=2000, agents=200)
    places = Places()
    places.note(envelopes)
    kept = Kept(envelopes)
    assert len(list(Concerning(kept, places, ["a-3"], last=len(envelopes)).read(RUN))) == 30
    assert kept.handed_out < 100
