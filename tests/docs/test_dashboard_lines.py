"""The table of the dashboard's lines cannot lie: every line has a test of that name in a real browser, and no test shows a line that is none."""

from __future__ import annotations

import pytest

from tests import dashboard_lines


def test_every_line_is_shown_by_a_test_in_the_browser():
    shown = dashboard_lines.claims()
    assert [line for line in dashboard_lines.LINES if line not in shown] == []


def test_only_known_lines_are_claimed():
    assert [line for line in dashboard_lines.claims() if line not in dashboard_lines.LINES] == []
    counts = {letter: sum(line.startswith(letter) for line in dashboard_lines.LINES) for letter in "ABCD"}
    assert counts == {"A": 7, "B": 4, "C": 8, "D": 15}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def test_a1_x(stage): ...", [("A1", "test_a1_x")]),
        ("async def test_d15_y(): ...", [("D15", "test_d15_y")]),
        ("def test_walk(): ...\ndef helper_a1_x(): ...", []),
        ("@pytest.mark.skip\ndef test_a1_x(): ...", []),
        ("@pytest.mark.skipif(True, reason='')\ndef test_a1_x(): ...", []),
        ("@pytest.mark.xfail\ndef test_a1_x(): ...", []),
        ("# def test_a1_x(): ...", []),
        ("class Far:\n    def test_a1_x(self): ...", []),
    ],
)
def test_only_tests_that_are_run_show_a_line(source, expected):
    assert list(dashboard_lines.claims_of(source)) == expected
