"""Line protocol by column: whatever was measured comes back, and no text can be more than text."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core import acts
from immune.core.events import GENESIS, Draft, seal
from immune.core.evidence import Bands
from immune.core.vitals import AgentIdentity, Roster, SampleBatch, VitalSchema
from immune.stores.influx.escape import TAG_LIMIT, tag, tag_text, text_fields, text_of_tag
from immune.stores.influx.points import SPREAD, Telling, point_ns
from immune.stores.influx.vitals import Encoder, field_name, vital_of

T0 = 1_767_225_600_000_000
LINE = re.compile(r'agent_vitals((?:,[a-z_]+=(?:\\.|[^\\, ])*)+) status="(\w+)"((?:,[a-z_]+=[^, ]+)*) (-?\d+)')
VALUES = st.floats(0, 1e300) | st.integers(0, 10**15).map(float) | st.sampled_from([0.0, 0.1, 1 / 3, 5e-324, 2.0**53, 1e22, 0.000123, 99999.995])


def lines_of(batch, ids=None) -> list[str]:
    roster = Roster()
    for agent_id in ids or [f"a{n}" for n in range(len(batch))]:
        roster.enroll(AgentIdentity(agent_id=agent_id, type="t"))
    return b"".join(Encoder("r", roster, VitalSchema()).samples(batch)).decode().splitlines()


def fields_of(line: str) -> dict[str, str]:
    match = LINE.fullmatch(line)
    assert match, line
    return dict(pair.split("=") for pair in match[3].split(",") if pair)


@given(st.lists(st.tuples(VALUES | st.just(math.nan), VALUES | st.just(math.nan)), min_size=1, max_size=40))
def test_every_number_is_parsed_to_what_it_was_and_a_missing_one_has_no_field(rows):
    batch = SampleBatch.blank(len(rows))
    batch.agent[:] = np.arange(len(rows))
    batch.at_us[:] = T0
    batch.values[:, 0], batch.values[:, 3] = zip(*rows, strict=True)
    for line, row in zip(lines_of(batch), rows, strict=True):
        found = fields_of(line)
        for name, value in zip(("latency_ms", "cost_usd"), row, strict=True):
            assert (name in found) != math.isnan(value)
            if name in found:
                assert float(found[name]) == value


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20), st.lists(st.integers(10**15, 10**16 - 1), min_size=20, max_size=20))
def test_whole_numbers_and_times_are_exact(steps, times):
    batch = SampleBatch.blank(len(steps))
    batch.agent[:] = np.arange(len(steps))
    batch.step[:], batch.at_us[:] = steps, times[: len(steps)]
    for line, step, at_us in zip(lines_of(batch), steps, times, strict=False):
        assert fields_of(line)["step"] == f"{step}i"
        assert line.endswith(f" {at_us}")


def test_times_outside_the_usual_are_written_too_and_a_bare_heartbeat_is_a_point():
    batch = SampleBatch.blank(3)
    batch.agent[:] = (0, 1, 2)
    batch.at_us[:] = (0, -5, T0)
    assert [line.rsplit(" ", 1)[1] for line in lines_of(batch)] == ["0", "-5", str(T0)]
    assert all('status="unsaid"' in line and fields_of(line) == {} for line in lines_of(batch))
    assert lines_of(SampleBatch.empty()) == []


def test_many_blocks_of_lines_are_all_there_in_order():
    batch = SampleBatch.blank(1700)
    batch.agent[:] = np.arange(1700)
    batch.at_us[:] = T0 + np.arange(1700)
    batch.values[:, 1] = np.where(np.arange(1700) % 3, np.arange(1700), np.nan)
    lines = lines_of(batch)
    assert len(lines) == 1700
    assert [("input_tokens" in line) for line in lines] == [bool(n % 3) for n in range(1700)]


@pytest.mark.fault("F31")
@given(st.text(max_size=60))
def test_any_text_is_one_tag_and_comes_back(text):
    written = tag_text(text)
    assert text_of_tag(written) == text
    assert written.isprintable()
    assert not written.endswith("\\")
    line = tag("k", text)
    assert line == "" if not text else re.fullmatch(r",k=(?:\\.|[^ ,=\\]|\\(?![ ,=]))+", line)


@pytest.mark.fault("F31")
def test_a_text_of_10_kb_is_cut_and_still_told_apart():
    long = "x" * 10_000
    assert len(tag_text(long)) <= TAG_LIMIT
    assert tag_text(long) != tag_text(long + "y")


@pytest.mark.fault("F31")
def test_a_hostile_id_is_a_line_of_its_own_beside_short_ones():
    batch = SampleBatch.blank(3)
    batch.agent[:] = (0, 1, 2)
    batch.at_us[:] = T0
    lines = lines_of(batch, ids=["a", "=" * 128, 'b",drop=1 '])
    assert len(lines) == 3
    assert lines[2].startswith("agent_vitals,agent=" + "\\=" * 128 + ",run_id=r,type=t ")
    assert lines[1].startswith('agent_vitals,agent=b"\\,drop\\=1\\ ,run_id=r,type=t ')


def test_a_vital_may_have_any_name():
    for name in ("gpu_w", "status", "step", "time", "a b", 'odd "name', "vital_status"):
        assert vital_of(field_name(name)) in {name, name.removeprefix("vital_")}
    assert field_name("status") != "status"


def test_a_long_text_goes_on_in_further_fields():
    fields = text_fields("body", "é" * 100_000)
    assert [field.split("=")[0] for field in fields] == ["body", "body_2", "body_3", "body_4", "body_5", "body_6", "body_7"]
    assert "".join(field.split("=")[1].strip('"') for field in fields) == "é" * 100_000
    assert all(len(field.encode()) < 64_000 for field in fields)


def test_events_of_one_microsecond_never_share_a_time():
    drafts = [Draft(at_us=T0, subject="a", event=acts.SicknessReported(reason="x")) for _ in range(3000)]
    telling = Telling(run_id="r")
    lines = [line for envelope in seal("r", drafts, 0, GENESIS) for line in telling.lines(envelope)]
    assert len({line.rsplit(" ", 1)[1] for line in lines}) == 3000
    assert point_ns(T0, 5) // 1000 == T0
    assert point_ns(T0, SPREAD - 1) - T0 * 1000 < 1_000_000


def test_a_baseline_is_written_to_six_digits_for_those_who_have_one():
    roster = Roster()
    for agent_id in ("a", "b", "c"):
        roster.enroll(AgentIdentity(agent_id=agent_id))
    expected = np.full((3, 9), np.nan, dtype=np.float32)
    expected[0], expected[2] = 1234.5678, 0.00012345678
    text = b"".join(Encoder("r", roster, VitalSchema()).profiles(T0, Bands(expected=expected, low=expected / 2, high=expected * 2))).decode()
    first, second = text.splitlines()
    assert first.startswith("baseline_profile,agent=a,run_id=r agent_index=0i,latency_ms_expected=1234.5")
    assert "agent=c" in second
