from __future__ import annotations

import asyncio

import pytest

from immune.clock import VirtualClock, run_virtual
from immune.core.commands import Commands, Principal
from immune.core.decision import AllowCanary, Enforce, RunStep
from immune.core.fold import canonical_hash, fold
from immune.core.policy import ApprovalsPolicy, HealingPolicy, LimitsPolicy, Policy
from immune.core.state import RunState
from immune.core.vitals import AgentIdentity, SampleBatch, VitalSchema
from immune.errors import FencedError, StoreUnavailableError
from immune.ports import Answer
from immune.runtime.executor import Executor
from immune.runtime.measurements import MeasurementQueue
from immune.runtime.supervisor import Failure, Supervisor
from tests.doubles import START_US, US, FailingTelemetry, FlakyConnector, World, engine_over, kinds, live

ACTING = Policy(mode="act", healing=HealingPolicy(settle_s=600.0))


class Beat:
    """A source of one sample a tick that can be slow."""

    name = "beat"

    def __init__(self, slow_at=None, slow_s=0.0):
        self.slow_at, self.slow_s, self.times = slow_at, slow_s, []

    def open(self, desk):
        desk.roster.enroll(AgentIdentity(agent_id="a-0"))

    async def collect(self, now_us):
        self.times.append(now_us)
        if len(self.times) == self.slow_at:
            await asyncio.sleep(self.slow_s)
        batch = SampleBatch.blank(1)
        batch.at_us[:] = now_us
        return batch

    async def close(self):
        pass


def beats(source, ticks, **more):
    engine = engine_over(World(agents=1), sources=[source], **more)

    async def life():
        engine.start(START_US)
        await engine.run(VirtualClock(START_US), first_us=START_US, until_us=START_US + ticks * US)

    run_virtual(life())
    return engine


def test_ticks_come_at_start_plus_n_periods_without_drift():
    source = Beat()
    engine = beats(source, 500)
    assert source.times == [START_US + n * US for n in range(500)]
    assert (engine.counters.ticks, engine.counters.ticks_skipped) == (500, 0)


