"""Links that open the dashboard once: the daemon puts them into notices and prints one at its start, the dashboard redeems them.

The secret stands behind a ``#``, which no server, log or preview of a chat ever sees; the data directory keeps only its digest.
The link of a notice lets its holder look, and nothing else: whoever decides logs in.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from immune.stores.private import replace_private

US = 1_000_000
ADDRESS_FILE = "dashboard.json"
LINKS_DIR = "dashboard.links"
LASTS_S = 24 * 3600
LOGIN_LASTS_S = 600
LINKS_MAX = 2_000
SWEPT_FILE = ".swept"
SWEEP_EVERY_S = 600


def noted_address(data_dir: Path) -> str:
    """Where the dashboard of this data directory listens, as it noted itself; empty while none runs."""
    try:
        url = json.loads((data_dir / ADDRESS_FILE).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return url if isinstance(url, str) else ""


def page_link(data_dir: Path, page: str, now_us: int) -> str:
    """A path that opens `page` once within a day; the page itself where a link cannot be kept (a full disk must not keep people from hearing)."""
    try:
        secret = _keep(data_dir, {"name": "", "token": "", "expires_us": now_us + LASTS_S * US}, now_us)
    except OSError:
        return page
    return f"/login?next={quote(page, safe='')}#{secret}"


def issue_link(data_dir: Path, name: str, token: str, now_us: int) -> str:
    """A secret that logs this person in once within ten minutes. Raises OSError where it cannot be kept."""
    return _keep(data_dir, {"name": name, "token": token, "expires_us": now_us + LOGIN_LASTS_S * US}, now_us)


def redeem_link(data_dir: Path, secret: str, now_us: int) -> tuple[str, str] | None:
    """(name, token) the first time, None ever after, or when it is too late. Two empty ones: the link of a notice, which only lets look."""
    path = data_dir / LINKS_DIR / digest(secret)
    taken = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # whoever renames it first has it
        path.rename(taken)
        content = json.loads(taken.read_text(encoding="utf-8"))
        taken.unlink()
    except (OSError, ValueError):
        return None
    return (content["name"], content["token"]) if content["expires_us"] > now_us else None


def digest(secret: str) -> str:
    """Under which name a secret is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _keep(data_dir: Path, content: dict[str, str | int], now_us: int) -> str:
    secret, folder = secrets.token_urlsafe(24), data_dir / LINKS_DIR
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(folder, now_us)
    # a link that a power cut takes along is asked for again: nobody waits for the disk
    replace_private(folder / digest(secret), json.dumps(content), durable=False)
    return secret


def _sweep(folder: Path, now_us: int) -> None:
    """What is over goes, and the oldest when there are too many; every ten minutes, since notices come in bursts."""
    mark = folder / SWEPT_FILE
    if mark.exists() and 0 <= now_us - mark.stat().st_mtime_ns // 1000 < SWEEP_EVERY_S * US:
        return
    mark.touch(mode=0o600)
    os.utime(mark, ns=(now_us * 1000, now_us * 1000))
    kept = []
    for path in folder.iterdir():
        if path == mark:
            continue
        ends_us = _ends_us(path)
        if ends_us <= now_us:
            path.unlink(missing_ok=True)
        else:
            kept.append((ends_us, path))
    for _, path in sorted(kept)[: max(0, len(kept) - LINKS_MAX + 1)]:
        path.unlink(missing_ok=True)


def _ends_us(path: Path) -> int:
    """When a link ends; what is none has ended."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["expires_us"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
