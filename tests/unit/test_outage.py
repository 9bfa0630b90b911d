"""F6, F7: a journal that takes nothing for a while. Nothing dies, nothing begins, nothing is let go, and it passes by itself."""

from __future__ import annotations

import pytest

from immune.clock import VirtualClock, run_virtual
from immune.core.commands import Commands, Principal
from immune.core.policy import ApprovalsPolicy, DetectionPolicy, HealingPolicy, Policy
from immune.errors import StoreUnavailableError
from immune.stores.memory import MemoryJournal
from tests.doubles import START_US, US, FlakyConnector, World, engine_over, kinds, live

ANN = Principal(name="ann", role="approver")
POLICY = Policy(
    mode="act",
    detection=DetectionPolicy(close_after_s=5.0),
    healing=HealingPolicy(settle_s=2.0, probation_samples=5, probation_timeout_s=20.0, plan_deadline_s=120.0),
    approvals=ApprovalsPolicy(severity_at=10.0, irreversible_needs_person=0, undo_window_s=0.0),
)
ASKING = Policy(mode="act", healing=POLICY.healing, approvals=ApprovalsPolicy(severity_at=0.0, undo_window_s=0.0))


class FullDisk(MemoryJournal):
    """A journal that refuses everything while `full`."""

    full = False

    def append(self, run_id, drafts, *, expected_seq, epoch):
        self._check()
        return super().append(run_id, drafts, expected_seq=expected_seq, epoch=epoch)

    def save_snapshot(self, run_id, seq, name, content, *, epoch):
        self._check()
        super().save_snapshot(run_id, seq, name, content, epoch=epoch)

    def _check(self):
        if self.full:
            raise StoreUnavailableError("the disk is full", field="journal.db", way_out="free some space")


def sick_world(**more):
    world = World(agents=4)
    world.patients[0].ratio = 8.0
    return world


def full(value):
    return lambda engine, now_us: setattr(engine.journal, "full", value)


def say_yes(engine, now_us):
    request = engine.state.approvals[engine.state.open_approvals[0]]
    commands = Commands(state=engine.state, rules=engine.rules, principal=ANN, now_us=now_us)
    engine.submit(commands.decide(request.request_id, "approve", "", request.plan_hash))


@pytest.mark.fault("F6")
def test_nothing_is_done_while_nothing_can_be_recorded_and_everything_afterwards():
    world = sick_world()
    hands = FlakyConnector(world)
    seen = {}

    def look(engine, now_us):
        seen.update(trouble=engine.trouble, seq=engine.state.seq, orders=dict(hands.orders), effects=list(hands.effects), ticks=engine.counters.ticks)

    engine = live(world, hands, ticks=90, policy=POLICY, journal=FullDisk(), at={0: full(True), 30: look, 31: full(False)})
    assert "the disk is full" in seen["trouble"]
    assert (seen["orders"], seen["effects"]) == ({}, []), "no effect without its event"
    assert (seen["ticks"], engine.counters.ticks) == (31, 90), "every tick was done"
    assert engine.trouble == ""
    ((_, gap),) = kinds(engine, "journal_interrupted")
    assert gap.since_us == START_US + US
    assert "the disk is full" in gap.reason
    assert gap.refused > 20
    assert engine.outage.refused == gap.refused
    assert engine.state.incidents["inc-0001"].outcome == "healed", "it recovers by itself"
    assert engine.journal.verify("r-1") == engine.state.seq


def test_containment_in_force_stays_in_force_and_no_plan_begins():
    world = sick_world()
    hands = FlakyConnector(world)
    worked = []

    def fall_sick(engine, now_us):
        world.find("a-1").ratio = 8.0

    world.on_work = lambda patient, by_canary, now_us: worked.append(now_us) if patient.level != "none" else None
    engine = live(world, hands, ticks=60, policy=ASKING, journal=FullDisk(), at={8: full(True), 10: fall_sick})
    assert engine.trouble
    assert world.find("a-1").level == "none", "nothing new begins"
    assert engine.state.agents["a-0"].desired == "isolated"
    assert world.find("a-0").level == "isolated"
    assert worked == []
    assert hands.effects == []


