"""A run read back from InfluxDB alone: its journal and its measurements, as the embedded stores would give them, never written."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from immune.core.events import GENESIS, Draft, Envelope
from immune.core.evidence import Bands
from immune.core.vitals import MISSING, VITALS, SampleBatch, Status, VitalSchema
from immune.errors import RefusedError
from immune.ports import ActionRow, ApprovalRow, BandSeries, IncidentRow, RunInfo, VitalSeries
from immune.stores.chain import check_end, follow, row_of
from immune.stores.influx import vitals as names
from immune.stores.influx.asking import Asker, ident
from immune.stores.influx.escape import tag_text, text_of_tag
from immune.stores.influx.facts import ACTION, APPROVAL, INFECTION
from immune.stores.influx.points import EVENT, SPREAD
from immune.stores.records import Told, action_rows, approval_rows, incident_rows
from immune.stores.samples import MINUTE_US, minute_of, unknown_agent, unknown_run, vital_column

_ENVELOPE = ("seq", "schema", "subject", "correlation_id", "causation_id", "actor", "body", "prev_hash", "hash", "kind")
STATUS_BY_WORD = {status.name.lower(): status for status in Status}
END_NS = 2**63 - 2


def _refuse() -> NoReturn:
    raise RefusedError("InfluxDB is only read here", field="journal", way_out="write through the daemon; it brings everything to InfluxDB")


class InfluxJournal:
    """The mirrored journals of a bucket, read only. Bytes come back as they were hashed, so the chain can be checked."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    def read(self, run_id: str, *, after_seq: int = 0, limit: int | None = None) -> Iterator[Envelope]:
        """Events after a seq, in order of seq, whatever their times are."""
        envelopes = self._events(run_id, after_seq)
        return itertools.islice(iter(sorted(envelopes, key=lambda one: one.seq)), limit)

    def _events(self, run_id: str, after_seq: int) -> Iterator[Envelope]:
        extra = self._long_bodies(run_id, after_seq)
        columns = ", ".join(_ENVELOPE)
        question = f"SELECT {columns} FROM {EVENT} WHERE run_id = $run" + (" AND seq > $after" if after_seq > 0 else "")  # noqa: S608
        for rows in self.asker.ask(question, run=tag_text(run_id), after=after_seq):
            place = {name: column for column, name in enumerate(rows.columns)}
            for values in rows.values:
                yield _envelope(run_id, values, place, extra)

    def _long_bodies(self, run_id: str, after_seq: int) -> Mapping[int, str]:
        """What bodies of over 60,000 bytes go on with, by seq; usually there is none in the whole bucket."""
        known = {values[0] for rows in self.asker.ask(f"SHOW FIELD KEYS FROM {EVENT}") for values in rows.values}
        more = list(itertools.takewhile(known.__contains__, (f"body_{number}" for number in itertools.count(2))))
        if not more:
            return {}
        found: dict[int, str] = {}
        for rows in self.asker.ask(
            f"SELECT seq, {', '.join(more)} FROM {EVENT} WHERE run_id = $run AND body_2 != '' AND seq > $after",  # noqa: S608  (our own names)
            run=tag_text(run_id),
            after=after_seq,
        ):
            for values in rows.values:
                found[values[1]] = "".join(part or "" for part in values[2:])
        return found

    def head(self, run_id: str) -> tuple[int, str]:
        """(last seq, its hash); (0, genesis) for an unknown run."""
        row = self.asker.one(f"SELECT max(seq), hash FROM {EVENT} WHERE run_id = $run", run=tag_text(run_id))  # noqa: S608
        return (int(row["max"]), str(row["hash"])) if row else (0, GENESIS)

    def verify(self, run_id: str) -> int:
        """Check the whole chain; the number of events. Raises JournalBrokenError at the first bad seq."""
        found = follow(run_id, (row_of(envelope) for envelope in self.read(run_id)), 0, GENESIS)
        return check_end(run_id, found, self.head(run_id))

    def count(self, run_id: str) -> int:
        """How many events are there."""
        row = self.asker.one(f"SELECT count(seq) FROM {EVENT} WHERE run_id = $run", run=tag_text(run_id))  # noqa: S608
        return int(row["count"]) if row else 0

    def runs(self) -> list[RunInfo]:
        """Every run of the bucket, newest first."""
        first = {rows.tags["run_id"]: rows.values[0][2] for rows in self.asker.ask(f"SELECT min(seq), at_us FROM {EVENT} GROUP BY run_id")}  # noqa: S608
        found = [
            RunInfo(
                run_id=text_of_tag(rows.tags["run_id"]),
                events=values[1],
                first_at_us=first[rows.tags["run_id"]],
                last_at_us=values[3],
                head=values[2],
            )
            for rows in self.asker.ask(f"SELECT max(seq), hash, at_us FROM {EVENT} GROUP BY run_id")  # noqa: S608
            for values in rows.values
        ]
        return sorted(found, key=lambda run: run.first_at_us, reverse=True)

    def load_snapshot(self, run_id: str, name: str) -> tuple[int, bytes] | None:
        """There are none in InfluxDB."""
        return None

    def acquire(self, run_id: str, holder: str, now_us: int, *, take_over: bool = False) -> int:
        """Refused."""
        _refuse()

    def confirm(self, run_id: str, epoch: int) -> None:
        """Refused."""
        _refuse()

    def release(self, run_id: str, epoch: int) -> None:
        """Refused."""
        _refuse()

    def append(self, run_id: str, drafts: Sequence[Draft], *, expected_seq: int, epoch: int) -> list[Envelope]:
        """Refused."""
        _refuse()

    def save_snapshot(self, run_id: str, seq: int, name: str, content: bytes, *, epoch: int) -> None:
        """Refused."""
        _refuse()

    def close(self) -> None:
        """Let go of the connections."""
        self.asker.close()


