"""From bytes to samples: what is read, what is rejected and why, and that nothing else is touched."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immune.core.vitals import CONTEXT_FIELDS, MISSING, AgentIdentity, Lexicon, Roster, SampleBatch, Status, VitalSchema, task_key
from immune.errors import InputError
from immune.ports import Desk
from immune.sources import columns as by_column
from immune.sources.parse import (
    FIELDS,
    NO_TIME,
    ParsedRow,
    RefusedValueError,
    Rejection,
    RowParser,
    parse_number,
    parse_step,
    parse_time,
    parse_word,
    show,
)
from immune.sources.replay import ReplaySource
from tests.effort import examples

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


# --- one sample ------------------------------------------------------------------------------------------------------


def test_a_sample_of_text_and_one_of_json_scalars_are_the_same_sample() -> None:
    text = {
        "agent": "a",
        "at": "1700000000.25",
        "latency_ms": "12.5",
        "tool_calls": "3",
        "step": "4",
        "status": "working",
        "model": "m",
        "task_id": "t",
    }
    typed = {"agent": "a", "at": 1700000000.25, "latency_ms": 12.5, "tool_calls": 3, "step": 4, "status": "working", "model": "m", "task_id": "t"}
    parser = RowParser(SCHEMA)
    row = parser.parse_sample(text)
    assert isinstance(row, ParsedRow)
    assert repr(row) == repr(parser.parse_sample(typed))
    assert (row.at_us, row.step, row.status, row.task_id) == (1_700_000_000_250_000, 4, Status.WORKING, "t")
    assert row.values[SCHEMA.column("latency_ms")] == 12.5
    assert row.context[CONTEXT_FIELDS.index("model")] == "m"


@pytest.mark.fault("F28")
def test_what_is_absent_empty_or_null_is_missing_and_never_zero() -> None:
    row = RowParser(SCHEMA).parse_sample({"agent": "a", "latency_ms": "", "errors": None, "step": "", "status": None})
    assert isinstance(row, ParsedRow)
    assert all(math.isnan(value) for value in row.values)
    assert (row.at_us, row.step, row.status, row.task_id) == (None, MISSING, Status.UNSAID, "")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("latency_ms", "fast", "not_a_number"),
        ("latency_ms", True, "not_a_number"),
        ("latency_ms", [1], "not_a_number"),
        ("latency_ms", "1_000", "not_a_number"),
        ("latency_ms", "NaN", "nan"),
        ("latency_ms", math.nan, "nan"),
        ("latency_ms", "-Infinity", "infinite"),
        ("latency_ms", "-1", "negative"),
        ("latency_ms", "1e30", "absurd"),
        ("latency_ms", 10**400, "absurd"),
        ("confidence", 1.5, "absurd"),
        ("agent", "", "missing_agent"),
        ("agent", 7, "bad_id"),
        ("agent", "a\nb", "bad_id"),
        ("agent", "x" * 129, "bad_id"),
        ("agent", "\udcff", "encoding"),
        ("at", "yesterday", "bad_time"),
        ("at", "2026-02-30T00:00:00Z", "bad_time"),
        ("at", 1_767_225_600_000, "bad_time"),
        ("at", -1, "bad_time"),
        ("at", False, "bad_time"),
        ("status", "asleep", "bad_status"),
        ("step", -1, "bad_step"),
        ("step", 1.5, "bad_step"),
        ("step", "third", "bad_step"),
        ("model", 4, "not_text"),
        ("model", {"name": "m"}, "not_text"),
        ("task_id", "x" * 257, "too_long"),
    ],
)
@pytest.mark.fault("F27", "F28")
def test_a_bad_value_is_rejected_with_its_field_and_a_stable_reason(field: str, value: object, reason: str) -> None:
    rejection = RowParser(SCHEMA).parse_sample({"agent": "a", "latency_ms": 1, field: value})
    assert isinstance(rejection, Rejection)
    assert (rejection.field, rejection.reason) == (field, reason)
    assert len(rejection.value) <= 80


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2026-01-01T00:00:00Z", START_US),
        ("2026-01-01 00:00:00", START_US),
        ("2026-01-01", START_US),
        ("2026-01-01T00:00", START_US),
        ("2026-01-01T02:00:00+02:00", START_US),
        ("2025-12-31T21:30:00-0230", START_US),
        ("2026-01-01T00:00:00.123456789Z", START_US + 123_456),
        ("2026-01-01 00:00:00.5", START_US + 500_000),
        ("1767225600", START_US),
        ("1767225600.000001", START_US + 1),
        ("1970-01-01T00:00:00", 0),
    ],
)
def test_times_are_read_alone_and_by_column(text: str, at_us: int) -> None:
    assert parse_time(text) == at_us
    assert by_column.times((text, text))[0].tolist() == [at_us, at_us]


def test_a_value_is_shown_short_and_printable_whatever_it_is() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    for value in (deep, 10**6000, "\udcff\x00\n" * 100, None, {"a": 1}, math.nan):
        shown = show(value)
        assert len(shown) <= 80
        assert shown.isprintable()
        shown.encode()


ODD_TEXTS = [
    "",
    " 1 ",
    "1_0",
    "nan",
    "-inf",
    "1e999",
    "٣",
    "2026-01-01T00:00:00",
    "2026-13-01 00:00:00",
    "2026-01-01T00:00:00.25Z",
    "0",
    "-0.0",
    "7\0",
]
SECONDS = st.integers(-(10**8), 8 * 10**9).map(lambda second: str(np.datetime64(second, "s")))
TAILS = st.sampled_from(["", "Z", "+00:00", ".5", ".123456789Z", ".1234567890", "+01:00", "."])
MOMENTS = st.builds(lambda moment, keep, tail: moment[:keep] + tail, SECONDS, st.sampled_from([19, 19, 18, 16, 10]), TAILS)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["", " 1 ", "1_0", "nan", "-inf", "1e999", "٣", "2026-01-01T00:00:00", "2026-13-01 00:00:00", "2026-01-01T00:00:00.25Z", "-0.0", " 1 ", "7\0"]
    ),
    st.floats(0, 1e6).map(repr),
    MOMENTS,
)
COLUMNS = st.one_of(
    st.lists(SCALARS, max_size=8), st.lists(st.text(max_size=4) | st.just("5"), max_size=8).map(tuple), st.lists(st.floats(0, 1e9), max_size=8)
)


@settings(max_examples=examples(300), deadline=None)
@given(COLUMNS)
def test_a_column_is_read_as_its_values_are_one_by_one(column: list[object]) -> None:
    cases = [
        (lambda value: parse_number(value, 1e9), lambda: by_column.numbers(column, 1e9), math.nan),
        (parse_step, lambda: by_column.steps(column), MISSING),
        (lambda value: NO_TIME if (at_us := parse_time(value)) is None else at_us, lambda: by_column.times(column), NO_TIME),
        (parse_word, lambda: by_column.distinct(column, parse_word, ""), ""),
    ]
    for parse, read_column, default in cases:
        got, reasons = read_column()
        for row, value in enumerate(column):
            try:
                expected, reason = parse(value), None
            except RefusedValueError as refused:
                expected, reason = default, refused.reason
            assert reasons.get(row) == reason
            assert got[row] == expected or (math.isnan(got[row]) and math.isnan(expected))


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_plain_file_is_read_whole_and_in_order_of_time(tmp_path: Path) -> None:
    header = "at,agent,latency_ms,model,step,status,task_id,type,service\n"
    content = header + "2026-01-01T00:00:01Z,b,2,m,0,working,t,worker,s\n2026-01-01T00:00:00Z,a,1,,,,,,\n"
    place = desk()
    source = ReplaySource([write(tmp_path, content)])
    batch = read(source, place)
    assert batch.at_us.tolist() == [START_US, START_US + 1_000_000]
    assert [place.roster.agent_id(index) for index in batch.agent] == ["a", "b"]
    assert vital(batch, "latency_ms") == [1.0, 2.0]
    assert batch.step.tolist() == [MISSING, 0]
    assert batch.status.tolist() == [Status.UNSAID, Status.WORKING]
    assert batch.task_id.tolist() == [0, task_key("t")]
    assert place.lexicon.word(int(batch.codes[1, CONTEXT_FIELDS.index("model")])) == "m"
    assert (place.roster.identities[1].type, place.roster.identities[1].service) == ("worker", "s")
    assert (source.rows, source.accepted, sum(source.rejected.values()), source.exhausted) == (2, 2, 0, True)
    assert (source.first_us, source.last_us) == (START_US, START_US + 1_000_000)


def test_each_broken_row_is_named_by_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        b"at,agent,latency_ms,note",
        b"1767225600,a,1,",
        b"1767225601,a,fast,",
        b"1767225602,a,2",
        b"1767225603,a,3,,",
        b"1767225604,\xff,4,",
        b'1767225605,a,5,"never closed',
        b"",
        b"1767225606,a,inf,",
        b",a,7,",
        b"1767225608,a,8,\xc3\xa4",
        b'1767225609,a,9,"two\nlines"',
        b"1767225609,a,9,again",
        b"1767225601,a,9,late",
        b"1767225620,a,10,cut",
        b"1767225621,a",
    ]
    source, batch = read_text(tmp_path, b"\r\n".join(lines))
    assert vital(batch, "latency_ms") == [1.0, 8.0, 9.0, 10.0]
    assert {(row.line, row.field, row.reason) for row in source.rejections} == {
        (3, "latency_ms", "not_a_number"),
        (4, "line", "too_few_fields"),
        (5, "line", "too_many_fields"),
        (6, "line", "encoding"),
        (7, "line", "unclosed_quote"),
        (9, "latency_ms", "infinite"),
        (10, "at", "missing_time"),
        (14, "at", "duplicate"),
        (15, "at", "late"),
        (17, "line", "too_few_fields"),
    }
    assert source.rows == 14


GOOD = st.tuples(st.sampled_from("abc"), st.integers(0, 1000)).map(lambda pair: f"{pair[0]},{pair[1]},x")
BAD = st.sampled_from(
    ["a,nan,x", "a,-1,x", "a,1e30,x", "a,two,x", ",1,x", "a,1", "a,1,x,y", 'a,1,"x', "a,1,\udcff", "a\x00,1,x", 'a,1,"x"y', "a\rb,1,x"]
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.booleans(), GOOD, BAD), min_size=1, max_size=30), newline=st.sampled_from(["\n", "\r\n"]), end=st.booleans())
def test_bad_rows_leave_good_rows_untouched_and_counts_add_up(tmp_path: Path, rows: list[tuple[bool, str, str]], newline: str, end: bool) -> None:
    mixed = ["agent,errors,note", "a,1,x", *(good if is_good else bad for is_good, good, bad in rows)]
    clean = [mixed[0], mixed[1], *(good for is_good, good, _ in rows if is_good)]
    encoded = (newline.join(mixed) + newline * end).encode("utf-8", "surrogateescape")
    source, batch = read_text(tmp_path, encoded)
    _, expected = read_text(tmp_path, newline.join(clean), "clean.csv")
    for name in ("agent", "at_us", "values"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
    assert sum(source.rejected.values()) == len(mixed) - len(clean)
    assert source.rows == len(mixed) - 1 == source.accepted + sum(source.rejected.values())
    assert len(batch) == source.accepted


HEADS = [b"", b"agent,latency_ms\n", b'{"agent":"a","errors":1}\n', b"\xef\xbb\xbfagent;errors\n", b"PAR1", b"\x1f\x8b", b"\xff\xfea\0"]
PIECES = [b"a", b",", b'"', b"\n", b"\r", b"1", b"{", b"}", b"[", b":", b"\xff", b"\0"]


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from(HEADS),
    body=st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=80).map(b"".join),
    name=st.sampled_from(["x.csv", "x.jsonl", "x", "x.csv.gz", "x.parquet"]),
)
def test_garbage_raises_nothing_but_input_error(tmp_path: Path, head: bytes, body: bytes, name: str) -> None:
    refused: InputError | None = None
    try:
        source, batch = read_text(tmp_path, head + body, name)
        assert len(batch) == source.accepted > 0
    except InputError as error:
        refused = error
    assert refused is None or (refused.exit_code, bool(refused.field), bool(refused.way_out)) == (2, True, True)


def test_a_stray_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    lines = ["agent,errors,note", *(f'a,{n},"fine"' for n in range(600)), 'a,1,"open', *(f"a,{n},plain" for n in range(600))]
    source, batch = read_text(tmp_path, "\n".join(lines))
    assert len(batch) == 1200
    assert source.rejected == {"unclosed_quote": 1}
    assert source.rejections[0].line == 602


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    source, batch = read_text(tmp_path, "agent,errors\na,1\n" + "x" * 3_000_000 + "\na,2\na,bad\n")
    assert vital(batch, "errors") == [1.0, 2.0]
    assert [(row.line, row.reason) for row in source.rejections] == [(3, "line_too_long"), (5, "not_a_number")]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_mark_at_the_start_quotes_and_another_delimiter_are_understood(tmp_path: Path, newline: str) -> None:
    content = newline.join(['\ufeff"agent";latency_ms;tool', '"a;1";1;"say ""hi"""', "b;2;x"])
    place = desk()
    batch = read(ReplaySource([write(tmp_path, content)]), place)
    assert [place.roster.agent_id(index) for index in batch.agent] == ["a;1", "b"]
    assert place.lexicon.word(int(batch.codes[0, CONTEXT_FIELDS.index("tool")])) == 'say "hi"'


