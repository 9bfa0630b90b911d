"""The shortest history that still breaks the same rule: delta debugging over the faults of a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proving.script import Script


def shrink(script: Script, breaks: Callable[[Script], bool], *, tries: int = 300) -> Script:
    """Take out as many faults as possible while it still `breaks`; at most so many runs.

    ddmin (Zeller, Hildebrandt: Simplifying and isolating failure-inducing input, 2002), without the subset half: complements only.
    """
    faults, pieces = list(script.faults), 2
    while len(faults) > 1 and tries > 0:
        size = max(1, len(faults) // pieces)
        for start in range(0, len(faults), size):
            tries -= 1
            fewer = faults[:start] + faults[start + size :]
            if fewer and breaks(replace(script, faults=tuple(fewer))):
                faults, pieces = fewer, max(2, pieces - 1)
                break
            if tries <= 0:
                break
        else:
            if size == 1:
                break
            pieces = min(len(faults), pieces * 2)
    return replace(script, faults=tuple(faults))
