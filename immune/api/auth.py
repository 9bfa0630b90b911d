"""Who asks, and from where: bearer tokens, the host a browser meant, the page a browser came from."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import web

from immune.api.limits import Buckets
from immune.api.problems import ProblemError
from immune.api.seams import Keys
from immune.core.commands import CommandError, Principal

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "ip6-localhost"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Doorman:
    """Looks at every request before anything else does."""

    def __init__(self, keys: Keys, hosts: Collection[str] = ()) -> None:
        self.keys = keys
        self.hosts = LOCAL_NAMES | frozenset(host.lower() for host in hosts)
        self.failures = Buckets(per_s=1.0, burst=20.0)
        self.failed = 0

    def check_host(self, request: web.Request) -> None:
        """421 unless the request was meant for this host: a name that an attacker points here does not pass."""
        name = host_name(request.headers.get("Host", ""))
        if name not in self.hosts:
            raise ProblemError(421, "this is not the host you meant", field="Host", value=name, way_out="use the address in daemon.json")

    def check_origin(self, request: web.Request) -> None:
        """403 for a change that a page of another origin asks a browser to make."""
        if request.method in SAFE_METHODS:
            return
        site = request.headers.get("Sec-Fetch-Site", "")
        if site in {"cross-site", "same-site"}:
            raise CommandError(
                403, "another site asks for this change", field="Sec-Fetch-Site", value=site, way_out="use the command line or the dashboard"
            )
        origin = request.headers.get("Origin")
        if origin is not None and _authority(origin) != request.headers.get("Host", "").lower():
            raise CommandError(
                403, "another origin asks for this change", field="Origin", value=origin, way_out="use the command line or the dashboard"
            )

    def still(self, request: web.Request) -> Principal | None:
        """Whose token a request bears, with the role of this moment; None once it is worth nothing any more."""
        token = _token_of(request)
        return self.keys.find(token) if token else None

    def admit(self, request: web.Request, now_us: int) -> Principal:
        """Who asks. 401 without a valid token, 429 after too many tries from one address."""
        token = _token_of(request)
        principal = self.still(request)
        if principal is None:
            self.failed += 1
            # only who fails is slowed down: one stale token on this machine must not lock the others out
            if self.failures.take(request.remote or "unknown", now_us):
                raise ProblemError(429, "too many failed attempts from your address", way_out="wait a moment", headers={"Retry-After": "2"})
            what = "this token is not valid" if token else "a token is needed"
            way_out = "send `Authorization: Bearer TOKEN`; the admin's token is in the data directory"
            raise ProblemError(401, what, field="Authorization", way_out=way_out, headers={"WWW-Authenticate": 'Bearer realm="immune"'})
        return principal


def _token_of(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def host_name(host: str) -> str:
    """The name of a Host header, without port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
