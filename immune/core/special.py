"""Two special functions of SciPy, brought in at their first call and not at the start of the program.

SciPy costs a fifth of a second to import. A daemon that comes back holds its agents before it scores a sample, so it need not
wait for that.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def _special() -> ModuleType:
    return import_module("scipy.special")


def ndtri(p: Any) -> NDArray[np.floating[Any]]:
    """Quantile of the standard normal distribution."""
    found: NDArray[np.floating[Any]] = _special().ndtri(p)
    return found


def stdtr(df: Any, t: Any) -> NDArray[np.floating[Any]]:
    """Distribution function of Student's t with so many degrees of freedom."""
    found: NDArray[np.floating[Any]] = _special().stdtr(df, t)
    return found
