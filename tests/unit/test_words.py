"""What people say moves the bar within its bounds: announcements, verdicts, reports, mutes. Nothing that is said hides a hard limit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from immune.core import acts
from immune.core import events as ev
from immune.core.commands import CommandError, Commands, Principal
from immune.core.decision import Rebase
from immune.core.fold import fold
from immune.core.policy import DetectionPolicy
from immune.core.sentinel.watch import Sentinel
from immune.core.state import RunState
from immune.core.words import Words, words_of
from immune.reports.sentences import say as sentence
from tests.doubles import START_US, ScriptedSentinel, World, live
from tests.unit.sentinel_fleet import COST, LATENCY, OUTPUT, SCHEMA, TOOLS, US, Watch, alarms, at, batch, learned

NOW_US = START_US + 12 * US

POLICY = DetectionPolicy()


def told(*events: tuple[str, ev.Event], actor: str = "person:ann", at_us: int = NOW_US) -> RunState:
    drafts = [ev.Draft(at_us=at_us, subject=subject, event=event, actor=actor) for subject, event in events]
    return fold(RunState(), ev.seal("r", drafts, 0, ev.GENESIS))


def test_a_false_alarm_asks_for_more_evidence_of_that_symptom_of_that_agent_and_never_for_more_than_the_bound() -> None:
    words = Words(eased={"a-1\x1flatency_ms\x1fup": 2})
    assert words.more_nats("a-1", "latency_ms", "up", POLICY, NOW_US) == 2 * POLICY.ease_nats
    assert words.more_nats("a-1", "latency_ms", "down", POLICY, NOW_US) == 0
    assert words.more_nats("a-2", "latency_ms", "up", POLICY, NOW_US) == 0
    often = Words(eased={"a-1\x1flatency_ms\x1fup": 99})
    assert often.more_nats("a-1", "latency_ms", "up", POLICY, NOW_US) == POLICY.ease_max_nats


def test_reports_ask_for_less_for_a_while_and_two_reporters_are_as_good_as_ten() -> None:
    crowd = tuple((f"agent:b-{n}", NOW_US) for n in range(10))
    words = Words(reports={"a-1": crowd, "a-2": crowd[:1]})
    assert words.more_nats("a-1", "errors", "up", POLICY, NOW_US) == -2 * POLICY.report_nats
    assert words.more_nats("a-2", "errors", "up", POLICY, NOW_US) == -POLICY.report_nats
    assert words.more_nats("a-1", "errors", "up", POLICY, NOW_US + round(POLICY.report_for_s * US) + 1) == 0


def test_one_reporter_who_says_it_again_and_again_counts_once() -> None:
    state = told(*[("a-1", acts.SicknessReported(reason="it babbles"))] * 5, actor="agent:b")
    assert state.reports["a-1"] == (("agent:b", NOW_US),)


def test_a_mute_ends_by_itself() -> None:
    state = told(("a-1", acts.Muted(vital="latency_ms", until_us=NOW_US + US, reason="known")))
    words = words_of(state, NOW_US)
    assert words.more_nats("a-1", "latency_ms", "up", POLICY, NOW_US) == math.inf
    assert words.more_nats("a-1", "errors", "up", POLICY, NOW_US) == 0
    assert words.more_nats("a-1", "latency_ms", "up", POLICY, NOW_US + US) == 0


def test_announcements_count_until_their_time() -> None:
    state = told(("version=2", acts.ChangeAnnounced(cohort="version=2", until_us=NOW_US + US, reason="deploy")))
    assert words_of(state, NOW_US).announced == (("version", "2"),)
    assert words_of(state, NOW_US + US).announced == ()


# -- what the sentinel makes of them


def sick(agent: int, factor: float, start: int, column: int = LATENCY):
    def change(tick: int, values: np.ndarray) -> None:
        if tick >= start:
            values[agent, column] *= factor

    return change


def test_a_fault_that_lasts_is_an_alarm_however_often_it_was_called_a_false_one() -> None:
    watch = learned()
    watch.sentinel.heed(Words(eased={"a1\x1flatency_ms\x1fup": 50, "a1\x1flatency_per_output_token\x1fup": 50}), at(200))
    assert 1 in alarms(watch.run(200, 235, sick(1, 12.0, 200)))


def test_eased_symptoms_take_longer_and_reported_agents_less_long() -> None:
    def first_alarm(words: Words) -> int:
        watch = learned()
        watch.sentinel.heed(words, at(200))
        return next(n for n, found in enumerate(watch.run(200, 235, sick(1, 3.0, 200))) if 1 in alarms([found]))

    usual = first_alarm(Words())
    eased = first_alarm(Words(eased={f"a1\x1f{vital}\x1fup": 3 for vital in ("latency_ms", "latency_per_output_token")}))
    reported = first_alarm(Words(reports={"a1": (("person:ann", at(200)), ("person:bob", at(200)))}))
    assert reported < usual < eased


def test_a_muted_symptom_is_no_alarm_until_the_mute_is_over() -> None:
    watch = learned()
    muted = Words(muted={"a1\x1flatency_ms\x1f": at(230), "a1\x1flatency_per_output_token\x1f": at(230)})
    watch.sentinel.heed(muted, at(200))
    assert alarms(watch.run(200, 230, sick(1, 5.0, 200))) == set()
    assert alarms(watch.run(230, 235, sick(1, 5.0, 200))) == {1}


def hard_fleet(**limits: float) -> Watch:
    watch = Watch(6, seed=4)
    policy = DetectionPolicy(**limits)
    watch.sentinel = Sentinel(roster=watch.roster, lexicon=watch.lexicon, schema=SCHEMA, policy=policy, period_us=US)
    return watch


@pytest.mark.parametrize(
    ("limit", "column", "value"), [("hard_tokens", OUTPUT, 90_000.0), ("hard_tool_calls", TOOLS, 400.0), ("hard_usd_per_hour", COST, 30.0)]
)
def test_nothing_that_was_said_hides_a_hard_limit(limit: str, column: int, value: float) -> None:
    watch = hard_fleet(**{limit: {"hard_tokens": 50_000, "hard_tool_calls": 100, "hard_usd_per_hour": 20}[limit]})
    watch.run(0, 20)
    eased = {f"a2\x1f{name}\x1fup": 99 for name in watch.sentinel.table.names}
    everything = Words(announced=(("fleet", ""),), muted={"a2\x1f\x1f": at(9_000)}, eased=eased)
    watch.sentinel.heed(everything, at(20))

    def breach(tick: int, values: np.ndarray) -> None:
        values[2, column] = value

    (found,) = watch.run(20, 21, breach)
    (finding,) = [one for one in found.findings if one.alarm]
    assert (finding.agent, finding.explained_by, finding.present) == (2, "", True)


def test_many_agents_beyond_a_hard_limit_do_not_hide_behind_each_other() -> None:
    watch = hard_fleet(hard_tokens=50_000)
    watch.run(0, 20)

    def storm(tick: int, values: np.ndarray) -> None:
        values[:, OUTPUT] = 80_000

    assert alarms(watch.run(20, 24, storm)) == set(range(6))


def test_the_budget_of_a_fleet_is_divided_by_its_agents() -> None:
    def threshold(agents: int, **budget: float) -> float:
        watch = Watch(agents)
        sentinel = Sentinel(roster=watch.roster, lexicon=watch.lexicon, schema=SCHEMA, policy=DetectionPolicy(**budget), period_us=US)
        return sentinel.observe(batch(0, watch.healthy()), at(0)).threshold_nats

    alone = threshold(4, false_alarms_per_agent_day=0.001)
    assert threshold(4, false_alarms_per_agent_day=0.001, false_alarms_per_fleet_day=0.1) == pytest.approx(alone), "the stricter one holds"
    assert threshold(40, false_alarms_per_agent_day=0.001, false_alarms_per_fleet_day=0.004) == pytest.approx(alone + math.log(10))


# -- commands


def outage() -> tuple[Commands, str]:
    world = World(agents=4)
    world.outage = True
    for patient in world.patients[:3]:
        patient.ratio = 8.0
    engine = live(world, ticks=12)
    (incident_id,) = engine.state.open_incidents
    return Commands(state=engine.state, rules=engine.rules, principal=Principal(name="ann", role="operator"), now_us=NOW_US), incident_id


@pytest.mark.parametrize("verdict", ["new_normal", "false_alarm"])
def test_a_shared_cause_closes_by_a_verdict_and_for_a_new_normal_its_members_are_re_based_on_record(verdict: str) -> None:
    commands, incident_id = outage()
    decision = commands.feedback(incident_id, verdict, "", "the new model")
    state = fold(commands.state, ev.seal("r-1", decision.drafts, commands.state.seq, commands.state.head))
    assert state.incidents[incident_id].outcome == verdict
    rebased = [draft.event for draft in decision.drafts if isinstance(draft.event, acts.Rebased)]
    effects = [effect for effect in decision.effects if isinstance(effect, Rebase)]
    if verdict == "new_normal":
        assert [(one.agents, one.basis) for one in rebased] == [(commands.state.incidents[incident_id].agents, "person")]
        assert len(effects) == 1
    else:
        assert (rebased, effects) == ([], [])


def test_a_mute_needs_a_person_a_reason_and_a_time_within_a_week() -> None:
    commands, _ = outage()
    (draft,) = commands.mute("a-0", "latency_ms", NOW_US + US, "known").drafts
    assert (draft.event.kind, draft.actor, draft.subject) == ("muted", "person:ann", "a-0")
    for until_us, reason in ((NOW_US, "known"), (NOW_US + 8 * 86_400 * US, "known"), (NOW_US + US, " ")):
        with pytest.raises(CommandError):
            commands.mute("a-0", "latency_ms", until_us, reason)


# -- through the engine


class Settling(ScriptedSentinel):
    """Says in one tick that the baselines of two agents took a change over."""

    def observe(self, batch, now_us):  # type: ignore[no-untyped-def]
        found = super().observe(batch, now_us)
        settled = (((0, 2), "version:1:7", "lasting"),) if now_us == START_US + 9 * US else ()
        return replace(found, taken_over=settled)


def test_a_change_that_was_taken_over_is_on_record_once() -> None:
    world = World(agents=4)
    engine = live(world, ticks=12, sentinel=Settling(world))
    (envelope,) = [one for one in engine.journal.read("r-1") if one.kind == "rebased"]
    event = envelope.event()
    assert (event.agents, event.basis, event.cohort) == (("a-0", "a-2"), "lasting", "version:1:7")
    assert "a-0, a-2" in sentence(envelope)


@pytest.mark.parametrize(("normal_for", "outcome"), [((0, 1, 2), "new_normal"), ((0,), "recovered")])
def test_a_shared_incident_that_became_normal_for_most_of_its_members_is_not_called_recovered(normal_for: tuple[int, ...], outcome: str) -> None:
    class Deploy(ScriptedSentinel):
        def observe(self, batch, now_us):  # type: ignore[no-untyped-def]
            self.world.outage = now_us <= START_US + 9 * US
            settled = ((normal_for, "c-1", "lasting"),) if now_us == START_US + 9 * US else ()
            return replace(super().observe(batch, now_us), taken_over=settled)

    world = World(agents=4)
    engine = live(world, ticks=80, sentinel=Deploy(world))
    (closed,) = [one.event() for one in engine.journal.read("r-1") if one.kind == "incident_closed"]
    assert closed.outcome == outcome
    assert engine.state.incidents[closed.incident_id].taken_over == tuple(f"a-{one}" for one in normal_for)


def test_what_is_said_to_the_daemon_reaches_the_sentinel_with_the_next_tick() -> None:
    def say(engine, now_us):  # type: ignore[no-untyped-def]
        commands = Commands(state=engine.state, rules=engine.rules, principal=Principal(name="ann", role="operator"), now_us=now_us)
        engine.submit(commands.announce("version=2", now_us + 60 * US, "deploy"))

    engine = live(World(agents=2), ticks=8, at={5: say})
    assert engine.sentinel.words.announced == (("version", "2"),)