@pytest.mark.fault("F24")
def test_a_tick_that_comes_too_late_is_skipped_and_counted_and_the_beat_is_kept():
    source = Beat(slow_at=3, slow_s=4.4)
    engine = beats(source, 20)
    missing = {(at - START_US) // US for at in source.times} ^ set(range(20))
    assert missing == {3, 4, 5}
    assert engine.counters.ticks_skipped == 3
    assert all((at - START_US) % US == 0 for at in source.times)


def test_a_long_stall_at_the_end_makes_no_tick_after_the_end():
    source = Beat(slow_at=18, slow_s=50.0)
    engine = beats(source, 20)
    assert max(source.times) < START_US + 20 * US
    assert engine.counters.ticks + engine.counters.ticks_skipped == 20


# -- measurements


def batch(n):
    return SampleBatch.blank(n)


def test_the_account_of_measurements_is_exact_whatever_the_store_does():
    store = FailingTelemetry()
    store.begin("r", VitalSchema())
    queue = MeasurementQueue(store, "r", limit_ticks=3)
    offered = 0
    for tick in range(40):
        store.broken = tick % 10 in (2, 3, 4, 5, 6, 7)
        offered += tick % 4
        queue.offer(tick, tick * US, batch(tick % 4))
        queue.drain()
        account = queue.account()
        assert account.accepted == offered == account.stored + account.waiting + account.dropped
        assert account.stored == store.counts("r")
    assert account.dropped > 0
    assert queue.newly_dropped() == account.dropped
    assert queue.newly_dropped() == 0


def test_a_store_that_fails_for_a_while_stops_no_tick_loses_nothing_uncounted_and_is_on_record():
    store = FailingTelemetry()
    source = Beat()
    engine = engine_over(World(agents=1), sources=[source], telemetry=store, policy=Policy(limits=LimitsPolicy(telemetry_queue_ticks=5)))
    engine.on_tick = lambda now_us: setattr(store, "broken", now_us < START_US + 90 * US)
    store.broken = True

    async def life():
        engine.start(START_US)
        await engine.run(VirtualClock(START_US), first_us=START_US, until_us=START_US + 100 * US)
        await engine.finish(START_US + 100 * US, "done")

    run_virtual(life())
    account = engine.queue.account()
    assert (account.accepted, account.stored, account.waiting) == (100, 100 - account.dropped, 0)
    assert sum(event.samples for _, event in kinds(engine, "telemetry_lost")) == account.dropped > 50
    assert store.agents("r-1") == ("a-0",)


# -- supervision


@pytest.mark.fault("F54")
def test_a_child_that_dies_is_reported_and_started_again_with_back_off_and_takes_nobody_along():
    clock, deaths, alive = VirtualClock(START_US), [], []

    async def dies():
        raise ValueError("boom")

    async def lives():
        while True:
            alive.append(clock.now_us())
            await asyncio.sleep(1.0)

    async def main():
        supervisor = Supervisor(clock, lambda failure: deaths.append((clock.now_us() - START_US, failure)))
        supervisor.start("mortal", dies)
        supervisor.start("steady", lives)
        await asyncio.sleep(20.0)
        await supervisor.stop()

    run_virtual(main())
    assert [at / US for at, _ in deaths] == [0.0, 0.5, 1.5, 3.5, 8.5, 18.5]
    assert deaths[1][1] == Failure(child="mortal", error="ValueError: boom", failures=2, restart_in_s=1.0)
    assert len(alive) == 20


def test_of_what_a_child_died_of_only_the_beginning_goes_on_record():
    clock, deaths = VirtualClock(START_US), []

    async def dies_of_what_it_read():
        raise ValueError("x" * 1_000_000)

    async def main():
        supervisor = Supervisor(clock, deaths.append)
        supervisor.start("reader", dies_of_what_it_read)
        await asyncio.sleep(0.2)
        await supervisor.stop()
        return supervisor.children()[0]

    child = run_virtual(main())
    assert len(deaths[0].error) == 300
    assert child.last_error == deaths[0].error


def test_a_child_whose_inner_task_was_cancelled_is_started_again_too():
    clock, deaths = VirtualClock(START_US), []

    async def cancelled_inside():
        raise asyncio.CancelledError

    async def main():
        supervisor = Supervisor(clock, deaths.append)
        supervisor.start("child", cancelled_inside)
        await asyncio.sleep(0.2)
        await supervisor.stop()

    run_virtual(main())
    assert [failure.child for failure in deaths] == ["child"]


def test_a_child_that_ran_long_is_forgiven_and_one_that_ends_is_not_started_again():
    clock, deaths, runs = VirtualClock(START_US), [], []

    async def dies_late():
        await asyncio.sleep(400.0)
        raise ValueError("boom")

    async def ends():
        runs.append(1)

    async def main():
        supervisor = Supervisor(clock, deaths.append)
        supervisor.start("old", dies_late)
        supervisor.start("short", ends)
        await asyncio.sleep(1300.0)
        await supervisor.stop()

    run_virtual(main())
    assert [failure.failures for failure in deaths] == [1, 1, 1]
    assert runs == [1]


@pytest.mark.fault("F54")
def test_a_childs_death_is_journalled_with_the_next_tick():
    world = World(agents=1)
    failure = Failure(child="stream", error="ValueError: x", failures=1, restart_in_s=0.5)
    engine = live(world, ticks=3, at={0: lambda engine, now_us: engine.failed(failure, now_us)})
    assert [(subject, event.error) for subject, event in kinds(engine, "child_failed")] == [("stream", "ValueError: x")]


# -- listeners and fencing


def test_listeners_hear_every_event_once_and_in_order():
    world = World(agents=3)
    world.patients[0].ratio = 8.0
    engine = engine_over(world, connectors=[FlakyConnector(world)], policy=ACTING)
    heard = []
    engine.listeners.append(lambda envelopes, view: heard.extend(envelopes))

    def contain(engine, now_us):
        commands = Commands(state=engine.state, rules=engine.rules, principal=Principal(name="ann", role="admin"), now_us=now_us)
        engine.submit(commands.contain("agent", "a-1", "isolated", "odd"))

    live(world, engine=engine, ticks=12, at={4: contain})
    run_virtual(engine.finish(START_US + 12 * US, "done"))
    assert heard == list(engine.journal.read("r-1"))


@pytest.mark.fault("F57")
def test_an_engine_that_was_taken_over_writes_nothing_any_more():
    world = World(agents=1)
    engine = live(world, ticks=2)
    engine.journal.acquire("r-1", "another", START_US + 5 * US)
    with pytest.raises(FencedError):
        engine.submit(_stop(engine))


def _stop(engine):
    commands = Commands(state=engine.state, rules=engine.rules, principal=Principal(name="ann", role="admin"), now_us=START_US + 6 * US)
    return commands.contain("fleet", "fleet", "isolated", "stop")


def test_no_effect_happens_before_its_event_is_durable():
    world = World(agents=1)
    hands = FlakyConnector(world)
    engine = live(world, hands, ticks=2)

    def full(*_args, **_named):
        raise StoreUnavailableError("no space left", field="journal")

    engine.journal.append = full
    with pytest.raises(StoreUnavailableError):
        engine.submit(_stop(engine))
    assert hands.orders == {}
    assert engine.state.agents["a-0"].desired == "none"


# -- restarts


def test_a_restart_folds_what_was_and_holds_before_anybody_works():
    world = World(agents=40)
    for patient in world.patients[:30]:
        patient.ratio = 8.0
    hands = FlakyConnector(world)

    def stop_all(engine, now_us):
        engine.submit(_stop(engine))

    first = live(world, hands, ticks=8, policy=ACTING, at={4: stop_all})
    known = canonical_hash(first.state)
    first.journal.close()
    for patient in world.patients:
        patient.level = "none"  # whoever held them is gone
    worked = [patient.samples for patient in world.patients]
    again = live(world, hands, ticks=5, first_tick=9, journal=first.journal.another(), policy=ACTING)
    assert canonical_hash(fold(RunState(), list(again.journal.read("r-1"))[: first.state.seq])) == known
    assert [patient.samples for patient in world.patients] == worked, "somebody worked before the block held again"
    assert again.state.epoch == first.state.epoch + 1
    assert again.sentinel.held == {agent.index for agent in again.state.agents.values() if agent.incident_id}


@pytest.mark.fault("F24")
def test_a_daemon_that_slept_takes_its_own_absence_for_nobodys_silence():
    engine = live(World(agents=2), ticks=10)
    assert engine.sentinel.woken_us == []
    for seconds in (11, 13, 17, 3_600, 3_601):
        run_virtual(engine.tick(START_US + seconds * US))
    assert engine.sentinel.woken_us == [START_US + 3_600 * US]


def test_a_restart_grants_starts_and_releases_nothing_by_itself():
    world = World(agents=2)
    world.patients[0].ratio = 8.0
    asking = Policy(mode="act", approvals=ApprovalsPolicy(severity_at=0.0), healing=HealingPolicy(settle_s=2.0))
    first = live(world, ticks=10, policy=asking)
    first.journal.close()
    again = live(world, ticks=10, first_tick=10, journal=first.journal.another(), policy=asking)
    after = [e.kind for e in again.journal.read("r-1", after_seq=first.state.seq)]
    assert not {"approval_granted", "plan_started", "released", "approval_closed"} & set(after)
    assert again.state.approvals["req-0001"].status == "pending"


def test_a_step_that_ran_when_the_daemon_died_counts_as_unknown_and_is_undone_once():
    world = World(agents=2)
    world.patients[0].ratio = 8.0
    policy = Policy(mode="act", approvals=ApprovalsPolicy(severity_at=10.0), healing=HealingPolicy(settle_s=2.0))

    class Hanging(FlakyConnector):
        async def perform(self, agent_id, action, *, key, epoch):
            await asyncio.sleep(3600)

    first = live(world, Hanging(world), ticks=8, policy=policy)
    assert first.state.plans["plan-0001"].steps[0].status == "running"
    first.journal.close()
    hands = FlakyConnector(world)
    again = live(world, hands, ticks=10, first_tick=8, journal=first.journal.another(), policy=policy)
    assert kinds(again, "step_finished")[0][1].outcome == "unknown"
    assert hands.effects[0] == ("a-0", "reset_memory", "undo")
    assert again.state.plans["plan-0001"].outcome == "compensated"


def test_whoever_enrols_into_a_stopped_fleet_is_stopped_at_once():
    world = World(agents=3)
    world.enrolled = 2
    engine = live(
        world,
        ticks=8,
        at={2: lambda engine, now_us: engine.submit(_stop(engine)), 4: lambda *_: setattr(world, "enrolled", 3)},
    )
    assert engine.state.agents["a-2"].observed == "isolated"
    assert world.patients[2].samples <= 1


def test_a_block_that_lands_late_at_somebody_nobody_watches_is_seen_and_undone():
    world = World(agents=1)
    engine = live(world, ticks=60, at={5: lambda *_: setattr(world.patients[0], "level", "throttled")})
    assert [event.after for _, event in kinds(engine, "enforcement_observed")] == ["throttled", "none"]
    assert world.patients[0].level == "none"


# -- the executor


class Slow:
    """A connector that takes its time, by level."""

    name = "slow"

    def __init__(self, seconds):
        self.seconds, self.done = seconds, []

    def knows(self, agent_id):
        return agent_id != "stranger"

    def can(self, agent_id, action):
        return True

    def observed(self, agent_id):
        return None

    async def contain(self, agent_id, level, *, epoch):
        await asyncio.sleep(self.seconds.get(level, 0.0))
        self.done.append((agent_id, level))
        return Answer(outcome="succeeded")

    async def allow(self, agent_id, dispatches, *, epoch):
        self.done.append((agent_id, dispatches))
        return Answer(outcome="succeeded")


def carried_out(seconds, *orders):
    connector = Slow(seconds)

    async def main():
        executor = Executor([connector], lambda effect, answer: connector.done.append(answer))
        for order in orders:
            (executor.enforce if isinstance(order, Enforce) else executor.allow)(order)
            await asyncio.sleep(0.1)
        await executor.settle(60.0)
        await executor.stop()
        return executor

    return connector.done, run_virtual(main())


def enforce(agent_id, level):
    return Enforce(agent_id=agent_id, level=level)


def test_a_slow_order_never_lands_after_a_newer_one():
    done, _ = carried_out({"none": 5.0}, enforce("a", "none"), enforce("a", "isolated"), enforce("b", "isolated"))
    assert done == [("b", "isolated"), ("a", "none"), ("a", "isolated")]


def test_only_the_newest_of_the_waiting_orders_is_carried_out():
    done, _ = carried_out({"none": 5.0}, enforce("a", "none"), enforce("a", "throttled"), enforce("a", "isolated"))
    assert done == [("a", "none"), ("a", "isolated")]


def test_canary_work_comes_after_the_level_it_needs_and_a_newer_level_takes_it_back():
    canary = AllowCanary(agent_id="a", dispatches=9)
    done, _ = carried_out({"isolated": 5.0}, enforce("a", "isolated"), canary)
    assert done == [("a", "isolated"), ("a", 9)]
    done, _ = carried_out({"isolated": 5.0}, enforce("a", "isolated"), canary, enforce("a", "evicted"))
    assert done == [("a", "isolated"), ("a", "evicted")]


@pytest.mark.fault("F50")
def test_a_connector_that_hangs_costs_its_own_agent_and_the_error_is_kept():
    done, executor = carried_out({"isolated": 3600.0}, enforce("a", "isolated"), enforce("b", "throttled"))
    assert done == [("b", "throttled")]
    assert "no answer within" in executor.level_errors["a"]


def test_an_agent_that_no_connector_knows_is_an_error_on_record_and_its_healing_unsupported():
    step = RunStep(plan_id="p", step=0, agent_id="stranger", action="reset_memory", key="k", timeout_s=1.0, undo=False)
    done, executor = carried_out({}, enforce("stranger", "isolated"))
    assert "no connector" in executor.level_errors["stranger"]
    assert executor.observed("stranger") is None

    async def main():
        executor.run_step(step)
        await asyncio.sleep(1.0)

    run_virtual(main())
    assert done[-1].outcome == "unsupported"
