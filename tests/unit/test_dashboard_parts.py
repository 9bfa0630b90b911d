"""What the dashboard computes without a server: filters, files, finished bytes, thinned curves, sessions."""

from __future__ import annotations

import gzip
import json
import threading
from collections import OrderedDict
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import paging, postmortem
from dashboard.charts import thinned
from dashboard.composition import issue_link, redeem_link
from dashboard.downloads import cell, csv_text, guarded
from dashboard.encoding import encode
from dashboard.filters import keep
from dashboard.policies import POLICIES_KEPT, policy_of
from dashboard.routing import Ask
from dashboard.sessions import Sessions
from dashboard.shelf import Shelf
from immune.api.problems import ProblemError
from immune.ports import VitalSeries
from immune.reports.words import sure
from immune.stores import links

ROWS = [
    {"id": "coder-1", "type": "coder", "state": "isolated", "severity": 7.5, "tier": 2, "agents": ["coder-1"]},
    {"id": "coder-2", "type": "coder", "state": "healthy", "severity": 0.0, "tier": None, "agents": []},
    {"id": "writer-1", "type": "writer", "state": "sick", "severity": 5.0, "tier": None, "agents": ["writer-1", "x"]},
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2]),
        ("state:isolated type:coder sev>6", [0]),
        ("sev>=5", [0, 2]),
        ("sev<5", [1]),
        ("-type:coder", [2]),
        ("type:coder,writer", [0, 1, 2]),
        ("WRITER", [2]),
        ("id:coder", [0, 1]),
        ("agents:x", [2]),
        ("tier:2", [0]),
        ("tier>1", [0]),
        ('"coder-1"', [0]),
        ("nothing:here", []),
        ("-healthy sev>1", [0, 2]),
    ],
)
def test_a_filter_keeps_the_rows_that_every_term_holds_for(query, found):
    assert keep(ROWS, query) == [ROWS[place] for place in found]


@pytest.mark.parametrize("query", ["sev>high", " ".join(["a"] * 30)])
def test_what_is_no_filter_is_refused(query):
    with pytest.raises(ProblemError):
        keep(ROWS, query)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused_and_never_fails(query):
    with suppress(ProblemError):
        assert all(row in ROWS for row in keep(ROWS, query))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\n=x", " =x", "\ufeff=x"])
def test_a_cell_that_a_spreadsheet_would_execute_is_guarded(text):
    assert guarded(text).startswith("'")


def test_figures_stay_figures_and_nested_things_are_json():
    assert [cell(value) for value in (None, True, -1, 2.5, "a", ["a", "b"], {"=x": 1})] == ["", "true", "-1", "2.5", "a", "a b", '{"=x":1}']
    assert csv_text([{"a": 1, "b": "x,y"}, {"c": "=z"}]) == 'a,b,c\r\n1,"x,y",\r\n,,\'=z\r\n'


def test_what_is_no_figure_becomes_null_and_any_text_survives():
    assert json.loads(encode({"x": [float("nan"), float("inf"), 1.5], "t": "ä\ud800"})) == {"x": [None, None, 1.5], "t": "ä\ud800"}


def test_an_answer_is_made_once_per_version_however_many_ask():
    shelf, made, gate = Shelf(), [], threading.Event()

    def make():
        made.append(1)
        gate.wait(5)
        return b"x" * 2000

    threads = [threading.Thread(target=shelf.get, args=("a", "1", make)) for _ in range(8)]
    for one in threads:
        one.start()
    gate.set()
    for one in threads:
        one.join(5)
    sheet = shelf.get("a", "1", lambda: b"never")
    assert (len(made), gzip.decompress(sheet.packed)) == (1, b"x" * 2000)
    assert shelf.get("a", "2", lambda: b"short").packed is None
    assert shelf.get("a", "2", lambda: b"never").raw == b"short"
    for number in range(200):
        shelf.get(f"n{number}", "1", lambda: b"")
    assert len(shelf) <= 64
    assert shelf.evicted == 201 - 64
    for number in range(200):
        with pytest.raises(ZeroDivisionError):
            shelf.get(f"broken{number}", "1", lambda: b"%d" % (1 // 0))
    assert len(shelf) <= 64, "nothing is kept of what could not be made"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(10, 60))
def test_a_thinned_curve_keeps_its_highest_and_lowest_point_and_its_order(values, points):
    series = VitalSeries(vital="v", at_us=np.arange(len(values), dtype=np.int64), value=np.array(values))
    at_us, value = thinned(series, points)
    assert len(value) <= max(points, 2)
    assert (value.max(), value.min()) == (max(values), min(values))
    assert (np.diff(at_us) > 0).all()


def test_the_sessions_and_policies_that_are_kept_are_bounded(tmp_path, monkeypatch):
    sessions = Sessions(tmp_path, Clock())
    monkeypatch.setattr("dashboard.sessions.SESSIONS_MAX", 5)
    secrets = [sessions.open("ada", "token")[0] for _ in range(8)]
    assert (len(sessions), sessions.evicted) == (5, 3)
    assert [sessions.find(one) is not None for one in secrets] == [False] * 3 + [True] * 5
    site = SimpleNamespace(policies=OrderedDict(), history_of=lambda run_id: SimpleNamespace(starts=()))
    for number in range(100):
        policy_of(site, SimpleNamespace(run_id="", state=SimpleNamespace(policy_version=f"v{number}", seq=0)))
    assert len(site.policies) == POLICIES_KEPT


class Clock:
    def __init__(self):
        self.at_us = 1_000_000

    def now_us(self):
        return self.at_us


def test_a_session_is_kept_as_a_digest_ends_by_itself_and_outlives_a_restart(tmp_path):
    clock = Clock()
    sessions = Sessions(tmp_path, clock)
    secret, session = sessions.open("ada", "imm_token")
    assert sessions.find(secret) is session
    assert sessions.find(secret + "x") is None
    text = (tmp_path / "dashboard.sessions").read_text()
    assert secret not in text
    assert (tmp_path / "dashboard.sessions").stat().st_mode & 0o077 == 0
    assert Sessions(tmp_path, clock).find(secret).name == "ada"
    clock.at_us += 13 * 3600 * 1_000_000
    assert sessions.find(secret) is None
    assert Sessions(tmp_path, clock).find(secret) is None


def test_a_link_has_one_winner_however_many_try(tmp_path):
    secret = issue_link(tmp_path, "ada", "imm_token", 0)
    won, threads = [], []
    for _ in range(16):
        threads.append(threading.Thread(target=lambda: won.append(redeem_link(tmp_path, secret, 1))))
        threads[-1].start()
    for one in threads:
        one.join(5)
    assert [one for one in won if one] == [("ada", "imm_token")]
    assert redeem_link(tmp_path, "../../etc/passwd", 1) is None


# -- pages of lists --------------------------------------------------------------------------------------------------------


def asked(**query):
    request = SimpleNamespace(args=query)
    return Ask(site=None, request=request, request_id="", principal=None, token="", session=None)


def pages_of(items, place, **query):
    """Every page of a list, by following `next`."""
    found, after = [], ""
    while after is not None:
        page = paging.page(asked(**query, after=after), items, place, lambda one: {"id": one[-1]})
        found.append([row["id"] for row in page.rows])
        after = page.next
    return found


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-(10**15), 0)), unique=True, max_size=40), st.integers(1, 7))
def test_pages_of_a_list_hold_everything_once_and_in_order(places, limit):
    items = sorted(places)
    found = pages_of(items, lambda one: one, limit=str(limit))
    assert [place for page in found for place in page] == [one[-1] for one in items]
    assert all(len(page) == limit for page in found[:-1])


