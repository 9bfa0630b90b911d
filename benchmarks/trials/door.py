"""The public door: the same fleet as arrays to the sentinel, and as a CSV to ``immune replay FILE --json``."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from workloads import START_US, STRONG, Fault, Fleet, strong_fault, struck

from immune.core.events import iso
from immune.core.evidence import Assessment
from immune.core.vitals import CONTEXT_FIELDS, MISSING, Lexicon, Roster, SampleBatch, Status
from trials.watching import SCHEMA, US, blamed, sentinel_over

COLUMNS = ("at", "agent", "type", "service", "task_id", "step", "status", *CONTEXT_FIELDS, *SCHEMA.names)


def same_through_the_door(seed: int, shape: str, agents: int = 24, history: int = 300) -> dict[str, Any]:
    """Strong faults, one of each kind: who is an incident, and when, by the array door and by the file."""
    rng = np.random.default_rng([seed, 31])
    fleet = Fleet(shape, agents, seed)
    hit = rng.permutation(agents)[: len(STRONG)]
    faults = [strong_fault(kind, int(agent), history + int(rng.integers(0, 20)), rng) for kind, agent in zip(STRONG, hit, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.csv"
        arrays = write_and_watch(fleet, faults, history + 140, path)
        file = by_file(path)
    at_once = {agent: when for agent, when in arrays.items() if abs(file.get(agent, -999) - when) <= 1}
    return {
        "by_arrays": arrays,
        "by_file": file,
        "same": len(at_once),
        "differ": sorted(set(arrays) ^ set(file)) + sorted(a for a in set(arrays) & set(file) if a not in at_once),
        "sick": {fleet.roster.agent_id(fault.agent): fault.kind for fault in faults},
    }


def write_and_watch(fleet: Fleet, faults: list[Fault], ticks: int, path: Path) -> dict[str, int]:
    """Write every sample as a row and judge the same batch: second of the first alarm by agent id."""
    roster = Roster()
    sentinel = sentinel_over(roster, fleet.lexicon, seed=0)
    first: dict[str, int] = {}
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for t, batch in struck(fleet, faults, ticks):
            for index in batch.agent.tolist():
                roster.enroll(fleet.roster.identities[index])
            rows.writerows(_rows(fleet, batch))
            found = sentinel.observe(batch, START_US + t * US)
            for agent in _accused(found, roster):
                first.setdefault(agent, t)
    return first


def by_file(path: Path) -> dict[str, int]:
    """``immune replay``: second of the first incident by agent id."""
    command = [sys.executable, "-m", "immune", "replay", str(path), "--json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    first: dict[str, int] = {}
    for incident in report["incidents"]:
        if incident["scope"] != "agent":
            continue
        for agent in incident["agents"]:
            second = round((np.datetime64(incident["opened_at"].rstrip("Z")) - np.datetime64(iso(START_US).rstrip("Z"))) / np.timedelta64(1, "s"))
            first[agent] = min(first.get(agent, second), second)
    return first


def _accused(found: Assessment, roster: Roster) -> list[str]:
    return [roster.agent_id(finding.agent) for finding in blamed(found)]


def _rows(fleet: Fleet, batch: SampleBatch) -> list[list[str]]:
    lexicon: Lexicon = fleet.lexicon
    lines = []
    for row in range(len(batch)):
        who = fleet.roster.identities[int(batch.agent[row])]
        step, task = int(batch.step[row]), int(batch.task_id[row])
        lines.append(
            [
                iso(int(batch.at_us[row])),
                who.agent_id,
                who.type,
                who.service,
                str(task) if task else "",
                "" if step == MISSING else str(step),
                Status(int(batch.status[row])).name.lower(),
                *(lexicon.word(int(code)) for code in batch.codes[row]),
                *("" if value != value else repr(value) for value in batch.values[row].tolist()),  # noqa: PLR0124 - NaN is the value unsaid
            ]
        )
    return lines
