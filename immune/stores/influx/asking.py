"""Questions to InfluxDB, in InfluxQL. Values go as bind parameters, never into the text; names of fields are ours, or quoted.

The official client takes most of a second to import: nothing that only starts a command or a daemon imports this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as TooSlowError

from immune.errors import StoreUnavailableError
from immune.settings import InfluxSettings
from immune.stores.influx.words import message_of, out_of_reach, refused

CHUNK_ROWS = 2000
TIMEOUT_MS = 60_000

Param = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some rows of one series: columns, and the tags they share."""

    tags: Mapping[str, str]
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


def ident(name: str) -> str:
    """A field or tag as an identifier, so that any text is only a name."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class Asker:
    """One bucket, asked from any thread. Raises StoreUnavailableError when there is no answer."""

    def __init__(self, target: InfluxSettings, timeout_ms: int = TIMEOUT_MS) -> None:
        self.target = target
        self.timeout_ms = timeout_ms
        self._client: InfluxDBClient | None = None

    @property
    def client(self) -> InfluxDBClient:
        """The official client, made when it is first needed."""
        if self._client is None:
            self._client = InfluxDBClient(url=self.target.url, token=self.target.token, org=self.target.org, timeout=self.timeout_ms)
        return self._client

    def ask(self, question: str, **params: Param) -> Iterator[Rows]:
        """Series after series, a chunk at a time; times are nanoseconds."""
        form = [("db", self.target.bucket), ("q", question), ("params", json.dumps(params)), ("epoch", "ns")]
        form += [("chunked", "true"), ("chunk_size", str(CHUNK_ROWS))]
        try:
            answer = self.client.api_client.call_api(
                "/query",
                "POST",
                header_params={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                post_params=form,
                auth_settings=[],
                _preload_content=False,
                _return_http_data_only=True,
            )
            for line in answer:
                yield from _rows_of(json.loads(line), self.target)
        except ApiException as error:
            raise refusal(self.target, error) from None
        except (HTTPError, OSError, ValueError) as error:
            raise unreached(self.target, error) from None

    def one(self, question: str, **params: Param) -> Mapping[str, Any]:
        """The first row by column, or nothing."""
        for rows in self.ask(question, **params):
            for values in rows.values:
                return dict(zip(rows.columns, values, strict=True))
        return {}

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _rows_of(document: Any, target: InfluxSettings) -> Iterator[Rows]:
    for result in document.get("results", ()):
        if "error" in result:
            raise refused(target, 0, str(result["error"]))
        for series in result.get("series", ()):
            yield Rows(tags=series.get("tags", {}), columns=series["columns"], values=series.get("values", ()))


def unreached(target: InfluxSettings, error: Exception) -> StoreUnavailableError:
    """Why there was no answer, or none that could be read."""
    match error:
        case NameResolutionError():
            return out_of_reach(target, "no such host is known", "check the name of the host")
        case NewConnectionError():  # which is a TimeoutError too, to please old callers
            return out_of_reach(target, "nobody takes the call at this address")
        case TooSlowError():
            return out_of_reach(target, "it took too long", "see whether the server is overloaded or hangs")
        case SSLError():
            return out_of_reach(target, f"no secure connection ({error})", "check the certificate, or whether it is http:// there")
        case _:
            return out_of_reach(target, f"{type(error).__name__}: {error}")


def refusal(target: InfluxSettings, error: ApiException, rights: str = "read this bucket") -> StoreUnavailableError:
    """What the server said no with."""
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    return refused(target, error.status or 0, message_of(body), rights)
