"""One message through every channel, by hand: whether people can be reached at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from immune.clock import SystemClock
from immune.core.duty import Delivery
from immune.core.notices import Notice
from immune.notify.config import ChannelSpec, load_channels
from immune.notify.message import DeliveryError, compose


def try_channels(config: Path, dashboard: str) -> list[tuple[str, str]]:
    """(channel, what went wrong or nothing) of each. Raises InputError, PolicyError for a configuration that is wrong."""
    clock = SystemClock()
    specs = load_channels(config, clock)
    return asyncio.run(_all(specs, clock.now_us(), dashboard))


async def _all(specs: list[ChannelSpec], now_us: int, dashboard: str) -> list[tuple[str, str]]:
    return list(zip((spec.channel.name for spec in specs), await asyncio.gather(*(_one(spec, now_us, dashboard) for spec in specs)), strict=True))


async def _one(spec: ChannelSpec, now_us: int, dashboard: str) -> str:
    notice = Notice(
        key=f"test {now_us}",
        kind="stalled",
        at_us=now_us,
        subject="immune",
        title="A test message from immune",
        text="Somebody asked whether you can be reached. Nothing has happened.",
        severity=0.0,
        page="/system",
        event_id=f"test-{now_us}",
    )
    delivery = Delivery(channel=spec.channel.name, notices=(notice,))
    try:
        await spec.way.send(compose(delivery, "test", dashboard + notice.page))
    except DeliveryError as error:
        return str(error)
    finally:
        await spec.way.close()
    return ""