def test_a_row_count_beyond_the_kept_list_is_still_exact(tmp_path: Path) -> None:
    source, _ = read_text(tmp_path, "agent,errors\na,1\n" + "a,x\n" * 250)
    assert len(source.rejections) == 100
    assert source.rejected == {"not_a_number": 250}


def test_json_lines_are_read_like_csv(tmp_path: Path) -> None:
    lines = [
        '{"agent": "a", "at": 1767225600, "latency_ms": 1, "model": "m", "more": {"x": [1]}}',
        "",
        '{"agent": "a", "at": "2026-01-01T00:00:01Z", "latency_ms": NaN}',
        '{"agent": "a", "at": 1767225602, "latency_ms": true}',
        "[1]",
        '{"agent": "a", "at"',
        '{"agent": "\\ud800", "at": 1767225603}',
        '{"agent": "a", "at": 1767225604}',
        "[" * 100_000,
    ]
    source, batch = read_text(tmp_path, "\n".join(lines), "fleet.jsonl")
    assert batch.at_us.tolist() == [START_US, START_US + 4_000_000]
    assert [(row.line, row.reason) for row in source.rejections] == [
        (3, "nan"),
        (4, "not_a_number"),
        (5, "not_an_object"),
        (6, "not_json"),
        (7, "encoding"),
        (9, "not_json"),
    ]


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    moments = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in range(4)]
    table = arrow.table(
        {
            "at": arrow.array(moments, type=arrow.timestamp("ns", tz="UTC")),
            "agent": [7, 7, 7, 8],
            "latency_ms": [1.5, None, -1.0, 2.5],
            "errors": [0, 1, 2, 3],
            "model": ["m", None, "m", "m"],
        }
    )
    path = tmp_path / "fleet.parquet"
    parquet.write_table(table, path)
    place = desk()
    source = ReplaySource([path])
    batch = read(source, place)
    assert [identity.agent_id for identity in place.roster.identities] == ["7", "8"]
    assert (batch.at_us - START_US).tolist() == [0, 1_000_000, 3_000_000]
    np.testing.assert_array_equal(vital(batch, "latency_ms"), [1.5, np.nan, 2.5])
    assert [(row.line, row.field, row.value, row.reason) for row in source.rejections] == [(3, "latency_ms", "-1.0", "negative")]
    write(tmp_path, path.read_bytes()[:-10], "cut.parquet")
    with pytest.raises(InputError):
        ReplaySource([tmp_path / "cut.parquet"]).open(desk())


