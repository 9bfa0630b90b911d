"""How hard a test looks: a glance while one works, all of it in CI (`CI=true`)."""

from __future__ import annotations

import os

CI = bool(os.environ.get("CI"))


def examples(in_ci: int) -> int:
    """How many drawn cases are tried: `in_ci` of them there, a fifth, but ten at least, here."""
    return in_ci if CI else max(10, in_ci // 5)
