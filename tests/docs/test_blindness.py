"""The control plane is blind: nothing in immune/ names, types or imports what the simulation knows."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTROL_PLANE = sorted((ROOT / "immune").rglob("*.py"))
TEMPLATES = sorted(path for path in (ROOT / "immune").rglob("*") if path.suffix in {".jinja", ".html", ".css", ".toml", ".json"})

FORBIDDEN_WORDS = frozenset({
    "inject", "injects", "injected", "injecting", "injector", "injection", "injections", "chaos", "scenario", "scenarios",
    "label", "labels", "labelled", "labeled", "groundtruth", "saboteur",
})  # fmt: skip
FORBIDDEN_PHRASES = ("ground truth", "sealed truth", "true kind", "true onset")
ALLOWED_PHRASES = (
    "prompt injection",  # an infection kind, known by its symptoms
    "aria label",  # what a screen reader says of a chart
    "aria labelledby",
)
ALLOWED_WORDS = {
    "immune/core/vitals.py": {"label"},  # what a person reads beside a vital's number
    "immune/reports/from_run.py": {"label"},  # reads it
}
FORBIDDEN_IMPORTS = frozenset({"simulation", "showcase", "dashboard", "benchmarks", "tests", "demo", "main"})


def words_of(text: str) -> str:
    """The text as lower-case words between single blanks; identifiers are taken apart at underscores and humps."""
    humps = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return " ".join(re.findall(r"[a-z]+", humps.lower()))


def forbidden_in(text: str, allowed: frozenset[str] | set[str] = frozenset()) -> list[str]:
    flat = words_of(text)
    for phrase in ALLOWED_PHRASES:
        flat = flat.replace(phrase, "·")
    found = [word for word in flat.split() if word in FORBIDDEN_WORDS and word not in allowed]
    return found + [phrase for phrase in FORBIDDEN_PHRASES if phrase in flat]


def tokens_of(source: str) -> list[tuple[int, str]]:
    """(line, text) of every name, string and comment."""
    kept = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT}
    kept |= {getattr(tokenize, name) for name in ("FSTRING_MIDDLE",) if hasattr(tokenize, name)}
    return [(token.start[0], token.string) for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type in kept]


def imports_of(tree: ast.AST) -> set[str]:
    """Top-level names of everything imported, by statement or by name at run time."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {"import_module", "__import__"}:
            found |= {arg.value.split(".")[0] for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


def test_there_is_a_control_plane_to_look_at():
    assert len(CONTROL_PLANE) > 5


@pytest.mark.parametrize("path", CONTROL_PLANE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_word_of_the_control_plane_speaks_of_what_the_simulation_did(path):
    allowed = ALLOWED_WORDS.get(str(path.relative_to(ROOT)), set())
    found = [(line, word) for line, text in tokens_of(path.read_text()) for word in forbidden_in(text, allowed)]
    assert not found, f"{path.relative_to(ROOT)} says {found}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_template_of_the_control_plane_speaks_of_it_either(path):
    assert not forbidden_in(path.read_text())


def test_no_file_name_of_the_control_plane_speaks_of_it():
    assert [path.name for path in CONTROL_PLANE + TEMPLATES if forbidden_in(path.stem)] == []


@pytest.mark.parametrize("path", CONTROL_PLANE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_control_plane_never_imports_the_simulation(path):
    assert not imports_of(ast.parse(path.read_text())) & FORBIDDEN_IMPORTS


@pytest.mark.parametrize(
    "text",
    [
        "injected_kind",
        "class ChaosEvent:",
        "groundTruth = 1",
        "# the true onset of it",
        '"scenario"',
        "def inject_fault(): ...",
        "was_labelled",
        "sql_injection",
    ],
)
def test_the_vocabulary_check_can_fail(text):
    assert forbidden_in(text)


@pytest.mark.parametrize("text", ["prompt_injection", "PromptInjection", 'aria-label="latency"', "available", "reject", "object"])
def test_the_vocabulary_check_lets_honest_words_pass(text):
    assert not forbidden_in(text)


def test_the_import_check_sees_imports_by_name():
    assert imports_of(ast.parse("import importlib\nimportlib.import_module('simulation.fleet')")) >= {"simulation"}
