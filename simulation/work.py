"""The work of the fleet: tasks, step by step, for all agents at once.

Each tick every agent draws the same number of random numbers at its own place, whether it uses them or not: what
befalls one agent never shifts the life of another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.agents import CONTEXT_WINDOW_TOKENS, DAY_S, KINDS, Bools, Cast, Floats, Ints, poisson_cdf
from simulation.control import Control
from simulation.draws import stream
from simulation.infections import Effects

OUTPUT, GROWTH, LATENCY, INPUT, CONFIDENCE, LENGTH, START = range(7)
TASK, TOOL, CALLS, RETRIES, ERRORS, PAUSE, JITTER = range(7)
NORMALS = UNIFORMS = 7
BLOCK_NUMBERS = 100_000

OUTPUT_TO_CONTEXT = 0.3
MS_PER_INPUT_TOKEN = 0.012
LATENCY_PER_RETRY = 0.1
FIRST_STEP_OUTPUT = 0.25
DRIFT_EVERY_TICKS = 16


class Noise:
    """Standard normals and uniforms, (7, n) each per tick, drawn many ticks at a time."""

    def __init__(self, seed: int, n: int) -> None:
        self._normal_rng, self._uniform_rng = stream(seed, "normals"), stream(seed, "uniforms")
        self._n = n
        self._ticks = max(1, BLOCK_NUMBERS // (NORMALS * max(1, n)))
        self._left = 0
        self._normals: Floats = np.empty((0, NORMALS, n))
        self._uniforms: Floats = np.empty((0, UNIFORMS, n))

    def draw(self) -> tuple[Floats, Floats]:
        """The numbers of the next tick."""
        if self._left == 0:
            self._left = self._ticks
            self._normals = self._normal_rng.standard_normal((self._ticks, NORMALS, self._n))
            self._uniforms = self._uniform_rng.random((self._ticks, UNIFORMS, self._n))
        at = self._ticks - self._left
        self._left -= 1
        return self._normals[at], self._uniforms[at]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What n agents did in one tick; rows of agents that did not work hold numbers without meaning.

    present  says something at all: a worked step or a heartbeat
    worked   did a step of its task
    tool     place of the tool among its kind's tools
    lag      how long before the tick the sample was taken, share of a period
    """

    present: Bools
    worked: Bools
    step: Ints
    task_kind: Ints
    task_no: Ints
    tool: Ints
    lag: Floats
    latency_ms: Floats
    input_tokens: Floats
    output_tokens: Floats
    cost_usd: Floats
    tool_calls: Floats
    retries: Floats
    errors: Floats
    context_tokens: Floats
    confidence: Floats


