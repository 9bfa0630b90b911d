"""The simulated fleet: a source of samples, a handle that contains and heals, and a world that keeps its secrets."""

from __future__ import annotations

from collections.abc import Iterable

from immune.core.events import Level
from immune.core.vitals import SampleBatch
from immune.errors import InputError, RefusedError, UnknownIdError
from immune.ports import Desk
from simulation.agents import KINDS, Cast, counts_of_kinds, draw_cast, prompt_hash
from simulation.chaos import WINDOW_S, draw_schedule, draw_window
from simulation.control import Control
from simulation.cures import FINAL, Action, ActionAnswer, check_action, draw_attempt
from simulation.draws import check_seed, stream
from simulation.infections import Effects
from simulation.samples import Reporter
from simulation.scenario import Scenario, load_scenario
from simulation.truth import Truth
from simulation.ward import US, Ward
from simulation.work import Work

WARMUP_S = 600.0
CATCH_UP_TICKS = 300
"""After a pause of the whole machine at most this many ticks are made up for; the world slept through the rest."""

RESTART_TICKS = 2
REDUCED_AUTONOMY = 0.6


class SimulatedFleet:
    """Agents of four kinds at work, with what befalls them; implements `AgentSource`.

    agents       how many, in the mix of the scenario
    start_us     time of the first tick; infections are counted from `warmup_s` after it
    duration_s   length of the run after the warm-up; None: endless, chaos is drawn half an hour at a time
    scenario     a `Scenario`, or the name or path of one
    mislabel     write labels, but leave the agents well
    unlabelled   infect the agents, but write no labels
    disobedient  agents that ignore their containment

    Equal arguments give equal samples in every process. Raises InputError for a bad argument.
    """

    name = "simulation"

    def __init__(
        self,
        *,
        agents: int = 15,
        seed: int = 7,
        start_us: int,
        period_us: int = US,
        scenario: Scenario | str = "default",
        duration_s: float | None = None,
        warmup_s: float = WARMUP_S,
        mislabel: bool = False,
        unlabelled: bool = False,
        disobedient: Iterable[str] = (),
    ) -> None:
        _check_times(period_us, duration_s, warmup_s)
        self.seed = check_seed(seed)
        self.scenario = load_scenario(scenario) if isinstance(scenario, str) else scenario
        self.start_us, self.period_us, self.warmup_s, self.duration_s = start_us, period_us, warmup_s, duration_s
        self.cast: Cast = draw_cast(seed, counts_of_kinds(agents, self.scenario.shares), self.scenario.services)
        self.truth = Truth(keep=not unlabelled)
        self._effects, self._work, self._control = Effects(self.cast), Work(seed, self.cast), Control(len(self.cast))
        self._zero_us = start_us + round(warmup_s * US)
        self._ward = Ward(
            cast=self.cast,
            effects=self._effects,
            truth=self.truth,
            seed=seed,
            zero_us=self._zero_us,
            ends_by_itself=self.scenario.ends_by_itself,
            pretend=mislabel,
        )
        self._index = {agent_id: index for index, agent_id in enumerate(self.cast.ids)}
        self._free_from: dict[str, float] = {}
        self._windows = 0
        self._tick = -1
        self._plan_ahead()
        self._attempts = [0] * len(self.cast)
        self.blocked_tools: set[str] = set()
        self._reporter: Reporter | None = None
        for agent_id in disobedient:
            self.set_obeys(agent_id, obeys=False)

    # As a source of samples

    def open(self, desk: Desk) -> None:
        """Enrol every agent; must come before the first `collect`."""
        self._reporter = Reporter(self.cast, desk)

    async def collect(self, now_us: int) -> SampleBatch:
        """Samples of all ticks up to `now_us` that were not collected yet; see `advance`."""
        return self.advance(now_us)

    async def close(self) -> None:
        """Nothing to let go of; the labels stay sealed until `truth.unseal()`."""

    def advance(self, now_us: int) -> SampleBatch:
        """Let the world go on until `now_us` and return what its agents said, tick by tick.

        One sample per present agent and tick, with source times at most .22 periods before the tick. Raises
        RefusedError before `open` and once the labels have been unsealed.
        """
        reporter = self._reporter
        if reporter is None or self.truth.opened:
            way_out = "call open() first" if reporter is None else "start a new simulation"
            raise RefusedError("this world does not run", field="fleet", way_out=way_out)
        last = (now_us - self.start_us) // self.period_us
        first = max(self._tick + 1, last - CATCH_UP_TICKS + 1)
        return SampleBatch.concatenate([self._advance_one(tick, reporter) for tick in range(first, last + 1)], reporter.vitals)

    def _advance_one(self, tick: int, reporter: Reporter) -> SampleBatch:
        self._tick = tick
        now_us = self.now_us
        self._plan_ahead()
        self._ward.advance(now_us)
        steps = self._work.tick(tick, (now_us - self.start_us) / US, self._effects, self._control)
        return reporter.batch(now_us, self.period_us, steps, self._effects, self.blocked_tools)

    @property
    def now_us(self) -> int:
        """Time of the last tick that was worked."""
        return self.start_us + max(0, self._tick) * self.period_us

    # As a handle that contains

    def set_level(self, agent_id: str, level: Level, *, drain: bool = False) -> None:
        """Contain an agent, from the next step on; with `drain` the step in progress may finish first.

        ``throttled`` works every third step, ``restricted`` uses no tools, ``isolated`` does nothing but heartbeats
        (and canary work), ``evicted`` says nothing any more. Raises UnknownIdError, InputError.
        """
        index = self._find(agent_id)
        self._control.set_level(index, level, busy=drain and self._work.busy(index))

    def observed_level(self, agent_id: str) -> Level:
        """The level that the agent really holds now. Raises UnknownIdError."""
        return self._control.level(self._find(agent_id))

    def set_obeys(self, agent_id: str, *, obeys: bool) -> None:
        """Make an agent ignore its containment, or obey it again. Raises UnknownIdError."""
        self._control.set_obeys(self._find(agent_id), obeys=obeys)

    def canary(self, agent_id: str, n: int) -> None:
        """Let an isolated agent do n more steps, at one a tick. Raises UnknownIdError, InputError."""
        self._control.allow_canary(self._find(agent_id), n)

    def canary_left(self, agent_id: str) -> int:
        """Canary steps that have not been done yet. Raises UnknownIdError."""
        return int(self._control.canary[self._find(agent_id)])

    def escaped(self, agent_id: str | None = None) -> int:
        """Steps done while isolated that were neither canary work nor in progress; of one agent or of all."""
        return int(self._control.escaped.sum() if agent_id is None else self._control.escaped[self._find(agent_id)])

    def refused(self, agent_id: str | None = None) -> int:
        """Steps that isolated agents wanted to do and were refused; of one agent or of all."""
        return int(self._control.refused.sum() if agent_id is None else self._control.refused[self._find(agent_id)])

    def block_tool(self, tool: str, *, blocked: bool) -> None:
        """Take a tool from every agent, or give it back; a step that would have used it goes on without."""
        (self.blocked_tools.add if blocked else self.blocked_tools.discard)(tool)

    # As a handle that heals

    def perform(self, agent_id: str, action: str) -> ActionAnswer:
        """Carry out a healing action now; it says whether it ran, never whether it cured.

        An answer of ``unknown`` with infinite `after_s` is an action that hangs; it may have taken effect. Raises
        UnknownIdError, InputError.
        """
        index, known = self._find(agent_id), check_action(action)
        attempt = draw_attempt(self.scenario.cures, stream(self.seed, "action", index, self._attempts[index]))
        self._attempts[index] += 1
        if attempt.takes_effect:
            self._change(index, known)
            self._ward.treat(index, known, attempt, self.now_us)
        return attempt.answer

    def compensate(self, agent_id: str, action: str) -> ActionAnswer:
        """Undo an action; what cannot be undone answers ``failed``. Raises UnknownIdError, InputError."""
        index, known = self._find(agent_id), check_action(action)
        if known in FINAL:
            return ActionAnswer(outcome="failed")
        if known == "rollback_prompt":
            self._opened().prompt.pop(index, None)
        elif known == "revoke_tools":
            self._opened().revoked.pop(index, None)
        elif known == "reduce_autonomy":
            self._work.autonomy[index] = 1.0
        return ActionAnswer(outcome="succeeded")

    def _change(self, index: int, action: Action) -> None:
        """What an action changes in the agent's work, whether it is ill or not."""
        kind, reporter = KINDS[int(self.cast.kind[index])], self._opened()
        if action == "reset_memory":
            self._work.drop_task(index, 0)
        elif action == "rollback_prompt":
            reporter.prompt[index] = prompt_hash(kind.name, f"before {kind.version}")
        elif action == "reduce_autonomy":
            self._work.autonomy[index] = REDUCED_AUTONOMY
        elif action == "revoke_tools":
            reporter.revoked[index] = self._effects.tool.get(index, kind.tools[0])
        elif action != "clear_cache":
            self._work.drop_task(index, RESTART_TICKS)
        if action in FINAL:
            reporter.prompt.pop(index, None)
            reporter.revoked.pop(index, None)
            self._work.autonomy[index] = 1.0

    # What is to come

    def _plan_ahead(self) -> None:
        """Draw the whole schedule of a run with an end, or the next window of an endless one when it comes near."""
        if self._windows == 0:
            self._ward.plan(self.scenario.listed(self.cast, self.seed))
        if self.duration_s is not None:
            if self._windows == 0:
                self._ward.plan(draw_schedule(self.seed, self.duration_s, self.cast, self.scenario.chaos))
                self._windows = 1
            return
        while self._windows == 0 or self.now_us >= self._zero_us + round(self._windows * WINDOW_S * US):
            self._ward.plan(draw_window(self.seed, self._windows, WINDOW_S, self.cast, self.scenario.chaos, self._free_from))
            self._windows += 1

    def _opened(self) -> Reporter:
        if self._reporter is None:
            raise RefusedError("this world does not run", field="fleet", way_out="call open() first")
        return self._reporter

    def _find(self, agent_id: str) -> int:
        index = self._index.get(agent_id)
        if index is None:
            raise UnknownIdError("no agent of this fleet has that id", field="agent", value=agent_id, way_out=f"for instance {self.cast.ids[0]}")
        return index


def _check_times(period_us: int, duration_s: float | None, warmup_s: float) -> None:
    if not 0 < period_us < 1 << 40:
        raise InputError("a period is longer than nothing", field="period_us", value=period_us)
    if duration_s is not None and not 0 < duration_s < 1e9:
        raise InputError("a run is longer than nothing", field="duration_s", value=duration_s, way_out="give seconds, for instance 60")
    if not 0 <= warmup_s < 1e9:
        raise InputError("a warm-up is a number of seconds of at least 0", field="warmup_s", value=warmup_s)
