"""From bytes to samples: what is read, what is rejected and why, and that nothing else is touched."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immune.core.vitals import CONTEXT_FIELDS, MISSING, Status, task_key
from immune.errors import InputError
from immune.sources import columns as by_column
from immune.sources.parse import (
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
from tests.unit.replay_kit import SCHEMA, START_US, desk, read, read_text, vital, write

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