def test_parquet_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'immune\[parquet\]'"):
        ReplaySource([write(tmp_path, b"PAR1PAR1", "x.parquet")]).open(desk())


def test_gzip_is_unpacked_and_a_cut_off_archive_gives_what_it_has(tmp_path: Path) -> None:
    packed = gzip.compress(("agent,errors\n" + "".join(f"a,{n}\n" for n in range(20_000))).encode(), 1)
    _, whole = read_text(tmp_path, packed + gzip.compress(b"a,7\n"), "fleet.csv.gz")
    assert len(whole) == 20_001
    source, part = read_text(tmp_path, packed[: len(packed) // 2], "cut.csv.gz")
    assert 1000 < len(part) < 20_000
    assert source.rejected["cut_off"] == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "empty"),
        ("\n\n", "no header"),
        ("agent,latency_ms\n", "no usable row"),
        ("agent,latency_ms\na,nan\n", "no usable row"),
        ("when,who\n1,a\n", "no column is a vital"),
        ("1,2,3\n4,5,6\n", "no column is a vital"),
        ("agent,errors,errors\na,1,2\n", "twice"),
    ],
)
def test_a_file_that_gives_nothing_is_refused_with_a_way_out(tmp_path: Path, content: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        read_text(tmp_path, content)
    assert caught.value.way_out
    assert caught.value.exit_code == 2


def test_paths_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path, tmp_path / "nul\0.csv"):
        with pytest.raises(InputError):
            ReplaySource([path]).open(desk())
    with pytest.raises(InputError):
        ReplaySource([])


