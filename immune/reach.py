"""Which addresses may be called at all: public ones, and inner ones only where the configuration says so."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from immune.errors import InputError

NEVER = tuple(map(ip_network, ("100.100.100.200/32", "192.0.0.0/24", "fd00:ec2::/64", "fd20:ce::254/128", "2001::/32")))
"""Metadata services of clouds that are not link-local, and Teredo, which wraps an inner address in a public one."""


def allowed(address: str, *, private: bool, loopback: bool) -> bool:
    """Whether an address may be called: public ones always, the others only where the configuration says so.

    Link-local (which holds most metadata services of clouds), the others of these services, multicast, unspecified and reserved
    ones never are. An IPv4 address within an IPv6 one (mapped, 6to4) counts as what it is.
    """
    known = ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(known, IPv6Address):
        inner: IPv4Address | None = known.ipv4_mapped or known.sixtofour
        if inner is not None:
            return allowed(str(inner), private=private, loopback=loopback)
    if known.is_loopback:
        return loopback
    if any(known in network for network in NEVER) or (isinstance(known, IPv6Address) and known.is_site_local):
        return False
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
    if in_figures(host) and not allowed(host, private=private, loopback=loopback):
        way_out = "give a public address, or set allow_private or allow_loopback if you mean it"
        raise InputError("this address may not be called", field=field, value=host, way_out=way_out)
    return host


def _is_this_machine(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def in_figures(host: str) -> bool:
    """Whether a host is an address and not a name."""
    try:
        ip_address(host.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    return True
