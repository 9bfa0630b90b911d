"""What is measured of an agent, and how a batch of measurements looks inside.

Everything past the edge travels as a `SampleBatch`: arrays over samples, never an object per agent. Strings become
small integers in a `Lexicon`, agents become indices in a `Roster`; both are bounded and count what they turn away.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from immune.errors import EnrolmentRefusedError, InputError

VitalKind = Literal["size", "count", "share"]
"""``size``: positive and heavy-tailed · ``count``: a rare or small whole number · ``share``: between 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalSpec:
    """One vital: its name (with its unit), how it is distributed, and what is absurd."""

    name: str
    kind: VitalKind
    integer: bool
    max_value: float
    label: str


VITALS: tuple[VitalSpec, ...] = (
    VitalSpec(name="latency_ms", kind="size", integer=False, max_value=86_400_000.0, label="latency, ms"),
    VitalSpec(name="input_tokens", kind="size", integer=True, max_value=1e9, label="input tokens"),
    VitalSpec(name="output_tokens", kind="size", integer=True, max_value=1e9, label="output tokens"),
    VitalSpec(name="cost_usd", kind="size", integer=False, max_value=1e6, label="cost, USD"),
    VitalSpec(name="tool_calls", kind="count", integer=True, max_value=1e6, label="tool calls"),
    VitalSpec(name="retries", kind="count", integer=True, max_value=1e6, label="retries"),
    VitalSpec(name="errors", kind="count", integer=True, max_value=1e6, label="errors"),
    VitalSpec(name="context_tokens", kind="size", integer=True, max_value=1e9, label="context tokens"),
    VitalSpec(name="confidence", kind="share", integer=False, max_value=1.0, label="confidence"),
)
CONTEXT_FIELDS: tuple[str, ...] = ("provider", "model", "version", "prompt_hash", "tool", "task")
"""Context of one sample that may change from sample to sample; columns of `SampleBatch.codes`, in this order."""

EXTRA_VITAL_MAX = 1e15
MAX_ID_LENGTH = 128
MISSING = -1


class Status(IntEnum):
    """What an agent says of itself in a sample."""

    UNSAID = 0
    WORKING = 1
    IDLE = 2
    DONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalSchema:
    """The vitals of a run, in column order: the nine known ones, then those named by the user."""

    specs: tuple[VitalSpec, ...] = VITALS

    @classmethod
    def with_extra(cls, names: Iterable[str]) -> VitalSchema:
        """The known vitals and these numeric columns, treated as sizes. Raises InputError for a name that is taken."""
        specs = list(VITALS)
        taken = {spec.name for spec in specs}
        for name in names:
            if name in taken:
                raise InputError("this vital is known already", field="--vital", value=name, way_out="leave it out")
            taken.add(name)
            specs.append(VitalSpec(name=name, kind="size", integer=False, max_value=EXTRA_VITAL_MAX, label=name))
        return cls(specs=tuple(specs))

    @property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(spec.name for spec in self.specs)

    def column(self, name: str) -> int:
        """Column of a vital. Raises InputError for an unknown one."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError("unknown vital", field="vital", value=name, way_out="one of " + " ".join(self.names)) from None

    def __len__(self) -> int:
        return len(self.specs)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """Who an agent is, as far as it does not change from sample to sample."""

    agent_id: str
    type: str = ""
    service: str = ""


def check_agent_id(text: object) -> str:
    """The id in NFC. Raises InputError unless it is 1 to 128 printable characters."""
    if not isinstance(text, str):
        raise InputError("an agent id is text", field="agent", value=text, way_out="give 1 to 128 printable characters")
    normal = unicodedata.normalize("NFC", text)
    if not 1 <= len(normal) <= MAX_ID_LENGTH or not normal.isprintable() or not normal.strip():
        raise InputError("not a valid agent id", field="agent", value=text, way_out="give 1 to 128 printable characters")
    return normal


class Lexicon:
    """Strings as small integers, first come first numbered; bounded, and what does not fit is counted as missing.

    `code("")` is `MISSING`.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.refused = 0
        self._codes: dict[str, int] = {}
        self._words: list[str] = []

    def code(self, word: str) -> int:
        """The number of a word, a new one if there is room, else `MISSING`."""
        if not word:
            return MISSING
        found = self._codes.get(word)
        if found is not None:
            return found
        if len(self._words) >= self.limit:
            self.refused += 1
            return MISSING
        self._codes[word] = len(self._words)
        self._words.append(word)
        return len(self._words) - 1

    def word(self, code: int) -> str:
        """The word of a number; empty for `MISSING`."""
        return self._words[code] if code >= 0 else ""

    def __len__(self) -> int:
        return len(self._words)


