"""What is wrong with an InfluxDB, in words: which of the settings it is, and the way out. Nothing here shows a token."""

from __future__ import annotations

import json

from immune.errors import StoreUnavailableError
from immune.settings import InfluxSettings

SHOWN = 200


def message_of(body: str) -> str:
    """What an answer says, in one line; empty if it does not speak as InfluxDB does."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    said = (found.get("message") or found.get("error") or "") if isinstance(found, dict) else ""
    return " ".join(str(said).split())[:SHOWN]


def refused(target: InfluxSettings, status: int, message: str, rights: str = "read this bucket") -> StoreUnavailableError:
    """A server that answers, and says no; status 0 where it said so in words alone."""
    said = f"HTTP {status} {message}".strip() if status else message
    if status in (401, 403):
        way_out = f"give a token of that server that may {rights}; `immune influx setup` makes one for the daemon"
        value = "one that is not shown" if target.token else ""
        return StoreUnavailableError(f"InfluxDB at {target.url} refuses the token ({said})", field="INFLUXDB_V2_TOKEN", value=value, way_out=way_out)
    if "organization" in message:
        way_out = "name the organisation that owns the bucket"
        return StoreUnavailableError(f"InfluxDB at {target.url} refuses it ({said})", field="INFLUXDB_V2_ORG", value=target.org, way_out=way_out)
    if any(text in message for text in ("bucket", "database not found")):
        way_out = "make it with `immune influx setup`, or name one that this token may see"
        return StoreUnavailableError(f"InfluxDB at {target.url} has no such bucket", field="INFLUXDB_V2_BUCKET", value=target.bucket, way_out=way_out)
    if status == 404:
        return no_influx(target)
    what = f"InfluxDB cannot answer ({said or 'it did not say why'})"
    return StoreUnavailableError(what, field="INFLUXDB_V2_URL", value=target.url, way_out="see what its log says of it")


def no_influx(target: InfluxSettings) -> StoreUnavailableError:
    """Something answers, and it is something else."""
    way_out = "give the address of an InfluxDB 2, without a path: for example http://127.0.0.1:8086"
    return StoreUnavailableError("what answers there is no InfluxDB 2", field="INFLUXDB_V2_URL", value=target.url, way_out=way_out)


def out_of_reach(target: InfluxSettings, why: str, way_out: str = "") -> StoreUnavailableError:
    """No answer at all, or none that could be read."""
    way_out = way_out or "start InfluxDB there, or name the address where it is"
    return StoreUnavailableError(f"InfluxDB does not answer: {why[:SHOWN].strip()}", field="INFLUXDB_V2_URL", value=target.url, way_out=way_out)
