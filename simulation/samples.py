"""What agents say of their work: steps become samples, with the words of the fleet as codes of the desk's lexicon."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from immune.core.vitals import CONTEXT_FIELDS, VITALS, AgentIdentity, SampleBatch, Status
from immune.ports import Desk
from simulation.agents import KINDS, MODELS, Cast, prompt_hash
from simulation.infections import Effects
from simulation.work import Steps

PROVIDER, MODEL, VERSION, PROMPT, TOOL, TASK = range(len(CONTEXT_FIELDS))
TOOL_CALLS = next(column for column, spec in enumerate(VITALS) if spec.name == "tool_calls")
TASK_NUMBER_BITS = 32


@dataclass(frozen=True, slots=True)
class _Row:
    values: NDArray[np.float64]
    step: int
    task_id: int
    codes: NDArray[np.int32]


class Reporter:
    """Turns the steps of a tick into a batch, for one desk.

    prompt   the prompt an agent runs where it is not the one of its kind, by index
    revoked  the tool taken from an agent, by index
    """

    def __init__(self, cast: Cast, desk: Desk) -> None:
        self.prompt: dict[int, str] = {}
        self.revoked: dict[int, str] = {}
        self._cast = cast
        self._code = desk.lexicon.code
        self._rows = np.array([desk.roster.enroll(_identity(cast, i)) for i in range(len(cast))], dtype=np.int32)
        self.vitals = len(desk.schema)
        self._columns = [(desk.schema.column(spec.name), spec.name) for spec in VITALS]
        self._tools = np.array([[self._code(tool) for tool in kind.tools] for kind in KINDS], dtype=np.int32)
        self._tasks = np.array([[self._code(task.name) for task in kind.tasks] for kind in KINDS], dtype=np.int32)
        self._codes = np.zeros((len(cast), len(CONTEXT_FIELDS)), dtype=np.int32)
        self._codes[:, PROVIDER] = np.array([self._code(model.provider) for model in MODELS], dtype=np.int32)[cast.model]
        self._codes[:, MODEL] = np.array([self._code(model.name) for model in MODELS], dtype=np.int32)[cast.model]
        self._codes[:, VERSION] = np.array([self._code(kind.version) for kind in KINDS], dtype=np.int32)[cast.kind]
        self._codes[:, PROMPT] = np.array([self._code(prompt_hash(kind.name, kind.version)) for kind in KINDS], dtype=np.int32)[cast.kind]
        self._frozen: dict[int, _Row] = {}

    def batch(self, at_us: int, period_us: int, steps: Steps, effects: Effects, blocked: Collection[str] = ()) -> SampleBatch:
        """One sample of each agent that is present: a step worked, or a heartbeat without vitals. Blocked tools are not called."""
        n, idle = len(self._cast), ~steps.worked
        values = np.full((n, self.vitals), np.nan)
        for column, name in self._columns:
            values[:, column] = getattr(steps, name)
        codes = self._codes.copy()
        codes[:, TOOL] = np.where(steps.tool_calls > 0, self._tools[self._cast.kind, steps.tool], -1)
        codes[:, TASK] = self._tasks[self._cast.kind, steps.task_kind]
        step = steps.step.astype(np.int32)
        task_id = (np.arange(1, n + 1, dtype=np.int64) << TASK_NUMBER_BITS) + steps.task_no
        self._special(steps, effects, values, codes, step, task_id)
        for tool in blocked:
            without = codes[:, TOOL] == self._code(tool)
            values[without, TOOL_CALLS] = 0.0
            codes[without, TOOL] = -1
        values[idle] = np.nan
        codes[idle] = -1
        step[idle] = -1
        task_id[idle] = 0
        whole = SampleBatch(
            agent=self._rows,
            at_us=at_us - (steps.lag * period_us).astype(np.int64),
            values=values,
            step=step,
            status=np.where(idle, np.int8(Status.IDLE), np.int8(Status.WORKING)),
            task_id=task_id,
            codes=codes,
        )
        return whole if steps.present.all() else whole.take(steps.present)

    def _special(
        self,
        steps: Steps,
        effects: Effects,
        values: NDArray[np.float64],
        codes: NDArray[np.int32],
        step: NDArray[np.int32],
        task_id: NDArray[np.int64],
    ) -> None:
        """The few agents whose words or numbers are not their usual ones."""
        for index, word in self.prompt.items():
            codes[index, PROMPT] = self._code(word)
        for index in effects.altered_prompt:
            codes[index, PROMPT] = self._code(prompt_hash("altered", self._cast.ids[index]))
        for index, tool in effects.tool.items():
            codes[index, TOOL] = self._code(tool) if steps.tool_calls[index] > 0 else -1
        for index, tool in self.revoked.items():
            if codes[index, TOOL] == self._code(tool):
                codes[index, TOOL] = self._tools[self._cast.kind[index], (int(steps.tool[index]) + 1) % self._tools.shape[1]]
        for index in list(self._frozen):
            if index not in effects.frozen:
                del self._frozen[index]
        for index in effects.frozen:
            if not steps.worked[index]:
                continue
            row = self._frozen.setdefault(index, _Row(values[index].copy(), int(step[index]), int(task_id[index]), codes[index].copy()))
            values[index], step[index], task_id[index], codes[index] = row.values, row.step, row.task_id, row.codes


def _identity(cast: Cast, index: int) -> AgentIdentity:
    return AgentIdentity(agent_id=cast.ids[index], type=KINDS[int(cast.kind[index])].name, service=cast.services[index])
