"""The channels as a configuration file names them: ``[[notify]]``, beside the policy in the same TOML.

[[notify]]
name = "on-call"
kind = "webhook"                    # or "apprise"
url_env = "ONCALL_WEBHOOK"          # or url = "https://…", or url_file
secret_env = "ONCALL_SECRET"        # optional: messages are signed with it
min_severity = 5
quiet = "22:00-07:00"               # what is below quiet_min_severity waits until the morning
zone = "Europe/Berlin"
quiet_min_severity = 8

[[notify]]
name = "second"
kind = "apprise"
url_env = "SECOND_URL"
after_s = 900                       # only what nobody answered for a quarter of an hour
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from immune.clock import Clock
from immune.core.duty import Channel, QuietHours
from immune.core.notices import NOTICE_KINDS
from immune.notify.by_apprise import AppriseWay
from immune.notify.message import Way
from immune.notify.webhook import WebhookTarget, WebhookWay
from immune.tables import Keys, Tables, read_tables_text

KEYS: Keys = {
    "name": str,
    "kind": str,
    "url": str,
    "url_env": str,
    "url_file": str,
    "secret_env": str,
    "secret_file": str,
    "tells": list,
    "min_severity": (int, float),
    "after_s": (int, float),
    "repeat_s": (int, float),
    "quiet": str,
    "zone": str,
    "quiet_min_severity": (int, float),
    "allow_private": bool,
    "allow_loopback": bool,
    "timeout_s": (int, float),
}
NAME = re.compile(r"[\w.-]{1,40}", re.ASCII)
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
SECONDS = ("after_s", "repeat_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """One channel and the way it takes."""

    channel: Channel
    way: Way


def load_channels(path: Path | None, clock: Clock, environment: Mapping[str, str] | None = None) -> list[ChannelSpec]:
    """The channels of a file, none for None. Raises InputError, or PolicyError with line and column."""
    if path is None:
        return []
    tables = Tables(read_tables_text(path), path, os.environ if environment is None else environment)
    found = [_channel(tables, entry, number, clock) for number, entry in enumerate(tables.entries("notify"))]
    names = [spec.channel.name for spec in found]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise tables.wrong("this name is taken", ("notify", str(number), "name"), name, "give each channel a name of its own")
    return found


def _channel(tables: Tables, entry: Mapping[str, Any], number: int, clock: Clock) -> ChannelSpec:
    where = ("notify", str(number))
    tables.check(entry, where, KEYS, ("name", "kind"), ("timeout_s",))
    if not NAME.fullmatch(entry["name"]):
        raise tables.wrong("not a name", (*where, "name"), entry["name"], "1 to 40 letters, digits, dots, dashes and underscores")
    for key in SECONDS:
        if not 0 <= entry.get(key, 0) < 1e6:
            raise tables.wrong("not a number of seconds", (*where, key), entry[key], "0 or more")
    kinds = tables.texts(entry.get("tells", list(NOTICE_KINDS)), (*where, "tells"))
    unknown = set(kinds) - set(NOTICE_KINDS)
    if unknown:
        raise tables.wrong("not a kind of notice", (*where, "tells"), min(unknown), "known: " + ", ".join(NOTICE_KINDS))
    channel = Channel(
        name=entry["name"],
        kinds=tuple(kind for kind in NOTICE_KINDS if kind in kinds),
        min_severity=float(entry.get("min_severity", 0.0)),
        after_s=float(entry.get("after_s", 0.0)),
        repeat_s=float(entry.get("repeat_s", 1_800.0)),
        quiet=_quiet(tables, entry, where),
    )
    return ChannelSpec(channel=channel, way=_way(tables, entry, where, clock))


def _quiet(tables: Tables, entry: Mapping[str, Any], where: tuple[str, ...]) -> QuietHours | None:
    if "quiet" not in entry:
        return None
    hours = HOURS.fullmatch(entry["quiet"])
    if hours is None:
        raise tables.wrong("not hours of a day", (*where, "quiet"), entry["quiet"], 'for example quiet = "22:00-07:00"')
    try:
        zone = ZoneInfo(entry.get("zone", "UTC"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise tables.wrong("no such time zone", (*where, "zone"), entry["zone"], 'for example zone = "Europe/Berlin"') from None
    from_hour, from_minute, to_hour, to_minute = map(int, hours.groups())
    return QuietHours(
        from_minute=from_hour * 60 + from_minute,
        to_minute=to_hour * 60 + to_minute,
        zone=zone,
        min_severity=float(entry.get("quiet_min_severity", 8.0)),
    )


def _way(tables: Tables, entry: Mapping[str, Any], where: tuple[str, ...], clock: Clock) -> Way:
    url = entry["url"] if "url" in entry else tables.secret(entry, where, "url").decode("utf-8", "replace")
    timeout_s = float(entry.get("timeout_s", 10.0))
    match entry["kind"]:
        case "apprise":
            return AppriseWay(url, timeout_s, private=entry.get("allow_private", False), loopback=entry.get("allow_loopback", False))
        case "webhook":
            secret = tables.secret(entry, where) if {"secret_env", "secret_file"} & set(entry) else b""
            target = WebhookTarget(
                url=url,
                secret=secret,
                allow_private=entry.get("allow_private", False),
                allow_loopback=entry.get("allow_loopback", False),
                timeout_s=timeout_s,
            )
            return WebhookWay(target, clock)
        case other:
            raise tables.wrong("not a kind of channel", (*where, "kind"), other, "webhook or apprise")