class Work:
    """The state of n agents at work, advanced tick by tick."""

    def __init__(self, seed: int, cast: Cast) -> None:
        n = len(cast)
        self.cast = cast
        self._noise = Noise(seed, n)
        rng = stream(seed, "start")
        self.pause: Ints = rng.integers(0, 12, n)
        self.step: Ints = np.full(n, -1, dtype=np.int64)
        self.steps_total: Ints = np.zeros(n, dtype=np.int64)
        self.task_kind: Ints = np.zeros(n, dtype=np.int64)
        self.task_no: Ints = np.zeros(n, dtype=np.int64)
        self.context: Floats = np.zeros(n)
        self.autonomy: Floats = np.ones(n)
        self._log_task_output: Floats = np.zeros(n)
        self._drift: Floats = np.zeros(n)
        self._steps_of_task = np.array([[task.steps for task in kind.tasks] for kind in KINDS])
        self._output_of_task = np.log(np.array([[task.output for task in kind.tasks] for kind in KINDS]))
        self._context_of_task = np.array([[task.context for task in kind.tasks] for kind in KINDS])

    def tick(self, tick: int, time_s: float, effects: Effects, control: Control) -> Steps:
        """Advance every agent by one tick and say what each did."""
        normal, uniform = self._noise.draw()
        if tick % DRIFT_EVERY_TICKS == 0:
            self._drift = self.cast.drift * np.sin(2 * np.pi * (time_s / DAY_S + self.cast.phase))
        present, ready, worked = self._who(tick, effects, control)
        fresh = np.flatnonzero(worked & (self.step < 0))
        if fresh.size:
            self._start_tasks(fresh, normal, uniform)
        done = self._do(normal, uniform, effects, control, present, worked)
        control.account(worked, ready)
        self._move_on(normal, uniform, effects, worked, done.output_tokens)
        return done

    def drop_task(self, index: int, pause_ticks: int) -> None:
        """Abandon an agent's task; it starts another after the pause."""
        self.step[index] = -1
        self.pause[index] = pause_ticks

    def busy(self, index: int) -> bool:
        """Is this agent in the middle of a task?"""
        return bool(self.step[index] >= 0 and self.pause[index] == 0)

    def _who(self, tick: int, effects: Effects, control: Control) -> tuple[Bools, Bools, Bools]:
        """(present, ready to work, working), and pauses grow shorter."""
        present = ~effects.silent
        gone = control.gone()
        if gone is not None:
            present &= ~gone
        may = control.may_work(tick)
        if may is None:
            resting = present & (self.pause > 0)
            ready = worked = present & ~resting
        else:
            self.pause[control.canary > 0] = 0
            resting = present & may & (self.pause > 0)
            ready = present & (self.pause == 0)
            worked = ready & may
        self.pause -= resting
        return present, ready, worked

    def _start_tasks(self, fresh: NDArray[np.intp], normal: Floats, uniform: Floats) -> None:
        cast, kind = self.cast, self.cast.kind[fresh]
        task = (uniform[TASK, fresh] * 3).astype(np.int64)
        length = cast.steps[fresh] * self._steps_of_task[kind, task] * np.exp(0.35 * normal[LENGTH, fresh]) * self.autonomy[fresh]
        self.steps_total[fresh] = np.rint(np.clip(length, cast.steps_low[fresh], cast.steps_high[fresh]))
        self.context[fresh] = cast.context[fresh] * self._context_of_task[kind, task] * np.exp(0.12 * normal[START, fresh])
        self._log_task_output[fresh] = self._output_of_task[kind, task]
        self.task_kind[fresh] = task
        self.task_no[fresh] += 1
        self.step[fresh] = 0

    def _do(self, normal: Floats, uniform: Floats, effects: Effects, control: Control, present: Bools, worked: Bools) -> Steps:
        cast, drift = self.cast, self._drift
        log_output = cast.log_output + self._log_task_output + cast.output_sd * normal[OUTPUT] + drift + FIRST_STEP_OUTPUT * (self.step == 0)
        output = np.rint(np.exp(log_output) * effects.output) + 1.0
        context = np.rint(np.minimum(self.context + effects.leaked, CONTEXT_WINDOW_TOKENS))
        input_tokens = np.rint(context * 0.95 * np.exp(0.04 * normal[INPUT]))
        tool_calls = _counts(uniform[CALLS], cast.tool_cdf, effects.tool_rate)
        without_tools = control.without_tools()
        if without_tools is not None:
            tool_calls[without_tools] = 0.0
        retries = _counts(uniform[RETRIES], cast.retry_cdf, effects.retry_rate)
        answer_ms = cast.first_token_ms + cast.ms_per_token * output + MS_PER_INPUT_TOKEN * input_tokens
        latency = answer_ms * np.exp(cast.log_latency + 0.2 * normal[LATENCY] + drift)
        latency *= effects.latency * effects.outage_latency * (1.0 + LATENCY_PER_RETRY * retries)
        cost = (cast.usd_per_input * input_tokens + cast.usd_per_output * output) * effects.price
        return Steps(
            present=present,
            worked=worked,
            step=self.step.copy(),
            task_kind=self.task_kind,
            task_no=self.task_no,
            tool=(uniform[TOOL] ** 2 * 4).astype(np.int64),
            lag=cast.lag + 0.02 * uniform[JITTER],
            latency_ms=np.round(latency, 2),
            input_tokens=input_tokens,
            output_tokens=output,
            cost_usd=np.round(cost, 7),
            tool_calls=tool_calls,
            retries=retries,
            errors=_counts(uniform[ERRORS], cast.error_cdf, effects.outage_error_rate | effects.error_rate),
            context_tokens=context,
            confidence=np.round(np.clip(effects.confidence + 0.04 * normal[CONFIDENCE], 0.01, 0.99), 4),
        )

    def _move_on(self, normal: Floats, uniform: Floats, effects: Effects, worked: Bools, output: Floats) -> None:
        growth = (self.cast.growth * np.exp(0.4 * normal[GROWTH]) + OUTPUT_TO_CONTEXT * output) * effects.growth
        self.context = np.minimum(self.context + growth * worked, CONTEXT_WINDOW_TOKENS)
        self.step += worked & ~effects.held
        ended = np.flatnonzero(worked & (self.step >= self.steps_total))
        if ended.size:
            self.step[ended] = -1
            self.pause[ended] = 1 + (uniform[PAUSE, ended] * self.cast.pause_ticks[ended]).astype(np.int64)


def _counts(uniform: Floats, cdf: Floats, rates: dict[int, float]) -> Floats:
    """Poisson counts by inversion: the usual rate for all, another one for those in `rates`."""
    counts: Floats = (uniform[:, None] > cdf).sum(axis=1).astype(np.float64)
    if rates:
        rows = np.fromiter(rates, dtype=np.int64, count=len(rates))
        own = np.fromiter(rates.values(), dtype=np.float64, count=len(rates))
        terms = int(own.max() + 6.0 * own.max() ** 0.5) + 4
        counts[rows] = (uniform[rows, None] > poisson_cdf(own, terms)).sum(axis=1)
    return counts
