"""The auditor can fail: one rule at a time is broken on purpose, and the history that meets it names the invariant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from immune.connectors.gate import GateConnector
from immune.core import acts
from immune.core.commands import Commands
from immune.core.intake import Intake, Screened
from immune.core.planning import Planning
from immune.core.probation import Probation, Verdict
from immune.core.treating import Treatment
from immune.runtime.engine import Engine
from immune.runtime.executor import Executor
from immune.runtime.measurements import MeasurementQueue
from proving.auditor import BreachError
from proving.disk import DiskJournal
from proving.history import History
from proving.script import write

pytestmark = pytest.mark.slow  # up to forty histories a rule: `make test` has them, `make test-fast` has not

SEEDS = 40
FIRST_SEEN = {"a writer that is never asked whether it still is": 46}
"""Where the history that meets it comes late."""


class Hasty(DiskJournal):
    """Acknowledges before the disk has it."""

    syncs = False


class Forger(DiskJournal):
    """Seals one actor and stores another."""

    def append(self, run_id, drafts, *, expected_seq, epoch):
        heard = self.disk.on_synced
        self.disk.on_synced = lambda sealed: heard([replace(one, actor="person:eve") for one in sealed])
        try:
            return super().append(run_id, drafts, expected_seq=expected_seq, epoch=epoch)
        finally:
            self.disk.on_synced = heard


class Generous(DiskJournal):
    """Lets a second writer in."""

    def acquire(self, run_id, holder, now_us, *, take_over=False):
        return super().acquire(run_id, holder, now_us, take_over=True)


def nothing(*_, **__):
    return None


def always(verdict):
    return lambda self, plan: verdict


def no_undo_window(self, plan):
    request = self.state.approvals.get(plan.request_id)
    return not self._waits_for_containment(plan) and (not plan.needs_approval or (request is not None and request.status in ("granted", "pending")))


def let_go(self):
    for key in self.state.active_containments[:1]:
        containment = self.state.containments[key]
        self.docket.add(containment.target, acts.Released(containment_id=key, basis="person", reason="kind"), actor="person:ann")


def counts_and_forgets(self, tick, now_us, batch):
    self._accepted += 1


def accepts_all(self, batch, now_us):
    return Screened(batch=batch)


BROKEN = {
    "an append that is acknowledged before it is synced": (("I2", "I3", "I29"), {}, Hasty),
    "a hash that does not cover who did it": (("I1",), {}, Forger),
    "a door open to a second writer": (("I28",), {}, Generous),
    "a writer that is never asked whether it still is": (("I28",), {(Engine, "confirm"): nothing}, None),
    "probations that pass on nothing": (("I10",), {(Probation, "verdict"): always(Verdict(passed=True, samples=0, nats=0.0, reason="fine"))}, None),
    "probations that lie about their samples": (
        ("I10",),
        {(Probation, "verdict"): always(Verdict(passed=True, samples=99, nats=0.0, reason="fine"))},
        None,
    ),
    "plans that start on a request that still waits": (("I14",), {(Treatment, "_may_start"): no_undo_window}, None),
    "requests that never expire": (("I14", "I32"), {(Planning, "expire_requests"): nothing}, None),
    "decisions that can be made twice": (("I14", "I15"), {(Commands, "_still_open"): nothing}, None),
    "approvals by anybody": (("I14",), {(Commands, "_needs"): nothing, ("immune.api.app", "_check_role"): nothing}, None),
    "a disruption budget without a bound": (("I11",), {("immune.core.containing", "allowed_containments"): lambda *_: 10**6}, None),
    "a gate that lets everybody through": (("I9",), {(GateConnector, "ask"): lambda self, agent_id, level: (True, "none")}, None),
    "containment that is decided and not enforced": (("I12", "I32"), {(Executor, "enforce"): nothing}, None),
    "steps that are never undone": (("I20",), {("immune.core.healing", "to_undo"): lambda plan: []}, None),
    "plans without an end": (("I19", "I32"), {(Treatment, "_end_undone"): nothing}, None),
    "plans that do not go on": (("I32",), {(Treatment, "_advance"): nothing}, None),
    "a release that asks nobody": (("I10",), {(Planning, "remind"): let_go}, None),
    "commands that are done again when they are asked again": (("I7",), {("immune.api.commanding", "known_answer"): lambda slot, state: None}, None),
    "samples that are scored twice": (("I24",), {(Intake, "screen"): accepts_all}, None),
    "an account that forgets": (("I30",), {(MeasurementQueue, "offer"): counts_and_forgets}, None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_rule_that_is_broken_on_purpose_is_named(name, monkeypatch):
    rules, patches, journal = BROKEN[name]
    for (where, what), instead in patches.items():
        if isinstance(where, str):
            monkeypatch.setattr(f"{where}.{what}", instead)
        elif hasattr(where, what):
            monkeypatch.setattr(where, what, instead)
    found = {}
    first = FIRST_SEEN.get(name, 0)
    for seed in range(first, first + SEEDS):
        try:
            History(write(seed), build_journal=journal or DiskJournal).play()
        except BreachError as breach:
            found.setdefault(breach.rule, seed)
            if breach.rule in rules:
                break
    assert set(rules) & set(found), f"{name}: nobody noticed ({found})"
