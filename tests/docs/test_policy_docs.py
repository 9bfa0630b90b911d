import importlib.util
import re
from pathlib import Path

import pytest

from immune.clock import VirtualClock
from immune.core.notices import NOTICE_KINDS
from immune.core.policy import Policy
from immune.core.policy_file import policy_keys, read_policy
from immune.core.severity import severity
from immune.infections import CATALOGUE
from immune.notify.config import KEYS, load_channels
from immune.settings import load_influx
from tests.unit.test_severity import seen

ROOT = Path(__file__).resolve().parents[2]


def _pages():
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _pages()


@pytest.mark.parametrize("path", MAKE.pages(), ids=lambda path: path.name)
def test_a_page_made_from_the_code_is_up_to_date(path):
    assert path.read_text(encoding="utf-8") == MAKE.pages()[path], "run: python docs/make.py"


def test_every_policy_key_has_its_line_in_the_page():
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    for section, field, value in policy_keys(Policy()):
        assert f"| `{field.name}` | {value} |" in page
        assert not section or f"## [{section}]" in page


def test_every_infection_has_its_heading_and_its_file():
    page = (ROOT / "docs" / "infections.md").read_text(encoding="utf-8")
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    files = {path.stem for path in (ROOT / "immune" / "infections").glob("*.py")} - {"__init__"}
    kinds = [infection.kind for infection in CATALOGUE]
    assert headings == [*kinds, "unknown"]
    assert set(kinds) == files
    assert len(kinds) == len(set(kinds))


def test_the_example_is_a_valid_policy_and_the_default_one():
    text = (ROOT / "immune.toml.example").read_text(encoding="utf-8")
    assert read_policy(text, "immune.toml.example") == Policy()


def test_the_examples_of_neighbouring_tables_are_valid_once_they_are_wanted(tmp_path):
    text = (ROOT / "immune.toml.example").read_text(encoding="utf-8")
    wanted = tmp_path / "immune.toml"
    wanted.write_text(re.sub(r"^#(?=[^ \n])", "", text, flags=re.MULTILINE), encoding="utf-8")
    influx = load_influx(config=wanted, environment={})
    assert (influx.url, influx.org, influx.bucket, influx.spool_mb) == ("http://127.0.0.1:8086", "immune", "immune", 2048)
    [on_call] = load_channels(wanted, VirtualClock(0), {"ONCALL_WEBHOOK": "https://example.org/hook", "ONCALL_SECRET": "0" * 32})
    assert on_call.channel.name == "on-call"
    assert on_call.channel.kinds == NOTICE_KINDS
    assert read_policy(wanted.read_text(encoding="utf-8"), "immune.toml") == Policy()


def test_every_key_of_the_neighbouring_tables_is_in_the_example():
    text = (ROOT / "immune.toml.example").read_text(encoding="utf-8")
    missing = [key for key in KEYS if not re.search(rf"\b{key}\b", text)]
    assert not missing


def test_the_severities_that_the_page_quotes_are_what_the_formula_gives():
    quoted = {
        "one vital of money x1.3": [("cost_usd", 1.3)],
        "x1.6": [("cost_usd", 1.6)],
        "x3": [("cost_usd", 3)],
        "tokens and cost x8": [("cost_usd", 8), ("output_tokens", 8)],
        "cost, latency, tool calls and errors x5 each": [("cost_usd", 5), ("latency_ms", 5), ("tool_calls", 5), ("errors", 5)],
        "retries from 0.05 to 2 per step": [("retries", 2.5 / 0.55)],
        "errors from 0.02 to 1 per step": [("errors", 1.5 / 0.52)],
    }
    page = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    for words, symptoms in quoted.items():
        value = severity([seen(vital, "up", ratio) for vital, ratio in symptoms]).value
        assert f"| {words} | {value:.1f} |" in page
    assert f"| confidence halved | {severity([seen('confidence', 'down', 0.5)]).value:.1f} |" in page


@pytest.mark.parametrize(
    ("ratios", "level"), [((1.25,), "throttled"), ((1.15,), "none"), ((1.5,), "restricted"), ((1.9,), "isolated"), ((1.65, 1.65), "isolated")]
)
def test_the_levels_that_the_page_quotes_are_what_the_policy_asks_for(ratios, level):
    evidence = [seen(vital, "up", ratio) for vital, ratio in zip(("cost_usd", "latency_ms"), ratios, strict=False)]
    assert Policy().level_for(severity(evidence).value)[0] == level
