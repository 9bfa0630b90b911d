"""F43: where a name leads is looked at when it is connected to, and every address that it leads to counts."""

from __future__ import annotations

import socket

import pytest

from immune.outbound import ForbiddenAddressError, GuardedResolver
from immune.reach import allowed


class Names:
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses):
        self.addresses = addresses

    async def resolve(self, host, port=0, family=socket.AF_INET):
        return [{"hostname": host, "host": one, "port": port, "family": family, "proto": 0, "flags": 0} for one in self.addresses]


def leading_to(*addresses, private=False, loopback=False):
    resolver = GuardedResolver(private=private, loopback=loopback)
    resolver._inner = Names(*addresses)
    return resolver


@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("127.8.9.10",),
        ("::1",),
        ("169.254.169.254",),
        ("fe80::1%eth0",),
        ("::ffff:127.0.0.1",),
        ("::ffff:169.254.169.254",),
        ("::ffff:a9fe:a9fe",),
        ("10.1.2.3",),
        ("0.0.0.0",),
        ("93.184.216.34", "169.254.169.254"),
        ("2606:2800:220:1::1", "::ffff:127.0.0.1"),
    ],
)
async def test_a_name_that_leads_to_an_inner_address_even_beside_a_public_one_is_not_connected_to(addresses):
    with pytest.raises(ForbiddenAddressError, match="leads to an address"):
        await leading_to(*addresses).resolve("hook.example", 443)


async def test_a_name_that_leads_only_where_it_may_is_resolved():
    assert [one["host"] for one in await leading_to("93.184.216.34").resolve("hook.example", 443)] == ["93.184.216.34"]
    assert await leading_to("127.0.0.1", loopback=True).resolve("hook.example", 443)
    assert await leading_to("10.1.2.3", private=True).resolve("hook.example", 443)


@pytest.mark.fault("F43")
@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "100.100.100.200", "fd00:ec2::254"])
async def test_what_tells_secrets_of_a_cloud_is_never_connected_to_whatever_is_allowed(address):
    with pytest.raises(ForbiddenAddressError):
        await leading_to(address, private=True, loopback=True).resolve("hook.example", 443)
    assert not allowed(address, private=True, loopback=True)