# --- columns and clocks ----------------------------------------------------------------------------------------------


def test_map_renames_and_vital_adds_columns(tmp_path: Path) -> None:
    place = desk(("queue_ms",))
    path = write(tmp_path, "who,ms,queue_ms,other\na,5,7,1\n")
    source = ReplaySource([path], mapping={"agent": "who", "latency_ms": "ms"}, vitals=["queue_ms"])
    batch = read(source, place)
    assert (vital(batch, "latency_ms"), vital(batch, "queue_ms", place.schema)) == ([5.0], [7.0])
    assert any("ignored columns: other" in note for note in source.notes)


@pytest.mark.parametrize(
    ("mapping", "vitals", "field", "meant"),
    [
        ({"latency": "ms"}, (), "--map", "latency_ms"),
        ({"latency_ms": "mss"}, (), "--map latency_ms", "ms"),
        ({}, ("queue_s",), "--vital", "queue_ms"),
    ],
)
def test_a_name_that_nothing_answers_to_is_refused_with_what_was_meant(
    tmp_path: Path, mapping: dict[str, str], vitals: tuple[str, ...], field: str, meant: str
) -> None:
    path = write(tmp_path, "agent,ms,queue_ms,errors\na,5,7,1\n")
    with pytest.raises(InputError) as caught:
        ReplaySource([path], mapping=mapping, vitals=vitals).open(desk(vitals))
    assert caught.value.field == field
    assert meant in caught.value.way_out


