"""One trace per incident, told from the journal alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core import acts
from immune.core import events as ev
from immune.observability.spans import US, span_id, trace_id
from immune.observability.story import UNSEEN_AFTER_US, Story
from immune.stores.archive import read_archive
from tests.drawn_events import drafts

GOLDEN = list(read_archive(Path(__file__).resolve().parents[1] / "golden" / "journal-0.1.jsonl.gz"))


def told(envelopes, run_id="golden"):
    story = Story(run_id)
    return [moment for envelope in envelopes for moment in story.hear(envelope)]


ALL = told(GOLDEN)


def test_every_incident_has_one_trace_of_its_own():
    opened = [envelope.event().incident_id for envelope in GOLDEN if envelope.kind == "incident_opened"]
    assert opened
    detects = [moment for moment in ALL if moment.name == "immune.detect"]
    assert [moment.trace_id for moment in detects] == [trace_id("golden", incident) for incident in opened]
    assert len({moment.trace_id for moment in detects}) == len(opened)


def test_all_that_was_done_is_in_the_traces_once():
    counted = Counter(moment.name for moment in ALL)
    events = Counter(envelope.kind for envelope in GOLDEN)
    assert counted["immune.incident"] == events["incident_closed"]
    assert counted["immune.step"] == events["step_finished"]
    assert counted["immune.plan"] == events["plan_ended"] + events["plan_withdrawn"] + sum(m.attributes.get("immune.outcome") == "left" for m in ALL)
    assert counted["immune.verify"] == events["probation_ended"]
    assert counted["immune.compensate"] == events["compensation_finished"]
    assert {"immune.diagnose", "immune.contain", "immune.approve", "immune.release", "immune.journal"} <= set(counted)


def test_no_span_is_told_twice_and_none_runs_backwards():
    assert len({moment.span_id for moment in ALL}) == len(ALL)
    assert all(moment.end_us >= moment.start_us for moment in ALL)


def test_children_hang_below_the_root_of_their_incident_or_below_its_plan():
    by_trace = {}
    for moment in ALL:
        by_trace.setdefault(moment.trace_id, []).append(moment)
    for moments in by_trace.values():
        known = {moment.span_id for moment in moments}
        roots = {span_id("golden", "immune.incident", str(moment.attributes["immune.correlation_id"])) for moment in moments}
        unfinished = {moment.parent for moment in moments} - known - {0}
        plans = {moment.parent for moment in moments if moment.name in {"immune.step", "immune.verify", "immune.approve", "immune.compensate"}}
        assert unfinished <= roots | plans, "a parent is the root, or a plan that had not ended when the journal did"


def test_every_span_carries_the_seq_and_hash_of_the_event_that_ended_it():
    hashes = {envelope.seq: envelope.hash for envelope in GOLDEN}
    assert all(hashes[moment.attributes["immune.event.seq"]] == moment.attributes["immune.event.hash"] for moment in ALL)


def test_the_head_of_the_journal_is_witnessed_once_a_minute_and_at_the_end():
    witnessed = [moment for moment in ALL if moment.name == "immune.journal"]
    minutes = {envelope.at_us // 60_000_000 for envelope in GOLDEN}
    assert len(minutes) - 1 <= len(witnessed) <= len(minutes) + 1
    last = [envelope for envelope in GOLDEN if envelope.kind == "run_ended"]
    assert not last or witnessed[-1].attributes["immune.journal.head"] == last[-1].hash


@pytest.mark.parametrize("stop", range(0, len(GOLDEN), 7))
def test_a_fresh_story_goes_on_wherever_another_one_stopped(stop):
    """What a restart does: read again from where something was open, tell only what ends later."""
    before = Story("golden")
    first = [moment for envelope in GOLDEN[:stop] for moment in before.hear(envelope)]
    after = Story("golden")
    second = [moment for envelope in GOLDEN[max(0, before.needs_from_seq - 1) :] for moment in after.hear(envelope) if envelope.seq > before.seq]
    assert [*first, *second] == ALL


def ordered(agents, at_us):
    """Orders to isolate so many agents, all at one moment."""
    return [
        ev.Draft(
            at_us=at_us,
            subject=f"a{n}",
            event=acts.Contained(
                containment_id=f"con-{n}",
                scope="agent",
                target=f"a{n}",
                level="isolated",
                automatic=True,
                reason="",
                incident_id="inc-1",
                rule="",
                evidence=(),
                policy_version="",
            ),
        )
        for n in range(agents)
    ]


def test_an_order_that_nobody_ever_confirms_is_told_as_unseen_after_ten_minutes():
    later = [ev.Draft(at_us=at_us, subject="r", event=ev.RunEnded(reason="", ticks=0)) for at_us in (UNSEEN_AFTER_US, UNSEEN_AFTER_US + US)]
    moments = told(ev.seal("r", (*ordered(1, 0), *later), 0, ev.GENESIS), "r")
    (unseen,) = [moment for moment in moments if moment.name == "immune.contain"]
    assert (unseen.attributes["immune.enforced"], unseen.seq, unseen.duration_s) == ("unseen", 3, 0.0)


def test_a_thousand_orders_of_one_moment_are_not_looked_through_a_thousand_times():
    looks = []

    class Watched(dict):
        def items(self):
            looks.append(len(self))
            return super().items()

    story = Story("r")
    story._spans.begun = Watched()
    for envelope in ev.seal("r", tuple(ordered(1000, 0)), 0, ev.GENESIS):
        story.hear(envelope)
    assert len(story._spans.begun) == 1000
    assert sum(looks) <= 1000


def test_ids_depend_on_the_run_and_on_nothing_else():
    assert told(GOLDEN) == ALL
    assert {moment.trace_id for moment in told(GOLDEN, "another")}.isdisjoint(moment.trace_id for moment in ALL)


@given(st.lists(drafts(), max_size=40))
def test_no_sequence_of_events_confuses_it(drawn):
    envelopes = ev.seal("r", sorted(drawn, key=lambda draft: draft.at_us), 0, ev.GENESIS)
    moments = told(envelopes, "r")
    assert len({(moment.trace_id, moment.span_id) for moment in moments}) == len(moments)
    assert all(moment.end_us >= moment.start_us and moment.trace_id > 0 and moment.span_id > 0 for moment in moments)
    story = Story("r")
    for envelope in envelopes:
        story.hear(envelope)
        assert story.needs_from_seq <= story.seq
