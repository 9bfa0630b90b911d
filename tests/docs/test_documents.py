"""The documents say what is there: commands exist, headings are present, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "dashboard/README.md")] + sorted((ROOT / "docs").glob("*.md"))
ARCHITECTURE_HEADINGS = (
    "Overview",
    "High-level design",
    "Low-level design",
    "Data flow of a tick",
    "Component mapping",
    "Runtime notes",
    "Trade-offs",
    "Dated decisions",
)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def shell_lines(markdown: str) -> list[str]:
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@cache
def help_of(script: str) -> str:
    return subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def names_below(command) -> set[str]:
    """Names of the commands in a group; none for a plain command."""
    return set(getattr(command, "commands", {}))


@cache
def plugins() -> set[str]:
    """Commands that other packages of the tree hang into the command line."""
    groups = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"].get("entry-points", {})
    return {name for group, entries in groups.items() if group.startswith("immune.") for name in entries}


def documented_commands() -> list[str]:
    """``immune …`` commands of the README: those in its table and those in its shell blocks, up to the first argument."""
    readme = text_of(ROOT / "README.md")
    told = re.findall(r"`immune ([a-z]+(?: [a-z]+(?:\|[a-z]+)*)?)", readme)
    told += [match[1] for line in shell_lines(readme) if (match := re.match(r"(?:\.venv/bin/)?immune ([a-z]+(?: [a-z]+)?)", line))]
    return sorted(set(told))


def test_the_readme_fits_on_a_few_screens():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 150


def told_lines() -> list[tuple[str, str]]:
    """Whole ``immune …`` commands of every document, with the document's name: in shell blocks and in running text."""
    told = []
    for path in DOCUMENTS:
        text = text_of(path)
        lines = [line.split(" #")[0].split(" | ")[0] for line in shell_lines(text)] + re.findall(r"`([^`\n|]+)`", text)
        told += [(path.name, line.strip()) for line in lines if re.match(r"immune [a-z]", line)]
    return sorted(set(told))


@pytest.mark.parametrize(("document", "line"), told_lines())
def test_every_command_and_option_in_a_document_is_known(document, line):
    from typer.main import get_command

    from immune.cli import app

    words = line.split()[1:]
    command = get_command(app)
    if words[0] in plugins():
        return
    while words and names_below(command):
        name = words.pop(0)
        if name.startswith("-"):
            words.insert(0, name)
            break
        assert set(name.split("|")) <= names_below(command), f"{document}: {line}"
        command = command.commands[name.split("|")[0]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    given = {option for word in words if (option := re.match(r"\[?(--[a-z][a-z-]*)", word))}
    assert {option[1] for option in given} <= known, f"{document}: {line}"


@pytest.mark.parametrize("command", documented_commands())
def test_every_command_of_the_readme_exists(command):
    from typer.main import get_command

    from immune.cli import app

    group, _, rest = command.partition(" ")
    top = get_command(app)
    if group in plugins():
        return
    assert group in names_below(top)
    # A word after a command without subcommands is an argument of it.
    inner = names_below(top.commands[group])
    assert not inner or {verb for verb in rest.split("|") if verb} <= inner


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    told = {target for path in DOCUMENTS for target in re.findall(r"(?:^|`|&& )make ([a-z][a-z-]*)", text_of(path), re.MULTILINE)}
    assert told
    assert told <= targets


def test_every_option_the_readme_gives_a_script_is_known_to_it():
    for line in shell_lines(text_of(ROOT / "README.md")):
        words = shlex.split(line, comments=True)
        scripts = [word for word in words if word in {"demo.py", "main.py"}]
        for script in scripts:
            known = help_of(script)
            assert [word for word in words if word.startswith("--") and word.split("=")[0] not in known] == []


def test_the_architecture_has_its_headings_in_order():
    headings = re.findall(r"^## (?:\d+\. )?(.+)$", text_of(ROOT / "ARCHITECTURE.md"), re.MULTILINE)
    assert [heading for heading in headings if heading in ARCHITECTURE_HEADINGS] == list(ARCHITECTURE_HEADINGS)


def test_every_file_that_the_component_mapping_names_exists():
    mapping = text_of(ROOT / "ARCHITECTURE.md").split("## Component mapping")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([^`]+)`", mapping, re.MULTILINE)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_part_of_the_control_plane_is_in_the_component_mapping():
    mapping = text_of(ROOT / "ARCHITECTURE.md").split("## Component mapping")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([^`]+)`", mapping, re.MULTILINE)
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "immune").rglob("*.py") if path.name != "__init__.py"]
    assert [name for name in sorted(files) if not any(name == one or name.startswith(one.rstrip("/") + "/") for one in named)] == []


def test_every_decision_carries_its_date():
    decisions = text_of(ROOT / "ARCHITECTURE.md").split("## Dated decisions")[1]
    items = re.findall(r"^- (.{12})", decisions, re.MULTILINE)
    assert len(items) >= 3
    assert all(re.match(r"\*?\*?\d{4}-\d{2}-\d{2}", item) for item in items)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_tree_leads_somewhere(path):
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text_of(path))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_changelog_begins_with_the_version_of_the_project():
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    assert re.search(r"^## \[?" + re.escape(version), text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
