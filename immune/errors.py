"""Every error a user can meet.

    ImmuneError
    ├── InputError              exit 2: bad input or usage
    │   ├── PolicyError           the policy file is wrong, with line and column
    │   ├── UnknownIdError        no agent, incident, run or event has that id
    │   └── SchemaTooNewError     written by a newer version
    ├── UnreachableError        exit 3: something needed is not there
    │   └── StoreUnavailableError the disk is full, read-only or failing
    ├── RefusedError            exit 4: policy, role or conflict
    │   ├── WriterHeldError       another process writes this run
    │   ├── FencedError           a newer writer took over; this one may not write any more
    │   ├── AppendConflictError   the journal moved on since it was read
    │   └── EnrolmentRefusedError the fleet is full
    └── JournalBrokenError      exit 1: the hash chain does not hold

Each says what is wrong, where (field and value) and the way out, because the person who reads it was not there
when it happened.
"""

from __future__ import annotations


class ImmuneError(Exception):
    """Base of all errors raised on purpose; ``str()`` is one sentence for people."""

    exit_code = 1

    def __init__(self, what: str, *, field: str | None = None, value: object = None, way_out: str = "") -> None:
        self.what = what
        self.field = field
        self.value = value
        self.way_out = way_out
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        where = f"{self.field}: " if self.field else ""
        shown = "" if self.value is None else f" (got {_shorten(self.value)})"
        mend = f"; {self.way_out}" if self.way_out else ""
        return f"{where}{self.what}{shown}{mend}"

    def as_json(self) -> dict[str, str | None]:
        """The error as one JSON object: ``error what field value way_out``."""
        value = None if self.value is None else _shorten(self.value)
        return {"error": type(self).__name__, "what": self.what, "field": self.field, "value": value, "way_out": self.way_out}


class InputError(ImmuneError):
    """Bad input or usage."""

    exit_code = 2


class PolicyError(InputError):
    """The policy file is wrong; ``line`` and ``column`` count from 1."""

    def __init__(
        self, what: str, *, line: int, column: int, path: str = "", field: str | None = None, value: object = None, way_out: str = ""
    ) -> None:
        self.line = line
        self.column = column
        self.path = path
        super().__init__(what, field=field, value=value, way_out=way_out)

    def _sentence(self) -> str:
        return f"{self.path or 'policy'}:{self.line}:{self.column}: {super()._sentence()}"


class UnknownIdError(InputError):
    """No agent, incident, run or event has that id."""


class SchemaTooNewError(InputError):
    """Something was written by a newer version than this one."""


class UnreachableError(ImmuneError):
    """Something needed is not there."""

    exit_code = 3


class StoreUnavailableError(UnreachableError):
    """The store cannot be written or read: full, read-only, failing."""


class RefusedError(ImmuneError):
    """Refused by policy, role or conflict."""

    exit_code = 4


class WriterHeldError(RefusedError):
    """Another process is the writer of this data directory."""


class FencedError(RefusedError):
    """A writer with a higher epoch took over; nothing of this one counts any more."""


class AppendConflictError(RefusedError):
    """The journal's head is not where the caller believed it to be."""


class EnrolmentRefusedError(RefusedError):
    """The fleet has reached its enrolment limit."""


class JournalBrokenError(ImmuneError):
    """The hash chain does not hold; ``seq`` is the first event that cannot be trusted."""

    def __init__(self, what: str, *, run_id: str, seq: int) -> None:
        self.run_id = run_id
        self.seq = seq
        super().__init__(what, field=f"run {run_id}, seq {seq}", way_out="restore a backup or export what precedes it")


def _shorten(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
