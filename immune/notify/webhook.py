"""Notices to an endpoint of yours, as one JSON POST: signed where a secret is shared, and readable by chats that want a ``text``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from immune.clock import Clock
from immune.core.events import iso
from immune.core.notices import Notice
from immune.core.signing import SECRET_BYTES, signed_headers
from immune.errors import InputError
from immune.notify.message import DeliveryError, Message
from immune.reach import check_address

if TYPE_CHECKING:
    from aiohttp import ClientSession


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """Where to; the address may be a secret itself (chats give such). `timeout_s` is for one try."""

    url: str = field(repr=False)
    secret: bytes = field(default=b"", repr=False)
    allow_private: bool = False
    allow_loopback: bool = False
    timeout_s: float = 10.0


class WebhookWay:
    """One endpoint. Redirects are not followed, inner addresses not called unless allowed."""

    def __init__(self, target: WebhookTarget, clock: Clock) -> None:
        check_address(target.url, "notify.url", private=target.allow_private, loopback=target.allow_loopback)
        if target.secret and len(target.secret) < SECRET_BYTES:
            raise InputError("too short a secret", field="notify.secret", way_out=f"use at least {SECRET_BYTES} bytes: openssl rand -hex 32")
        self._target = target
        self._clock = clock
        self._session: ClientSession | None = None

    async def send(self, message: Message) -> None:
        """One POST. Raises DeliveryError."""
        from aiohttp import ClientError  # noqa: PLC0415 - 0.2 s that only its users should pay

        from immune.outbound import open_session  # noqa: PLC0415 - as aiohttp

        target = self._target
        if self._session is None:
            self._session = open_session(private=target.allow_private, loopback=target.allow_loopback, timeout_s=target.timeout_s)
        body = json.dumps(document(message), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.key}
        if target.secret:
            headers |= signed_headers(target.secret, self._clock.now_us(), body)
        try:
            async with self._session.post(target.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except TimeoutError:
            raise DeliveryError(f"no answer within {target.timeout_s:g} s", again=True) from None
        except (ClientError, OSError) as error:
            # only the kind: the text of such an error may hold the address with what is secret in it
            raise DeliveryError(f"cannot be reached ({type(error).__name__})", again=True) from None
        if not 200 <= status < 300:
            raise DeliveryError(f"answered {status}", again=status >= 500 or status in {408, 425, 429})

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()


def document(message: Message) -> Mapping[str, Any]:
    """The JSON of a message."""
    return {
        "text": f"{message.title}\n{message.text}\n{message.url}",
        "title": message.title,
        "url": message.url,
        "run_id": message.run_id,
        "reminders": message.delivery.reminders,
        "notices": [_entry(notice) for notice in message.delivery.notices],
    }


def _entry(notice: Notice) -> Mapping[str, Any]:
    return {
        "kind": notice.kind,
        "at": iso(notice.at_us),
        "subject": notice.subject,
        "title": notice.title,
        "text": notice.text,
        "severity": round(notice.severity, 1),
        "event": notice.event_id,
        "incident": notice.incident_id or None,
        "waits": notice.waits or None,
    }
