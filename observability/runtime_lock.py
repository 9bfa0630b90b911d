"""The part of requirements.lock that running needs, without what only tests and benchmarks need: `python observability/runtime_lock.py`.

Which package is there for which other is in the lock itself, in the `# via` lines that pip-compile writes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = frozenset({"setuptools"})
"""What installing the tree itself needs."""


def blocks(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """(text, names of those it is there for) of every pinned package, by name."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for text in re.findall(r"^[a-z0-9].*(?:\n[ \t]+.*)*", lock, re.MULTILINE):
        name = re.split(r"[=\[ ]", text)[0]
        via = re.findall(r"^ +# +(?:via +)?([a-z0-9][\w.-]*)", text, re.MULTILINE)
        found[name] = (text, frozenset(via) - {"via"})
    return found


def needed(lock: str, asked: frozenset[str]) -> list[str]:
    """Names of what is asked for and of everything that is there for its sake, in the lock's order."""
    known = blocks(lock)
    chosen = set(asked & known.keys())
    while more := {name for name, (_, via) in known.items() if name not in chosen and via & chosen}:
        chosen |= more
    return [name for name in known if name in chosen]


def asked_for(pyproject: str) -> frozenset[str]:
    """Names of the dependencies of running."""
    asked = tomllib.loads(pyproject)["project"]["dependencies"]
    return frozenset(re.split(r"[<>=!~\[; ]", one)[0].lower() for one in asked) | BUILD


def runtime_lock(root: Path = ROOT) -> str:
    """The whole text, hashes included."""
    lock = (root / "requirements.lock").read_text(encoding="utf-8")
    known = blocks(lock)
    names = needed(lock, asked_for((root / "pyproject.toml").read_text(encoding="utf-8")))
    return "".join(known[name][0] + "\n" for name in names)


if __name__ == "__main__":
    sys.stdout.write(runtime_lock())