def test_what_comes_and_goes_between_two_pages_neither_repeats_nor_hides_the_rest():
    items = [(0, -9), (0, -7), (1, -8), (1, -6), (1, -5)]
    first = paging.page(asked(limit="2"), items, lambda one: one, lambda one: {"id": one})
    assert [row["id"] for row in first.rows] == items[:2]
    # a newer one opened, and one that was listed has closed
    later = [(0, -11), (0, -9), (1, -8), (1, -7), (1, -6), (1, -5)]
    rest = paging.page(asked(limit="9", after=first.next), later, lambda one: one, lambda one: {"id": one})
    assert [row["id"] for row in rest.rows] == [(1, -8), (1, -7), (1, -6), (1, -5)]


def test_a_download_is_everything_that_fits_and_not_a_page():
    items = [(-n, f"agent-{n % 3}") for n in range(20, 0, -1)]
    page = paging.page(asked(limit="2", format="csv", q="id:agent-1"), items, lambda one: one[:1], lambda one: {"id": one[1]})
    assert ([row["id"] for row in page.rows], page.next) == (["agent-1"] * 7, None)


@pytest.mark.parametrize("text", ["x", "1.", "1.2.3.4.5", "1" * 19, "--1", "٣"])
def test_a_place_that_is_none_is_refused(text):
    with pytest.raises(ProblemError) as error:
        paging.page(asked(after=text), [], lambda one: one, lambda one: one)
    assert (error.value.status, error.value.field) == (400, "after")


# -- links and post-mortems -------------------------------------------------------------------------------------------------


def test_links_that_are_over_are_swept_every_ten_minutes_and_no_more_are_kept_than_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "LINKS_MAX", 3)
    minute = 60_000_000
    kept = [issue_link(tmp_path, "ada", "imm_token", at * minute) for at in range(9)]
    folder = tmp_path / links.LINKS_DIR
    assert len([path for path in folder.iterdir() if path.name != links.SWEPT_FILE]) == 9  # nobody looks at all of them for each
    newest = issue_link(tmp_path, "ada", "imm_token", 10 * minute)
    assert {path.name for path in folder.iterdir()} == {links.SWEPT_FILE, *map(links.digest, (*kept[-2:], newest))}


def test_a_dashboard_says_where_it_listens_and_what_it_says_may_be_nonsense(tmp_path):
    assert links.noted_address(tmp_path) == ""
    for text, url in (('{"url": "http://127.0.0.1:4711", "pid": 1}', "http://127.0.0.1:4711"), ("[", ""), ("[]", ""), ('{"url": 3}', "")):
        (tmp_path / links.ADDRESS_FILE).write_text(text)
        assert links.noted_address(tmp_path) == url


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("*not* <b> [x](y)", "\\*not\\* \\<b\\> \\[x\\](y)"),
        ("output_tokens _so_", "output_tokens \\_so\\_"),
        ("see https://evil.example or www.evil.example", "see https\\://evil.example or www\\.evil.example"),
        ("ada@evil.example", "ada\\@evil.example"),
        ("two\nlines\n# head", "two lines \\# head"),
    ],
)
def test_text_from_outside_stays_text_in_a_post_mortem(text, written):
    assert postmortem._text(text) == written


@pytest.mark.parametrize(("confidence", "says"), [(1.0, "> 99 %"), (0.994, "> 99 %"), (0.91, "91 %"), (0.004, "< 1 %"), (0.0, "0 %")])
def test_nobody_is_a_hundred_percent_sure(confidence, says):
    assert sure(confidence) == says
