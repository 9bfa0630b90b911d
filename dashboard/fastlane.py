"""What everybody asks for all the time, handed out before Flask is asked: files, and three answers that are the same for whoever may look.

Everything that could make an answer differ from person to person (a query, a login that is needed and not there, a token
that is not valid, a host that is not ours) goes the usual way.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from dashboard.assets import Assets
from dashboard.documents import map_document, stats_document
from dashboard.encoding import encode
from dashboard.guard import SECURITY_HEADERS, allowed_hosts, host_name
from dashboard.shelf import Sheet
from dashboard.site import Site

Environ = dict[str, Any]
Start = Callable[..., Any]
Wsgi = Callable[[Environ, Start], Iterable[bytes]]

LARGE_BYTES = 64 * 1024
_COMMON = [*SECURITY_HEADERS.items(), ("Cache-Control", "private, no-cache"), ("Vary", "Accept-Encoding, Cookie, Authorization")]


class Uncopied:
    """Bytes as a file whose pieces are views of them: the server copies what it is given thrice before a socket gets it, but not these."""

    def __init__(self, body: bytes) -> None:
        self._view = memoryview(body)
        self._place = 0

    def read(self, size: int = -1, /) -> memoryview:
        """The next piece."""
        end = len(self._view) if size < 0 else self._place + size
        piece = self._view[self._place : end]
        self._place += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go there."""
        self._place = offset + (0, self._place, len(self._view))[whence]
        return self._place

    def tell(self) -> int:
        """Where it is."""
        return self._place


class FastLane:
    """Stands before an application."""

    def __init__(self, site: Site, usual: Wsgi) -> None:
        self.site = site
        self.usual = usual
        self.hosts = allowed_hosts(site)
        self.assets = Assets()
        self._sheets: dict[str, Callable[[], Sheet]] = {"/api/agents": self._agents, "/api/map": self._map, "/api/stats": self._stats}

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """One request."""
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "GET" or host_name(environ.get("HTTP_HOST", "")) not in self.hosts:
            return self.usual(environ, start)
        found = self.assets.find(path) if path.startswith("/static/") else None
        if found is not None:
            return self._hand_out(environ, start, *found)
        make = self._sheets.get(path)
        if make is None or environ.get("QUERY_STRING") or not self._may(environ):
            return self.usual(environ, start)
        return self._hand_out(environ, start, make(), "application/json")

    def _hand_out(self, environ: Environ, start: Start, sheet: Sheet, media_type: str) -> Iterable[bytes]:
        self.site.counters.requests += 1
        headers = [*_COMMON, ("ETag", sheet.etag), ("X-Request-Id", secrets.token_hex(8))]
        if sheet.etag in environ.get("HTTP_IF_NONE_MATCH", ""):
            start("304 Not Modified", headers)
            return []
        headers.append(("Content-Type", media_type))
        body = sheet.raw
        if sheet.packed is not None and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            headers.append(("Content-Encoding", "gzip"))
            body = sheet.packed
        headers.append(("Content-Length", str(len(body))))
        start("200 OK", headers)
        if len(body) < LARGE_BYTES or "wsgi.file_wrapper" not in environ:
            return [body]
        sent: Iterable[bytes] = environ["wsgi.file_wrapper"](Uncopied(body))
        return sent

    def _may(self, environ: Environ) -> bool:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme:
            return scheme.lower() == "bearer" and self.site.keys.find(token.strip()) is not None
        return not self.site.options.login

    def _agents(self) -> Sheet:
        projection = self.site.projection
        return self.site.shelf.get("agents", projection.version, lambda: self.site.fleet_list.body(projection))

    def _map(self) -> Sheet:
        projection = self.site.projection
        return self.site.shelf.get("map", projection.version, lambda: encode(map_document(projection)))

    def _stats(self) -> Sheet:
        projection = self.site.projection
        return self.site.shelf.get("stats", projection.version, lambda: encode(stats_document(projection)))
