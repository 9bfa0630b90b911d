"""Links that open a page of the dashboard once: the daemon puts them into notices, the dashboard redeems them.

The secret stands behind a ``#``, which no server, log or preview of a chat ever sees; the data directory keeps only its digest.
Such a link lets its holder look, and nothing else: whoever decides logs in.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from urllib.parse import quote

from immune.stores.private import replace_private

US = 1_000_000
LINKS_DIR = "dashboard.links"
LASTS_S = 24 * 3600
LINKS_MAX = 2_000


def page_link(data_dir: Path, page: str, now_us: int) -> str:
    """A path that opens `page` once within a day; the page itself where a link cannot be kept (a full disk must not keep people from hearing)."""
    secret = secrets.token_urlsafe(24)
    folder = data_dir / LINKS_DIR
    content = {"name": "", "token": "", "expires_us": now_us + LASTS_S * US}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(folder)
        replace_private(folder / digest(secret), json.dumps(content))
    except OSError:
        return page
    return f"/login?next={quote(page, safe='')}#{secret}"


def digest(secret: str) -> str:
    """Under which name a link is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _make_room(folder: Path) -> None:
    """The oldest go when there are too many."""
    kept = sorted((path.stat().st_mtime_ns, path) for path in folder.iterdir() if not path.name.startswith("."))
    for _, path in kept[: max(0, len(kept) - LINKS_MAX + 1)]:
        path.unlink(missing_ok=True)
