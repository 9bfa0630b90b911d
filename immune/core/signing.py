"""How calls to people's endpoints are signed, so that they can tell ours from anybody's."""

from __future__ import annotations

import hashlib
import hmac

US = 1_000_000
SECRET_BYTES = 16


def signed_headers(secret: bytes, now_us: int, content: bytes) -> dict[str, str]:
    """``Immune-Timestamp`` (epoch seconds) and ``Immune-Signature``: ``v1=`` and the hex HMAC-SHA256 of ``TIMESTAMP.CONTENT``."""
    stamp = str(now_us // US)
    digest = hmac.new(secret, stamp.encode() + b"." + content, hashlib.sha256).hexdigest()
    return {"Immune-Timestamp": stamp, "Immune-Signature": f"v1={digest}"}
