"""Notices through apprise: mail, chats, pagers and a hundred other services, each by one address (extra ``notify``)."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from immune.core.notices import URGENT
from immune.errors import InputError
from immune.notify.message import DeliveryError, Message

LOUD_FROM = 8.0


class AppriseWay:
    """One address in apprise's own form; most of them hold a secret, so it is never shown."""

    def __init__(self, url: str, timeout_s: float) -> None:
        if find_spec("apprise") is None:
            raise InputError("apprise is not installed", field="notify.kind", value="apprise", way_out="pip install 'immune[notify]'")
        from apprise import Apprise  # noqa: PLC0415 - 0.3 s that only its users should pay

        self._apprise = Apprise()
        self._timeout_s = timeout_s
        if not self._apprise.add(url):
            scheme = url.split(":", 1)[0]
            raise InputError("apprise does not know such an address", field="notify.url", value=scheme, way_out="see its list of services")

    async def send(self, message: Message) -> None:
        """One call in a thread of apprise's own. Raises DeliveryError."""
        from apprise import NotifyType  # noqa: PLC0415 - as above

        loud = any(notice.kind in URGENT or notice.severity >= LOUD_FROM for notice in message.delivery.notices)
        kind = NotifyType.FAILURE if loud else NotifyType.WARNING
        try:
            async with asyncio.timeout(self._timeout_s):
                sent = await self._apprise.async_notify(body=f"{message.text}\n{message.url}", title=message.title, notify_type=kind)
        except TimeoutError:
            raise DeliveryError(f"not sent within {self._timeout_s:g} s", again=True) from None
        if not sent:
            raise DeliveryError("the service did not take it", again=True)

    async def close(self) -> None:
        """Nothing to let go of."""
