"""What the tests of replay files share: writing a file, and reading it as samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from immune.core.vitals import Lexicon, Roster, SampleBatch, VitalSchema
from immune.ports import Desk
from immune.sources.replay import ReplaySource

SCHEMA = VitalSchema()
FOREVER_US = 2**62
START_US = 1_767_225_600_000_000


def desk(extra: tuple[str, ...] = (), max_agents: int = 1000) -> Desk:
    return Desk(roster=Roster(limit=max_agents), lexicon=Lexicon(), schema=VitalSchema.with_extra(extra))


def write(folder: Path, content: str | bytes, name: str = "fleet.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(source: ReplaySource, at: Desk | None = None) -> SampleBatch:
    source.open(at or desk())
    return collected(source, FOREVER_US)


def collected(source: ReplaySource, until_us: int) -> SampleBatch:
    """What it gives; a file never makes anybody wait, so no event loop is needed."""
    with pytest.raises(StopIteration) as done:
        source.collect(until_us).send(None)
    return done.value.value


def read_text(folder: Path, content: str | bytes, name: str = "fleet.csv") -> tuple[ReplaySource, SampleBatch]:
    source = ReplaySource([write(folder, content, name)])
    return source, read(source)


def vital(batch: SampleBatch, name: str, schema: VitalSchema = SCHEMA) -> list[float]:
    values: list[float] = batch.values[:, schema.column(name)].tolist()
    return values