def test_an_unknown_column_is_noted_once_with_what_it_may_mean(tmp_path: Path) -> None:
    source, _ = read_text(tmp_path, "agent,errors,Latency ms,foo\na,1,2,3\na,1,2,3\n")
    assert source.notes[0] == "fleet.csv: ignored columns: Latency ms (did you mean latency_ms?), foo"


def test_without_a_clock_the_rows_of_an_agent_are_a_period_apart(tmp_path: Path) -> None:
    source = ReplaySource([write(tmp_path, "agent,errors\na,1\nb,2\na,bad\na,3\nb,4\na,5\n")], period_us=500_000)
    batch = read(source)
    assert (batch.at_us - START_US).tolist() == [0, 0, 500_000, 500_000, 1_000_000]
    assert vital(batch, "errors") == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_file_without_agents_is_one_agent_named_after_it(tmp_path: Path) -> None:
    place = desk()
    read(ReplaySource([write(tmp_path, "errors\n1\n2\n", "planner-7.csv")]), place)
    assert [identity.agent_id for identity in place.roster.identities] == ["planner-7"]


def test_files_are_merged_by_time_and_a_repeat_across_files_counts_once(tmp_path: Path) -> None:
    late = write(tmp_path, "at,agent,errors\n1767225602,a,3\n1767225603,a,4\n", "second.csv")
    early = write(tmp_path, "at,agent,latency_ms\n1767225601,a,1\n1767225602,a,2\n", "first.csv")
    source = ReplaySource([late, early])
    batch = read(source)
    assert (batch.at_us - START_US).tolist() == [1_000_000, 2_000_000, 3_000_000]
    assert [(Path(row.path).name, row.line, row.reason) for row in source.rejections] == [("first.csv", 3, "duplicate")]