class Roster:
    """The enrolled agents, in order of enrolment; an agent's index never changes during a run."""

    def __init__(self, limit: int = 100_000) -> None:
        self.limit = limit
        self.refused = 0
        self.identities: list[AgentIdentity] = []
        self.types = Lexicon(limit=4096)
        self.services = Lexicon(limit=4096)
        self._index: dict[str, int] = {}
        self._type_codes: list[int] = []
        self._service_codes: list[int] = []

    def __len__(self) -> int:
        return len(self.identities)

    def find(self, agent_id: str) -> int | None:
        """Index of an enrolled agent, or None."""
        return self._index.get(agent_id)

    def enroll(self, identity: AgentIdentity) -> int:
        """Index of this agent, enrolling it if it is new (the first identity given for an id stays).

        Raises InputError for a bad id, EnrolmentRefusedError when the roster is full (counted in `refused`).
        """
        known = self._index.get(identity.agent_id)
        if known is not None:
            return known
        agent_id = check_agent_id(identity.agent_id)
        known = self._index.get(agent_id)
        if known is not None:
            return known
        if len(self.identities) >= self.limit:
            self.refused += 1
            raise EnrolmentRefusedError(
                f"the fleet already has {self.limit} agents",
                field="agent",
                value=agent_id,
                way_out="retire some, or raise limits.max_agents in the policy",
            )
        index = len(self.identities)
        self._index[agent_id] = index
        self.identities.append(AgentIdentity(agent_id=agent_id, type=identity.type, service=identity.service))
        self._type_codes.append(self.types.code(identity.type or "agent"))
        self._service_codes.append(self.services.code(identity.service))
        return index

    def agent_id(self, index: int) -> str:
        """Id of an index."""
        return self.identities[index].agent_id

    def type_codes(self) -> NDArray[np.int32]:
        """Type of each agent as a code of `types`, shape (agents,)."""
        return np.array(self._type_codes, dtype=np.int32)

    def service_codes(self) -> NDArray[np.int32]:
        """Service of each agent as a code of `services`, shape (agents,)."""
        return np.array(self._service_codes, dtype=np.int32)


def task_key(task_id: str) -> int:
    """A task id as a positive 63-bit number; 0 stands for a missing one."""
    if not task_id:
        return 0
    return int.from_bytes(hashlib.blake2b(task_id.encode(), digest_size=8).digest(), "big") >> 1 or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """n samples as arrays, ordered by time within each agent.

    agent    (n,) int32, index in the roster
    at_us    (n,) int64, source time, microseconds UTC
    values   (n, vitals) float64, NaN where the sample does not say
    step     (n,) int32, step within the task from 0, `MISSING` where unsaid
    status   (n,) int8, a `Status`
    task_id  (n,) int64, `task_key` of this task, 0 where unsaid
    codes    (n, len(CONTEXT_FIELDS)) int32, codes of the batch's lexicon, `MISSING` where unsaid
    """

    agent: NDArray[np.int32]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    step: NDArray[np.int32]
    status: NDArray[np.int8]
    task_id: NDArray[np.int64]
    codes: NDArray[np.int32]

    @classmethod
    def empty(cls, vitals: int = len(VITALS)) -> SampleBatch:
        """A batch of no samples."""
        return cls.blank(0, vitals)

    @classmethod
    def blank(cls, n: int, vitals: int = len(VITALS)) -> SampleBatch:
        """A batch of n samples that say nothing yet; the arrays are there to be filled."""
        return cls(
            agent=np.zeros(n, dtype=np.int32),
            at_us=np.zeros(n, dtype=np.int64),
            values=np.full((n, vitals), np.nan),
            step=np.full(n, MISSING, dtype=np.int32),
            status=np.zeros(n, dtype=np.int8),
            task_id=np.zeros(n, dtype=np.int64),
            codes=np.full((n, len(CONTEXT_FIELDS)), MISSING, dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.agent)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> SampleBatch:
        """The samples of these rows, in this order."""
        return SampleBatch(
            agent=self.agent[rows],
            at_us=self.at_us[rows],
            values=self.values[rows],
            step=self.step[rows],
            status=self.status[rows],
            task_id=self.task_id[rows],
            codes=self.codes[rows],
        )

    @classmethod
    def concatenate(cls, batches: Sequence[SampleBatch], vitals: int = len(VITALS)) -> SampleBatch:
        """All samples of these batches, one after the other."""
        if not batches:
            return cls.empty(vitals)
        if len(batches) == 1:
            return batches[0]
        return cls(
            agent=np.concatenate([b.agent for b in batches]),
            at_us=np.concatenate([b.at_us for b in batches]),
            values=np.concatenate([b.values for b in batches]),
            step=np.concatenate([b.step for b in batches]),
            status=np.concatenate([b.status for b in batches]),
            task_id=np.concatenate([b.task_id for b in batches]),
            codes=np.concatenate([b.codes for b in batches]),
        )
