"""Calls to addresses that a person configured: where they may lead, checked at the moment of connecting.

A name can be made to resolve to an inner address after it was looked at (DNS rebinding), so the check is part of
resolving: the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import socket

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, StreamReader, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from immune.reach import allowed

ANSWER_BYTES = 64 * 1024


class ForbiddenAddressError(OSError):
    """A name led to an address that the configuration does not allow."""


class GuardedResolver(AbstractResolver):
    """Resolves names, and refuses those that lead anywhere they should not."""

    def __init__(self, *, private: bool, loopback: bool) -> None:
        self._private, self._loopback = private, loopback
        self._inner = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Every address of a name. Raises ForbiddenAddressError if one of them is not allowed."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not allowed(one["host"], private=self._private, loopback=self._loopback):
                raise ForbiddenAddressError(f"{host} leads to an address that is not allowed")
        return found

    async def close(self) -> None:
        """Nothing to let go of."""
        await self._inner.close()


async def read_up_to(content: StreamReader, limit_bytes: int) -> bytes:
    """The body of an answer, or its beginning. Asked for so many bytes, the reader itself gives whatever has arrived."""
    pieces: list[bytes] = []
    left = limit_bytes
    while left > 0 and (piece := await content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def open_session(*, private: bool, loopback: bool, timeout_s: float) -> ClientSession:
    """A session that asks no proxy, keeps no cookies and connects only where it may. Redirects are for the caller to refuse."""
    return ClientSession(
        connector=TCPConnector(resolver=GuardedResolver(private=private, loopback=loopback), limit=16),
        timeout=ClientTimeout(total=timeout_s),
        cookie_jar=DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )
