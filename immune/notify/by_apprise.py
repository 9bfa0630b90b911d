"""Notices through apprise: mail, chats, pagers and a hundred other services, each by one address (extra ``notify``)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from importlib.util import find_spec

from immune.core.notices import URGENT
from immune.errors import InputError
from immune.notify.message import DeliveryError, Message
from immune.reach import allowed, in_figures

LOUD_FROM = 8.0


class AppriseWay:
    """One address in apprise's own form; most of them hold a secret, so it is never shown.

    Redirects are not followed, inner addresses not called unless allowed. A name is looked up just before apprise looks it up again,
    so unlike a webhook's it could be made to lead elsewhere in between.
    """

    def __init__(self, url: str, timeout_s: float, *, private: bool = False, loopback: bool = False) -> None:
        if find_spec("apprise") is None:
            raise InputError("apprise is not installed", field="notify.kind", value="apprise", way_out="pip install 'immune[notify]'")
        from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - 0.3 s that only its users should pay

        self._apprise = Apprise(asset=AppriseAsset(http_redirects=False))
        self._private, self._loopback = private, loopback
        self._timeout_s = timeout_s
        if not self._apprise.add(url):
            scheme = url.split(":", 1)[0]
            raise InputError("apprise does not know such an address", field="notify.url", value=scheme, way_out="see its list of services")
        if not all(self._may_call(host) for host in self._hosts() if in_figures(host)):
            way_out = "give a public address, or set allow_private or allow_loopback if you mean it"
            raise InputError("this address may not be called", field="notify.url", way_out=way_out)

    async def send(self, message: Message) -> None:
        """One call in a thread of apprise's own. Raises DeliveryError."""
        from apprise import NotifyType  # noqa: PLC0415 - as above

        loud = any(notice.kind in URGENT or notice.severity >= LOUD_FROM for notice in message.delivery.notices)
        kind = NotifyType.FAILURE if loud else NotifyType.WARNING
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._check_names()
                sent = await self._apprise.async_notify(body=f"{message.text}\n{message.url}", title=message.title, notify_type=kind)
        except TimeoutError:
            raise DeliveryError(f"not sent within {self._timeout_s:g} s", again=True) from None
        if not sent:
            raise DeliveryError("the service did not take it", again=True)

    async def _check_names(self) -> None:
        loop = asyncio.get_running_loop()
        for host in self._hosts():
            try:
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                continue  # nowhere to call: apprise finds out the same
            if not all(self._may_call(str(address[0])) for *_, address in found):
                raise DeliveryError("its name leads to an address that may not be called", again=False)

    def _may_call(self, address: str) -> bool:
        return allowed(address, private=self._private, loopback=self._loopback)

    def _hosts(self) -> Iterator[str]:
        """Names and addresses that are servers; in most services of apprise this place holds a part of the secret, which nobody may look up."""
        for service in self._apprise:
            templates: tuple[str, ...] = service.templates
            if any("{host}" in template for template in templates) and getattr(service, "mode", "") != "cloud":
                hosts = (service.host, getattr(service, "smtp_host", ""))
                yield from (host.strip("[]") for host in hosts if isinstance(host, str) and host)

    async def close(self) -> None:
        """Nothing to let go of."""