def test_a_file_sorted_by_agent_has_no_late_rows(tmp_path: Path) -> None:
    rows = [f"{1767225600 + second},{agent},{second}" for agent in "ab" for second in range(5)]
    source, batch = read_text(tmp_path, "\n".join(["at,agent,errors", *rows]))
    assert sum(source.rejected.values()) == 0
    assert len(batch) == 10


def test_a_file_that_is_newest_first_is_sorted_and_a_note_says_so(tmp_path: Path) -> None:
    rows = [f"{1767225600 + second},a,{second}" for second in range(20, 0, -1)]
    source, batch = read_text(tmp_path, "\n".join(["at,agent,errors", *rows]))
    assert vital(batch, "errors") == list(range(1, 21))
    assert any("sorted by time" in note for note in source.notes)


def test_agents_beyond_the_fleets_limit_are_rejected_and_the_others_stay(tmp_path: Path) -> None:
    place = desk(max_agents=2)
    source = ReplaySource([write(tmp_path, "agent,errors\na,1\nb,2\nc,3\na,4\n")])
    batch = read(source, place)
    assert source.rejected == {"fleet_full": 1}
    assert len(batch) == source.accepted == 3


def test_a_roster_that_others_have_filled_rejects_at_collection(tmp_path: Path) -> None:
    place = desk(max_agents=2)
    source = ReplaySource([write(tmp_path, "agent,errors\na,1\nb,2\na,4\n")])
    source.open(place)
    place.roster.enroll(AgentIdentity(agent_id="somebody"))
    batch = collected(source, FOREVER_US)
    assert source.rejected == {"fleet_full": 1}
    assert len(batch) == source.accepted == 2


def test_a_streamed_file_gives_the_same_samples_as_one_held_in_memory(tmp_path: Path) -> None:
    rows = [f"{1767225600 + n // 7},agent-{n % 7 if n % 50 else 0},{n}" for n in range(30_000)]
    path = write(tmp_path, "\n".join(["at,agent,errors", *rows, "x,a,1"]))
    held, streamed = ReplaySource([path]), ReplaySource([path], stream_over_bytes=0)
    expected, batch = read(held), read(streamed)
    for name in ("agent", "at_us", "values"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
    assert streamed.rejected == held.rejected
    assert (streamed.first_us, streamed.last_us, streamed.rows) == (held.first_us, held.last_us, held.rows)
    assert streamed.progress() == 1.0


def test_a_streamed_file_is_read_as_it_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(["at,agent,errors", *(f"{1767225600 + n},a,{n}" for n in range(60_000))]))
    source = ReplaySource([path], stream_over_bytes=0)
    source.open(desk())
    first = collected(source, START_US + 10_000_000)
    assert len(first) == 11
    assert source.rows < 30_000
    assert 0 < source.progress() < 0.9
    assert source.next_us == START_US + 11_000_000