def _envelope(run_id: str, values: Sequence[Any], place: Mapping[str, int], extra: Mapping[int, str]) -> Envelope:
    seq = values[place["seq"]]
    body = values[place["body"]] + extra.get(seq, "")
    return Envelope(
        run_id=run_id,
        seq=seq,
        at_us=(values[place["time"]] - seq % SPREAD) // 1000,
        kind=text_of_tag(values[place["kind"]]),
        schema=values[place["schema"]],
        subject=text_of_tag(values[place["subject"]]),
        correlation_id=text_of_tag(values[place["correlation_id"]]),
        causation_id=text_of_tag(values[place["causation_id"]]),
        actor=text_of_tag(values[place["actor"]]),
        body=body.encode(),
        prev_hash=values[place["prev_hash"]],
        hash=values[place["hash"]],
    )


class InfluxTelemetry:
    """The measurements of a bucket, read only. Task ids and context codes are not kept there and come back as missing."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    def vitals(self, run_id: str) -> tuple[str, ...]:
        """The run's vitals: the known ones, then those that it brought itself, by name. Empty for an unknown run."""
        measured = self.asker.ask(f"SHOW TAG VALUES FROM {names.VITALS} WITH KEY = run_id WHERE run_id = $run", run=tag_text(run_id))
        if not any(rows.values for rows in measured):  # of the index, not of the points: a large run is not counted for it
            return ()
        keys = [values[0] for rows in self.asker.ask(f"SHOW FIELD KEYS FROM {names.VITALS}") for values in rows.values]
        known = {spec.name for spec in VITALS}
        others = sorted(vital for key in keys if key not in names.OWN_FIELDS and (vital := names.vital_of(key)) not in known)
        return tuple(spec.name for spec in VITALS) + tuple(vital for vital in others if self._has(run_id, vital))

    def _has(self, run_id: str, vital: str) -> bool:
        question = f"SELECT count({_column(vital)}) FROM {names.VITALS} WHERE run_id = $run"  # noqa: S608
        return bool(self.asker.one(question, run=tag_text(run_id)))

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids in roster order, as its journal enrolled them."""
        question = f"SELECT subject, body FROM {EVENT} WHERE run_id = $run AND kind = 'agent_enrolled'"  # noqa: S608
        found = {
            int(json.loads(body)["index"]): text_of_tag(subject)
            for rows in self.asker.ask(question, run=tag_text(run_id))
            for _, subject, body in rows.values
        }
        return tuple(found.get(index, "") for index in range(max(found, default=-1) + 1))

    def series(
        self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None, every_us: int | None = None
    ) -> VitalSeries:
        """All values of one vital of one agent in ``[from_us, to_us)``, or their mean of every so many µs. Raises UnknownIdError."""
        self._check(run_id, agent_id, vital)
        what = _column(vital) if every_us is None else f"mean({_column(vital)})"
        grouped = "" if every_us is None else f" GROUP BY time({int(every_us)}u) fill(none)"
        question = f"SELECT {what} FROM {names.VITALS} WHERE run_id = $run AND agent = $agent AND time >= $from AND time < $to{grouped}"  # noqa: S608
        at_us, value = self._columns(question, run_id, agent_id, from_us, to_us)
        return VitalSeries(vital=vital, at_us=at_us, value=value[0])

    def bands(self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None) -> BandSeries:
        """The band of one vital of one agent over time, to six digits. Raises UnknownIdError."""
        self._check(run_id, agent_id, vital)
        sides = ", ".join(ident(f"{names.field_name(vital)}_{side}") for side in ("expected", "low", "high"))
        question = f"SELECT {sides} FROM {names.PROFILE} WHERE run_id = $run AND agent = $agent AND time >= $from AND time < $to"  # noqa: S608
        at_us, lines = self._columns(question, run_id, agent_id, from_us, to_us, columns=3)
        expected, low, high = (line.astype(np.float32) for line in lines)
        return BandSeries(vital=vital, at_us=at_us, expected=expected, low=low, high=high)

    def _columns(
        self, question: str, run_id: str, agent_id: str, from_us: int, to_us: int | None, columns: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Times (n,) and values (columns, n) of an answer."""
        span = {"from": max(0, from_us) * 1000, "to": END_NS if to_us is None else min(END_NS, max(0, to_us) * 1000)}
        values = [row for rows in self.asker.ask(question, run=tag_text(run_id), agent=tag_text(agent_id), **span) for row in rows.values]
        times = np.array([row[0] for row in values], dtype=np.int64) // 1000
        table = np.array([row[1:] for row in values], dtype=np.float64).reshape(-1, columns)
        return times, table.T

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one, by agent."""
        vitals = self.vitals(run_id)
        index = {agent_id: place for place, agent_id in enumerate(self.agents(run_id))}
        wanted = ", ".join(["last(status)", "step", *(_column(vital) for vital in vitals)])
        question = f"SELECT {wanted} FROM {names.VITALS} WHERE run_id = $run GROUP BY agent"  # noqa: S608
        found = sorted(
            (index[agent_id], *values)
            for rows in self.asker.ask(question, run=tag_text(run_id))
            if (agent_id := text_of_tag(rows.tags["agent"])) in index
            for values in rows.values
        )
        return _batch_of(found, len(vitals) or len(VITALS))

    def samples(self, run_id: str, from_us: int, to_us: int) -> SampleBatch:
        """All samples of the whole minutes that touch ``[from_us, to_us)``, by time. Raises UnknownIdError."""
        vitals = self.vitals(run_id)
        if not vitals:
            raise unknown_run(run_id)
        index = {agent_id: place for place, agent_id in enumerate(self.agents(run_id))}
        span = {"from": minute_of(from_us) * MINUTE_US * 1000, "to": (minute_of(to_us - 1) + 1) * MINUTE_US * 1000}
        wanted = ", ".join(["agent", "status", "step", *(_column(vital) for vital in vitals)])
        question = f"SELECT {wanted} FROM {names.VITALS} WHERE run_id = $run AND time >= $from AND time < $to"  # noqa: S608
        found = [
            (index[agent_id], values[0], *values[2:])
            for rows in self.asker.ask(question, run=tag_text(run_id), **span)
            for values in rows.values
            if (agent_id := text_of_tag(values[1])) in index
        ]
        return _batch_of(found, len(vitals))

    def counts(self, run_id: str) -> int:
        """How many samples are there."""
        row = self.asker.one(f"SELECT count(status) FROM {names.VITALS} WHERE run_id = $run", run=tag_text(run_id))  # noqa: S608
        return int(row["count"]) if row else 0

    def _check(self, run_id: str, agent_id: str, vital: str) -> None:
        vitals = self.vitals(run_id)
        if not vitals:
            raise unknown_run(run_id)
        vital_column(vitals, vital)
        if not agent_id or agent_id not in self.agents(run_id):
            raise unknown_agent(agent_id)

    def begin(self, run_id: str, schema: VitalSchema) -> None:
        """Refused."""
        _refuse()

    def write(self, run_id: str, tick: int, now_us: int, batch: SampleBatch) -> None:
        """Refused."""
        _refuse()

    def name_agents(self, run_id: str, first_index: int, agent_ids: Sequence[str]) -> None:
        """Refused."""
        _refuse()

    def compact(self, run_id: str, now_us: int, *, parts: int | None = None) -> int:
        """Refused."""
        _refuse()

    def expire(self, run_id: str, before_us: int) -> int:
        """Refused: retention is the bucket's."""
        _refuse()

    def write_bands(self, run_id: str, now_us: int, bands: Bands) -> None:
        """Refused."""
        _refuse()

    def close(self) -> None:
        """Let go of the connections."""
        self.asker.close()


