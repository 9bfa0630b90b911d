"""Which addresses may be called at all: public ones, and inner ones only where the configuration says so."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from immune.errors import InputError


def allowed(address: str, *, private: bool, loopback: bool) -> bool:
    """Whether an address may be called: public ones always, the others only where the configuration says so.

    Link-local (which holds the metadata services of clouds), multicast, unspecified and reserved ones never are.
    """
    known = ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(known, IPv6Address):
        inner: IPv4Address | None = known.ipv4_mapped or known.sixtofour
        if inner is not None:
            return allowed(str(inner), private=private, loopback=loopback)
    if known.is_loopback:
        return loopback
    if known.is_link_local or known.is_multicast or known.is_unspecified or known.is_reserved:
        return False
    return known.is_global or private


def check_address(url: str, field: str, *, private: bool, loopback: bool) -> str:
    """The host of a configured address, if it may be called. Raises InputError.

    An address in figures is not resolved, so it is checked here; names are checked at the moment they are resolved.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host:
        raise InputError("not an address to call", field=field, value=host or parts.scheme, way_out="give https://HOST/PATH")
    if parts.username or parts.password:
        raise InputError("no credentials in an address", field=field, value=host, way_out="leave user and password out; calls are signed")
    if parts.scheme == "http" and not (loopback and _is_this_machine(host)):
        raise InputError("orders travel by https", field=field, value=host, way_out="use https; http only on this machine, with allow_loopback")
    if _in_figures(host) and not allowed(host, private=private, loopback=loopback):
        way_out = "give a public address, or set allow_private or allow_loopback if you mean it"
        raise InputError("this address may not be called", field=field, value=host, way_out=way_out)
    return host


def _is_this_machine(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _in_figures(host: str) -> bool:
    try:
        ip_address(host.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    return True
