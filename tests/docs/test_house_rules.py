"""Rules of the house that no linter of others knows."""

from __future__ import annotations

import ast
import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path for folder in ("immune", "simulation", "showcase") for path in (ROOT / folder).rglob("*.py"))
SKIPPED = {"__pycache__", "build", "dist", "out", "demo-out", "node_modules"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".yml", ".yaml", ".jinja", ".html", ".css", ".js", ".txt", ".lock", ".json", ".svg", ".cfg", ""}
# Taken apart so that this file does not name what it looks for.
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "np" + "mjs.org", "crates" + ".io", "gh" + "cr.io"]
PLACES = ["/" + "work/", "/tmp/" + "brief", "/" + "root/"]
BANNED_NAME = re.compile(r"(^|_)(manager|helper|helpers|util|utils)($|_)|(Manager|Helper|Util|Utils)($|[A-Z])")


@cache
def tree_of_text() -> list[Path]:
    """Every text file of ours. Folders that are not ours are not entered: an environment has 20,000 files."""
    found = []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name in {".ci", ".github"} or not (name.startswith(".") or name in SKIPPED)]
        found += [Path(folder) / name for name in names if Path(name).suffix in TEXT_SUFFIXES]
    return sorted(found)


@cache
def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


@pytest.mark.parametrize("word", HOSTS + PLACES)
def test_nothing_in_the_tree_names_a_package_host_or_a_place_on_somebodys_machine(word):
    assert [str(path.relative_to(ROOT)) for path in tree_of_text() if word in text_of(path)] == []


def test_the_lock_pins_every_package_with_a_hash_and_names_no_address():
    lock = text_of(ROOT / "requirements.lock")
    pins = re.findall(r"^[a-z0-9][a-z0-9._-]*(?:\[[^]]*\])?==\S+ \\\n +--hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE)) > 20
    assert "://" not in lock
    assert "setuptools==" in lock, "make setup installs the tree without build isolation"


def test_every_dependency_that_the_project_asks_for_is_pinned():
    import tomllib

    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    asked = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {re.split(r"[<>=!~\[; ]", one)[0].lower() for one in asked}
    pinned = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==", text_of(ROOT / "requirements.lock").lower(), re.MULTILINE))
    assert names <= pinned


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_says_nothing(path):
    tree = ast.parse(text_of(path))
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [name for name in [*names, path.stem] if BANNED_NAME.search(name)] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_are_caught_by_name_outside_the_supervisor(path):
    if path.name in {"supervisor.py", "executor.py"}:
        return  # a dying child and a foreign connector may throw anything; both are put on record, neither is hidden
    broad = [
        node.lineno
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"})
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)  # undoes something and lets the error go on
    ]
    assert not broad, f"{path.relative_to(ROOT)} catches everything at lines {broad}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_wall_clock_is_read_in_one_place(path):
    if path.relative_to(ROOT) == Path("immune/clock.py"):
        return
    reads = re.findall(
        r"\btime\.(?:time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns)\(|\bdatetime\.now\(|\.utcnow\(|\.today\(", text_of(path)
    )
    assert not reads


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_to_do(path):
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK|NotImplemented(Error)?)\b", text_of(path))


SECRET_NAME = re.compile(r"(^|_)(token|secret|csrf|password|signature|mac)$")


def secrets_compared_in(source: str) -> list[int]:
    """Lines where something that is named like a secret is compared with == or !=, which ends the sooner the earlier they differ."""
    compared = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare)]
    plain = [node for node in compared if any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops)]
    return [node.lineno for node in plain if any(SECRET_NAME.search(_last_name(side)) for side in (node.left, *node.comparators))]


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_secrets_are_compared_in_a_time_that_does_not_depend_on_them():
    serving = [*(ROOT / "immune").rglob("*.py"), *(ROOT / "dashboard").rglob("*.py")]
    assert {str(path.relative_to(ROOT)): lines for path in serving if (lines := secrets_compared_in(text_of(path)))} == {}
    assert sum("hmac.compare_digest(" in text_of(path) for path in serving) >= 3
    assert secrets_compared_in("if given == session.csrf: ...\nif kept.token() != x: ...\nif size == 3: ...") == [1, 2], "the rule can fail"