def _batch_of(found: Sequence[tuple[Any, ...]], vitals: int) -> SampleBatch:
    """Rows of (agent, time in ns, status, step, vitals…) as a batch."""
    batch = SampleBatch.blank(len(found), vitals)
    for row, (agent, at_ns, status, step, *values) in enumerate(found):
        batch.agent[row], batch.at_us[row], batch.status[row] = agent, at_ns // 1000, STATUS_BY_WORD[status]
        batch.step[row] = MISSING if step is None else step
        batch.values[row] = [np.nan if value is None else value for value in values]
    return batch


def _seq(told: Mapping[str, Any]) -> int:
    return int(told["seq"])


def _column(vital: str) -> str:
    return ident(names.field_name(vital))


class InfluxReader:
    """What people ask of one run, answered by InfluxDB alone."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self._telemetry = InfluxTelemetry(asker)

    def agents(self, run_id: str) -> tuple[str, ...]:
        """The run's agent ids, in roster order."""
        return self._telemetry.agents(run_id)

    def series(
        self, run_id: str, agent_id: str, vital: str, *, from_us: int = 0, to_us: int | None = None, every_us: int | None = None
    ) -> VitalSeries:
        """One vital of one agent; with `every_us` the mean of each such span. Raises UnknownIdError."""
        return self._telemetry.series(run_id, agent_id, vital, from_us=from_us, to_us=to_us, every_us=every_us)

    def latest(self, run_id: str) -> SampleBatch:
        """The newest sample of every agent that has one."""
        return self._telemetry.latest(run_id)

    def incidents(self, run_id: str) -> list[IncidentRow]:
        """Every incident, in order of opening."""
        return incident_rows(self._told(run_id, INFECTION))

    def approvals(self, run_id: str) -> list[ApprovalRow]:
        """Every request, in order of asking."""
        return approval_rows(self._told(run_id, APPROVAL))

    def actions(self, run_id: str) -> list[ActionRow]:
        """Every step done or undone, in order."""
        return action_rows(self._told(run_id, ACTION))

    def _told(self, run_id: str, measurement: str) -> list[Told]:
        found: list[dict[str, Any]] = []
        for rows in self.asker.ask(f"SELECT * FROM {measurement} WHERE run_id = $run", run=tag_text(run_id)):  # noqa: S608
            for values in rows.values:
                told = dict(zip(rows.columns, values, strict=True))
                told |= {key: text_of_tag(told[key]) for key in ("agent", "actor") if told.get(key)}
                told["at_us"] = (told["time"] - told["seq"] % SPREAD) // 1000
                found.append(told)
        return sorted(found, key=_seq)
