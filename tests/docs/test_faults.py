"""The catalogue of faults cannot lie: the page says what the tests say and what came of them, and every fault is accounted for."""

from __future__ import annotations

import pytest

from tests import faults


def test_every_fault_has_a_test_or_a_reason():
    claimed = faults.claims()
    assert [fault for fault in faults.FAULTS if fault not in claimed and fault not in faults.NOT_YET] == []


def test_only_known_faults_are_claimed():
    assert [fault for fault in faults.claims() if fault not in faults.FAULTS] == []
    assert list(faults.FAULTS) == [f"F{number}" for number in range(1, 62)]


def test_no_test_that_claims_a_fault_failed_when_it_ran():
    found = faults.results()["faults"]
    assert [(fault, test) for fault, tests in found.items() for test, count in tests.items() if count["failed"]] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('@pytest.mark.fault("F1", "F2")\ndef test_a(): ...', [("F1", "test_a"), ("F2", "test_a")]),
        ('@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.fault("F9"))])\nasync def test_b(x): ...', [("F9", "test_b")]),
        ('class TestC:\n    @pytest.mark.fault("F3")\n    def test_c(self): ...', [("F3", "test_c")]),
        ("def test_d(): fault('F1')", []),
    ],
)
def test_claims_are_read_from_marks_of_functions_and_parameters(source, expected):
    import ast

    assert list(faults._claims_of(ast.parse(source))) == expected


def test_a_fault_that_was_not_seen_to_be_survived_is_not_told_as_survived():
    test = "tests/x.py::test_a"
    assert faults._told("F1", [test], {})[0] == "not run"
    assert faults._told("F1", [test], {test: {"passed": 2, "failed": 0, "skipped": 0}})[0] == "survived"
    assert faults._told("F1", [test], {test: {"passed": 1, "failed": 0, "skipped": 1, "why": "no server"}})[0] == "in part"
    assert faults._told("F1", [test], {test: {"passed": 1, "failed": 1, "skipped": 0}})[0] == "**failed**"
    assert faults._told("F1", [test, "tests/x.py::test_new"], {test: {"passed": 1, "failed": 0, "skipped": 0}})[0] == "in part"
