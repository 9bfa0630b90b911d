"""Every query of docs/influxdb.md, as it stands there, against a real server that holds a demo: it has an answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from immune.stores.influx import facts, points, vitals
from immune.stores.influx.asking import Asker
from tests.integration.test_influx_server import command

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "influxdb.md").read_text(encoding="utf-8")
RUN = "demo-of-the-docs"
FLUX = re.findall(r"```flux\n(.*?)```", PAGE, re.DOTALL)
INFLUXQL = re.findall(r"```influxql\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.influx


@pytest.fixture(scope="module")
def demo(influx_server, tmp_path_factory):
    """A bucket with a demo in it, and an agent that was ill."""
    target = influx_server.target()
    out = tmp_path_factory.mktemp("demo")
    arguments = ["demo.py", "--speed", "max", "--duration", "180", "--decide", "approve", "--run", RUN, "--out", str(out), "--json"]
    report = json.loads(command(target, *arguments))
    assert report["influx"]["complete"]
    return target, report["detected"][0]["agent"]


@pytest.mark.parametrize("query", FLUX)
def test_a_flux_query_of_the_docs_has_an_answer(demo, query):
    target, agent = demo
    query = query.replace('bucket: "immune"', f'bucket: "{target.bucket}"').replace('"RUN"', f'"{RUN}"').replace('"AGENT"', f'"{agent}"')
    asker = Asker(target)
    tables = asker.client.query_api().query(query)
    asker.close()
    assert sum(len(table.records) for table in tables) > 0


@pytest.mark.parametrize("query", INFLUXQL)
def test_an_influxql_query_of_the_docs_has_an_answer(demo, query):
    target, agent = demo
    asker = Asker(target)
    found = [values for rows in asker.ask(query, run=RUN, agent=agent) for values in rows.values]
    asker.close()
    assert found


def test_the_schema_of_the_docs_is_the_one_in_the_server(demo):
    target, _ = demo
    table = {row[0]: (set(row[1]), set(row[2])) for row in schema_rows()}
    assert set(table) == {vitals.VITALS, vitals.PROFILE, points.EVENT, *facts.MEASUREMENTS}
    asker = Asker(target)
    for measurement, (tags, fields) in table.items():
        there = {values[0] for rows in asker.ask(f"SHOW TAG KEYS FROM {measurement}") for values in rows.values}
        assert there == tags | {"run_id", "agent"}, measurement
        known = {values[0] for rows in asker.ask(f"SHOW FIELD KEYS FROM {measurement}") for values in rows.values}
        if measurement == vitals.PROFILE:
            known = {re.sub(r".*_(expected|low|high)$", r"<vital>_\1", name) for name in known}
        common = set() if measurement in {vitals.VITALS, vitals.PROFILE} else {"seq", "actor"}
        assert known - fields - common == set(), measurement
    asker.close()


def schema_rows():
    """(measurement, tags, fields) of the table in the docs."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(r"`[a-z_]+`", cells[0]):
            yield cells[0].strip("`"), re.findall(r"`([^`]+)`", cells[2]), re.findall(r"`([^`]+)`", cells[3])