@pytest.mark.fault("F6")
def test_a_persons_yes_that_cannot_be_recorded_starts_nothing_and_can_be_said_again():
    world = sick_world()
    hands = FlakyConnector(world)
    refused = []

    def try_yes(engine, now_us):
        with pytest.raises(StoreUnavailableError) as caught:
            say_yes(engine, now_us)
        refused.append(caught.value.exit_code)
        assert engine.state.approvals["req-0001"].status == "pending"

    def look(engine, now_us):
        refused.append(list(hands.effects))

    script = {8: full(True), 12: try_yes, 20: look, 21: full(False), 25: say_yes}
    engine = live(world, hands, ticks=80, policy=ASKING, journal=FullDisk(), at=script)
    assert refused == [3, []]
    assert engine.state.approvals["req-0001"].status == "used"
    assert len([e for e in engine.journal.read("r-1") if e.kind == "approval_granted"]) == 1
    assert engine.state.incidents["inc-0001"].outcome == "healed"


def test_the_answer_of_a_step_that_cannot_be_recorded_is_kept_and_recorded_once():
    """The hands were already at work when the disk filled up."""
    world = sick_world()

    class Slow(FlakyConnector):
        async def perform(self, agent_id, action, *, key, epoch):
            world_engine.journal.full = True
            return await super().perform(agent_id, action, key=key, epoch=epoch)

    hands = Slow(world)
    world_engine = engine_over(world, connectors=[hands], policy=POLICY, journal=FullDisk())
    started = []

    def look(engine, now_us):
        started.append([step.status for plan in engine.state.plans.values() for step in plan.steps][:1])
        engine.journal.full = False

    live(world, hands, ticks=90, engine=world_engine, at={30: look, 31: lambda e, n: setattr(hands, "perform", super(Slow, hands).perform)})
    assert started == [["running"]]
    finished = kinds(world_engine, "step_finished")
    assert [event.outcome for _, event in finished][:1] == ["succeeded"]
    assert len({(event.plan_id, event.step) for _, event in finished}) == len(finished)
    assert [action for _, action, what in hands.effects if what == "do"].count(finished[0][1].action) == 1


def test_a_new_agent_that_came_during_the_outage_is_enrolled_afterwards():
    world = World(agents=5)
    world.enrolled = 3

    def arrive(engine, now_us):
        world.enrolled = 5

    engine = live(world, ticks=20, policy=POLICY, journal=FullDisk(), at={2: full(True), 5: arrive, 10: full(False)})
    assert sorted(engine.state.agents) == ["a-0", "a-1", "a-2", "a-3", "a-4"]
    assert sorted(agent.index for agent in engine.state.agents.values()) == [0, 1, 2, 3, 4]


def test_counts_and_deaths_that_waited_are_on_record_afterwards():
    engine = engine_over(World(), policy=POLICY, journal=FullDisk())

    async def life():
        engine.start(START_US)
        engine.journal.full = True
        for second in range(1, 200):
            engine.count_rejected({"late": 1})
            await engine.tick(START_US + second * US)
        engine.journal.full = False
        await engine.tick(START_US + 200 * US)
        await engine.tick(START_US + 261 * US)

    run_virtual(life())
    assert sum(dict(event.counts)["late"] for _, event in kinds(engine, "samples_rejected")) == 199


def test_an_outage_at_the_end_does_not_keep_it_from_ending():
    engine = engine_over(World(), policy=POLICY, journal=FullDisk())

    async def life():
        engine.start(START_US)
        await engine.run(VirtualClock(START_US), first_us=START_US, until_us=START_US + 5 * US)
        engine.journal.full = True
        await engine.finish(START_US + 6 * US, "stopped")

    run_virtual(life())
    assert "the disk is full" in engine.trouble
    assert kinds(engine, "run_ended") == []
    assert engine.journal.acquire("r-1", "next", START_US + 7 * US) == 2


def test_baselines_that_cannot_be_kept_stop_nothing():
    class NoSnapshots(MemoryJournal):
        def save_snapshot(self, *_, **__):
            raise StoreUnavailableError("the disk is full", field="journal.db")

    engine = live(World(), ticks=200, policy=POLICY, journal=NoSnapshots())
    assert engine.counters.ticks == 200
    assert 1 <= len(kinds(engine, "journal_interrupted")) <= 4