NUMBERS = st.floats(0, 1e6, allow_subnormal=False) | st.just(math.nan)
WORDS = st.sampled_from(["", "m", 'q"u,o\te'])
ROW = st.tuples(st.integers(0, 2), st.integers(1, 10_000_000), NUMBERS, WORDS, st.integers(-1, 9))
RECORDED = st.lists(ROW, min_size=1, max_size=15)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RECORDED)
def test_what_is_written_in_the_replay_format_comes_back_exactly(tmp_path: Path, rows: list[tuple[int, int, float, str, int]]) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS)
    writer.writeheader()
    at_us, expected = START_US, []
    for agent, gap_us, value, model, step in rows:
        at_us += gap_us
        moment = datetime.fromtimestamp(at_us // 1_000_000, UTC).replace(microsecond=at_us % 1_000_000).isoformat()
        shown = "" if math.isnan(value) else repr(value)
        writer.writerow(
            {"at": moment, "agent": f"agent {agent}", "cost_usd": shown, "model": model, "step": "" if step < 0 else step, "status": "idle"}
        )
        expected.append((f"agent {agent}", at_us, repr(value), model, step))
    place = desk()
    batch = read(ReplaySource([write(tmp_path, out.getvalue())]), place)
    models = [place.lexicon.word(int(code)) for code in batch.codes[:, CONTEXT_FIELDS.index("model")]]
    ids = [place.roster.agent_id(index) for index in batch.agent]
    got = list(zip(ids, batch.at_us.tolist(), map(repr, vital(batch, "cost_usd")), models, batch.step.tolist(), strict=True))
    assert got == expected


# --- recordings known by their header --------------------------------------------------------------------------------


def test_an_azure_trace_is_one_endpoint_with_input_and_output_tokens(tmp_path: Path) -> None:
    content = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319607,3180,8"
    place = desk()
    batch = read(ReplaySource([write(tmp_path, content, "llm_code.csv")]), place)
    assert place.roster.identities[0].agent_id == "llm_code"
    assert (vital(batch, "input_tokens"), vital(batch, "output_tokens")) == ([4808.0, 3180.0], [10.0, 8.0])
    assert int(batch.at_us[1] - batch.at_us[0]) == 52_000


def test_a_tau_run_is_a_session_in_which_only_the_agents_own_turns_speak_for_it(tmp_path: Path) -> None:
    content = (
        "run,task_id,trial,step,role,tool,input_tokens_est,output_tokens_est,tool_calls,error,reward,user_cost\n"
        "0-0,0,0,0,system,,0,1538,0,0,0.0,0.1\n0-0,0,0,1,user,,1538,17,0,0,0.0,0.1\n"
        "0-0,0,0,2,assistant,find,1555,22,1,0,0.0,0.1\n0-0,0,0,3,tool,find,1577,300,0,1,0.0,0.1\n"
    )
    place = desk()
    batch = read(ReplaySource([write(tmp_path, content)]), place)
    assert place.roster.identities[0].type == "tau-airline"
    np.testing.assert_array_equal(vital(batch, "output_tokens"), [np.nan, np.nan, 22, np.nan])
    np.testing.assert_array_equal(vital(batch, "context_tokens"), [np.nan, np.nan, 1555, np.nan])
    np.testing.assert_array_equal(vital(batch, "tool_calls"), [np.nan, np.nan, 1, np.nan])
    np.testing.assert_array_equal(vital(batch, "errors"), [np.nan, np.nan, np.nan, 1])
    assert batch.status.tolist() == [Status.IDLE, Status.IDLE, Status.WORKING, Status.DONE], "without a clock the last row is the end"
    assert batch.step.tolist() == [0, 1, 2, 3]


WHO_HEADER = "log,system,step,agent,input_tokens_est,output_tokens_est,tool_call,error,mistake_here,mistake_agent,is_correct"


def test_a_failure_log_is_a_session_and_its_outcome_changes_nothing(tmp_path: Path) -> None:
    rows = [("A_1", "Generated", step, "Expert", step * 100, 50, 1, 0) for step in range(3)]
    batches = []
    for outcome in ("0,Expert,0", "1,Nobody,1", "x,,"):
        place = desk()
        content = "\n".join([WHO_HEADER, *(",".join(map(str, row)) + "," + outcome for row in rows)])
        batches.append(read(ReplaySource([write(tmp_path, content)]), place))
        assert [(one.agent_id, one.type) for one in place.roster.identities] == [("A_1", "Generated")]
    assert vital(batches[0], "context_tokens") == [0.0, 100.0, 200.0]
    for other in batches[1:]:
        np.testing.assert_array_equal(other.values, batches[0].values)
        np.testing.assert_array_equal(other.codes, batches[0].codes)


def test_json_and_csv_of_one_recording_give_equal_samples(tmp_path: Path) -> None:
    rows = [{"agent": f"a{n % 3}", "at": START_US / 1e6 + n, "latency_ms": n / 8, "tool": "find", "status": "done"} for n in range(20)]
    text = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    _, from_csv = read_text(tmp_path, text)
    _, from_json = read_text(tmp_path, "\n".join(map(json.dumps, rows)), "fleet.jsonl")
    for name in ("agent", "at_us", "values", "status", "codes"):
        np.testing.assert_array_equal(getattr(from_csv, name), getattr(from_json, name))
