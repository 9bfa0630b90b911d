"""JSON as bytes: compact, every text as it is, no figure that a browser cannot read."""

from __future__ import annotations

import json
import math
from typing import Any


def encode(document: Any) -> bytes:
    """The document as JSON bytes; not-a-number and infinite figures become null."""
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(finite(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def finite(value: Any) -> Any:
    """The same document with null for every figure that is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
