"""How fast a batch of vitals becomes line protocol, beside the official client's `Point`.

    python benchmarks/line_protocol.py [--json] [--agents N]

Both write the same lines: nine vitals, status and step, four tags, as an agent's sample has them. `Point` gets its values
as Python numbers, made beforehand; ours gets the arrays of a tick, as they leave the engine. Processor time, so that a busy
machine disturbs neither; the best of five rounds of each, taken in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from time import process_time

import numpy as np

from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from immune.stores.influx.lines import Block
from immune.stores.influx.vitals import Encoder

SEED, T0 = 7, 1_767_225_600_000_000
RUN = "run-20260101-000000-abcd"
GOALS = (30, 60)


def fleet(agents: int) -> tuple[Roster, SampleBatch]:
    """A tick of a fleet with values as they are measured: hundredths of a millisecond, whole tokens, fractions of a cent."""
    rng = np.random.default_rng(SEED)
    roster = Roster(limit=agents)
    for index in range(agents):
        roster.enroll(AgentIdentity(agent_id=f"agent-{index}", type="writer", service="support"))
    batch = SampleBatch.blank(agents)
    batch.agent[:] = np.arange(agents)
    batch.at_us[:] = T0 + rng.integers(0, 1_000_000, agents)
    batch.values[:, 0] = np.round(rng.lognormal(6.5, 0.6, agents), 2)
    for column in (1, 2, 7):
        batch.values[:, column] = rng.poisson(2000, agents)
    batch.values[:, 3] = np.round(rng.lognormal(-6, 0.6, agents), 7)
    for column in (4, 5, 6):
        batch.values[:, column] = rng.poisson(0.5, agents)
    batch.values[:, 8] = np.round(rng.random(agents), 4)
    batch.step[:] = rng.integers(0, 20, agents)
    batch.status[:] = 1
    return roster, batch


def with_point(batch: SampleBatch) -> tuple[float, list[str]]:
    """Seconds, and the lines, of the official client."""
    from influxdb_client import Point, WritePrecision

    names, rows = VitalSchema().names, batch.values.tolist()
    times, steps = batch.at_us.tolist(), batch.step.tolist()
    begun = process_time()
    lines = []
    for agent, (at_us, step, values) in enumerate(zip(times, steps, rows, strict=True)):
        point = Point("agent_vitals").tag("agent", f"agent-{agent}").tag("run_id", RUN).tag("service", "support").tag("type", "writer")
        point = point.field("status", "working").field("step", step)
        for name, value in zip(names, values, strict=True):
            point = point.field(name, value)
        lines.append(point.time(at_us, WritePrecision.US).to_line_protocol())
    return process_time() - begun, lines


def by_column(encoder: Encoder, batch: SampleBatch) -> tuple[float, list[Block]]:
    """Seconds, and the blocks of lines, of ours."""
    begun = process_time()
    blocks = encoder.samples(batch)
    return process_time() - begun, blocks


def same(line: str, other: str) -> bool:
    """Whether two lines are the same point."""
    parsed = []
    for text in (line, other):
        head, fields, at = text.rsplit(" ", 2)
        pairs = dict(pair.split("=") for pair in fields.split(","))
        parsed.append((head, {key: value if key in {"status", "step"} else float(value) for key, value in pairs.items()}, at))
    return parsed[0] == parsed[1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--agents", type=int, default=10_000)
    options = parser.parse_args(arguments)
    roster, batch = fleet(options.agents)
    encoder = Encoder(RUN, roster, VitalSchema())
    _, blocks = by_column(encoder, batch)
    ours_text = b"".join(blocks)
    _, theirs = with_point(batch)
    assert all(same(mine, yours) for mine, yours in zip(ours_text.decode().splitlines(), theirs, strict=True))
    odd = batch.take(np.arange(len(batch)))
    odd.values[:, 0] *= np.pi  # digits that no decimal grid holds: the slow path, one vital
    odd_encoder = Encoder(RUN, roster, VitalSchema())
    odd_encoder.samples(odd)
    rounds = [(with_point(batch)[0], by_column(encoder, batch)[0], by_column(odd_encoder, odd)[0]) for _ in range(5)]
    points_s, ours_s, odd_s = (min(column) for column in zip(*rounds, strict=True))
    begun = process_time()
    packed = zlib.compress(ours_text, 1)
    gzip_s = process_time() - begun
    figures = {
        "agents": options.agents,
        "bytes_per_line": len(ours_text) / options.agents,
        "point_lines_per_s": options.agents / points_s,
        "column_lines_per_s": options.agents / ours_s,
        "ratio": points_s / ours_s,
        "ratio_one_vital_spelled": points_s / odd_s,
        "gzip_lines_per_s": options.agents / gzip_s,
        "gzip_bytes_per_line": len(packed) / options.agents,
        "must": GOALS[0],
        "goal": GOALS[1],
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<26}{value:>14,.1f}")
    return 0 if figures["ratio"] >= GOALS[0] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
