"""The sealed record of what befell the fleet. It is opened once, after the last tick, to score the run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from immune.core.events import iso
from immune.errors import RefusedError
from simulation.infections import InfectionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One thing that befell one agent, or several at once.

    agents     one id, or all members of a shared cause
    onset_us   when it began; for a shared cause, when the first member was reached
    reached_us when each of `agents` was reached, in their order
    ended_us   when it ended or was cured; None: it was still there at the end
    strength   as drawn, see `simulation.infections.STRENGTHS`
    cause      what the members of a shared cause have in common, else empty
    relapse    it came back after a cure: a consequence, not a new infection
    cured_by   the action that ended it, empty if it ended by itself or not at all
    """

    kind: InfectionKind
    agents: tuple[str, ...]
    onset_us: int
    reached_us: tuple[int, ...]
    strength: float
    ended_us: int | None = None
    cause: str = ""
    relapse: bool = False
    cured_by: str = ""

    @property
    def shared(self) -> bool:
        """Is this a cause that several agents share?"""
        return bool(self.cause)

    def as_json(self) -> dict[str, object]:
        """The label as one JSON object; ``agent`` is the cause where it is shared."""
        return {
            "agent": self.cause or self.agents[0],
            "kind": self.kind,
            "at": iso(self.onset_us),
            "ended_at": None if self.ended_us is None else iso(self.ended_us),
            "strength": self.strength,
            "agents": list(self.agents),
            "relapse": self.relapse,
            "cured_by": self.cured_by,
        }


class Truth:
    """Labels under seal. With `keep=False` nothing is written down (to show that behaviour alone is judged)."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._labels: list[Label] = []
        self._opened = False

    @property
    def opened(self) -> bool:
        """Has the seal been broken? Then the world stands still for good."""
        return self._opened

    def write(self, label: Label) -> int:
        """Note that something began; the number by which `end` knows it."""
        self._refuse_if_opened()
        if not self._keep:
            return -1
        self._labels.append(label)
        return len(self._labels) - 1

    def end(self, number: int, at_us: int, *, cured_by: str = "") -> None:
        """Note that it is over; nothing for a number of -1."""
        self._refuse_if_opened()
        if number >= 0:
            self._labels[number] = replace(self._labels[number], ended_us=at_us, cured_by=cured_by)

    def unseal(self) -> None:
        """Break the seal. From now on labels can be read and the world refuses to go on."""
        self._opened = True

    def labels(self) -> tuple[Label, ...]:
        """Everything that befell the fleet, in order of onset. Raises RefusedError while sealed."""
        if not self._opened:
            raise RefusedError("the labels are sealed until the last tick is over", field="truth", way_out="call unseal() when the run has ended")
        return tuple(self._labels)

    def _refuse_if_opened(self) -> None:
        if self._opened:
            raise RefusedError("the labels have been read; this world may not go on", field="truth", way_out="start a new simulation")
