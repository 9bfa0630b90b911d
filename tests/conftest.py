"""What all tests share: how hard hypothesis looks, and which skips are failures."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import fault_results
from tests.influx_kit import influx_server as influx_server

# Derandomised in both: a test that fails must fail again for the person who looks. No deadline: virtual machines stall.
_SHARED = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=15, **_SHARED)
settings.register_profile("ci", max_examples=60, **_SHARED)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# What is imported and collected stays until the end. Looking through it again and again takes a tenth of the quick tests' time.
gc.disable()

_REQUIRED = frozenset(os.environ.get("IMMUNE_REQUIRE", "").replace(",", " ").split())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip for a missing server into a failure when IMMUNE_REQUIRE names the server's marker."""
    outcome = yield
    report = outcome.get_result()
    missing = sorted(name for name in _REQUIRED if item.get_closest_marker(name))
    if report.skipped and missing and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"IMMUNE_REQUIRE asks for {', '.join(missing)}, and this test was skipped: {report.longrepr}"


def pytest_addoption(parser):
    parser.addoption("--fault-results", metavar="FILE", help="note what came of the tests that claim a fault (see tests/faults.py)")


def pytest_configure(config):
    path = config.getoption("--fault-results", None)
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(fault_results.Recorder(Path(path)), "fault-results")


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_itemcollected(item):
    for marker in item.iter_markers("fault"):
        item.user_properties += [(fault_results.PROPERTY, fault) for fault in marker.args]
