"""Who is ill right now: infections begin, grow, end by themselves, are cured, half cured, or come back."""

from __future__ import annotations

from dataclasses import dataclass

from simulation.agents import KINDS, Cast
from simulation.chaos import PlannedInfection, Schedule
from simulation.cures import CURED_BY, Action, Attempt
from simulation.draws import stream
from simulation.infections import SYMPTOMS, Effects, Illness
from simulation.outages import ActiveOutage
from simulation.truth import Label, Truth

US = 1_000_000


@dataclass(slots=True, kw_only=True)
class Case:
    """An infection that has begun. `dormant` until `back_us`, when it relapses."""

    planned: PlannedInfection
    index: int
    onset_us: int
    ends_us: int | None
    variant: tuple[float, float]
    label: int
    intensity: float = 1.0
    back_us: int | None = None


@dataclass(slots=True, kw_only=True)
class _RunningOutage:
    active: ActiveOutage
    onset_us: int
    ends_us: int
    label: int


class Ward:
    """Applies a schedule to a fleet, tick by tick, and writes what truly happened into the sealed record.

    `pretend` writes the labels but leaves the agents well; `zero_us` is the end of the warm-up.
    """

    def __init__(self, *, cast: Cast, effects: Effects, truth: Truth, seed: int, zero_us: int, ends_by_itself: bool, pretend: bool) -> None:
        self._cast, self._effects, self._truth = cast, effects, truth
        self._seed, self._zero_us = seed, zero_us
        self._ends_by_itself, self._pretend = ends_by_itself, pretend
        self._index = {agent_id: index for index, agent_id in enumerate(cast.ids)}
        self._waiting: list[PlannedInfection] = []
        self._waiting_outages: list[ActiveOutage] = []
        self._cases: dict[int, Case] = {}
        self._outages: list[_RunningOutage] = []
        self._outages_seen = 0

    def plan(self, schedule: Schedule) -> None:
        """Add what is to come."""
        self._waiting = sorted([*self._waiting, *schedule.infections], key=lambda planned: planned.at_s)
        for outage in sorted(schedule.outages, key=lambda outage: outage.at_s):
            self._waiting_outages.append(ActiveOutage(outage, self._cast, self._seed, self._outages_seen))
            self._outages_seen += 1

    def advance(self, now_us: int) -> None:
        """Let begin, end and relapse what is due, and make the ill show their symptoms in the coming step."""
        while self._waiting and self._due_us(self._waiting[0].at_s) <= now_us:
            self._begin(self._waiting.pop(0), now_us)
        while self._waiting_outages and self._due_us(self._waiting_outages[0].outage.at_s) <= now_us:
            self._begin_outage(self._waiting_outages.pop(0), now_us)
        for case in list(self._cases.values()):
            self._advance_case(case, now_us)
        for running in list(self._outages):
            self._advance_outage(running, now_us)

    def treat(self, index: int, action: Action, attempt: Attempt, now_us: int) -> None:
        """What an action that took effect does to the agent's infection, if it has one and the action is a cure for it."""
        case = self._cases.get(index)
        if case is None or attempt.cure == "none" or action not in CURED_BY[case.planned.kind]:
            return
        if attempt.cure == "half":
            case.intensity /= 2.0
            return
        if case.back_us is None:
            self._truth.end(case.label, now_us, cured_by=action)
        self._effects.calm(index)
        if attempt.cure == "relapse":
            case.back_us = now_us + round(attempt.relapse_after_s * US)
        else:
            del self._cases[index]

    def _due_us(self, at_s: float) -> int:
        return self._zero_us + round(at_s * US)

    def _begin(self, planned: PlannedInfection, now_us: int) -> None:
        index = self._index[planned.agent]
        if index in self._cases:
            self._end(self._cases[index], now_us)
        first, second = stream(self._seed, "variant", index, round(planned.at_s)).random(2).tolist()
        label = Label(kind=planned.kind, agents=(planned.agent,), onset_us=now_us, reached_us=(now_us,), strength=planned.strength)
        self._cases[index] = Case(
            planned=planned,
            index=index,
            onset_us=now_us,
            ends_us=now_us + round(planned.duration_s * US) if self._ends_by_itself else None,
            variant=(first, second),
            label=self._truth.write(label),
        )

    def _advance_case(self, case: Case, now_us: int) -> None:
        if case.ends_us is not None and now_us >= case.ends_us:
            self._end(case, now_us)
            return
        if case.back_us is not None:
            if now_us < case.back_us:
                return
            self._relapse(case, now_us)
        if not self._pretend:
            SYMPTOMS[case.planned.kind](self._effects, case.index, self._illness(case, now_us))

    def _illness(self, case: Case, now_us: int) -> Illness:
        tools = KINDS[int(self._cast.kind[case.index])].tools
        return Illness(
            kind=case.planned.kind,
            strength=case.planned.strength,
            intensity=case.intensity,
            age_s=(now_us - case.onset_us) / US,
            variant=case.variant,
            own_tool=tools[int(case.variant[0] * len(tools))],
        )

    def _relapse(self, case: Case, now_us: int) -> None:
        agent = case.planned.agent
        case.back_us = None
        case.label = self._truth.write(
            Label(kind=case.planned.kind, agents=(agent,), onset_us=now_us, reached_us=(now_us,), strength=case.planned.strength, relapse=True)
        )

    def _end(self, case: Case, now_us: int) -> None:
        self._effects.calm(case.index)
        if case.back_us is None:
            self._truth.end(case.label, now_us)
        del self._cases[case.index]

    def _begin_outage(self, active: ActiveOutage, now_us: int) -> None:
        outage = active.outage
        label = Label(
            kind="shared_outage",
            agents=tuple(self._cast.ids[index] for index in active.members),
            onset_us=now_us + round(float(active.after_s[0]) * US),
            reached_us=tuple(now_us + round(float(after_s) * US) for after_s in active.after_s),
            strength=outage.ratio,
            cause=outage.cause,
        )
        ends_us = now_us + round(outage.duration_s * US)
        self._outages.append(_RunningOutage(active=active, onset_us=now_us, ends_us=ends_us, label=self._truth.write(label)))

    def _advance_outage(self, running: _RunningOutage, now_us: int) -> None:
        if now_us >= running.ends_us:
            self._outages.remove(running)
            running.active.lift(self._effects)
            self._truth.end(running.label, now_us)
            for other in self._outages:
                other.active.renew()
        elif not self._pretend:
            running.active.apply(self._effects, (now_us - running.onset_us) / US)
