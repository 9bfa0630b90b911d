"""What an open incident says of itself while its evidence comes and goes."""

from __future__ import annotations

from dataclasses import replace

from immune.core.evidence import Assessment
from immune.core.policy import DetectionPolicy, Policy
from tests.doubles import ScriptedSentinel, World, kinds, live

POLICY = Policy(mode="observe", detection=DetectionPolicy(close_after_s=1_000.0, update_every_s=1.0))


class Fading(ScriptedSentinel):
    """Sees an explosion of tokens whose evidence falls away from a tick on, and in the rest of it lost confidence."""

    def __init__(self, world, *, from_tick, left):
        super().__init__(world)
        self.from_tick, self.left, self.ticks = from_tick, left, 0

    def observe(self, batch, now_us) -> Assessment:
        seen = super().observe(batch, now_us)
        self.ticks += 1
        if self.ticks < self.from_tick:
            return seen
        return replace(seen, findings=tuple(self._faded(finding) for finding in seen.findings))

    def _faded(self, finding):
        nats = finding.nats * self.left
        rest = replace(finding.evidence[0], vital="confidence", direction="down", nats=nats, ratio=0.5)
        return replace(finding, nats=nats, evidence=(rest,))


def kinds_named(left):
    world = World(agents=4)
    world.patients[0].ratio = 8.0
    engine = live(world, policy=POLICY, ticks=40, sentinel=Fading(world, from_tick=20, left=left))
    (incident,) = engine.state.incidents.values()
    return incident.top_kind, kinds(engine, "incident_updated")


def test_what_is_left_of_fading_evidence_gives_an_incident_no_other_name():
    name, updates = kinds_named(left=0.6)
    assert name == "token_explosion"
    assert all(update.nats >= 20.0 for _, update in updates)


def test_evidence_that_stays_as_strong_may_give_an_incident_another_name():
    assert kinds_named(left=1.0)[0] == "confidence_collapse"


def test_an_incident_keeps_account_of_its_strongest_evidence():
    _, updates = kinds_named(left=0.6)
    assert max(update.nats for _, update in updates) > 55.0
