"""Whole files: which columns are meant, whose clock counts, how several become one, and recordings known by their header."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immune.core.vitals import CONTEXT_FIELDS, AgentIdentity, Status
from immune.errors import InputError
from immune.sources.parse import (
    FIELDS,
)
from immune.sources.replay import ReplaySource
from tests.effort import examples
from tests.unit.replay_kit import FOREVER_US, START_US, collected, desk, read, read_text, vital, write

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
