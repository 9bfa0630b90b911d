"""Brings lines to the server, and knows what each of its answers means.

    204                 stored
    400, 422            some line is bad: halves are sent until it stands alone, and it becomes a dead letter
    413                 too much at once: halves are sent
    401, 403, 404       nothing will help but a person: said once, tried again now and then
    429, 503, 5xx, none later: after what `Retry-After` asks, or a pause that doubles, with jitter

Sending a line twice changes nothing, because a point is its measurement, tags and time; so whenever the fate of a request
is unknown, it is sent again.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from random import SystemRandom

import aiohttp

from immune.clock import US, Clock
from immune.outbound import read_up_to
from immune.settings import InfluxSettings
from immune.stores.influx.words import message_of

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
PAUSE_MAX_S = 600.0
PERSON_NEEDED_S = 15.0
TIMEOUT_S = 10.0
PATIENCE_S = 2.0
GZIP_LEVEL = 1
MESSAGE_BYTES = 4096
MENDS = {
    401: "give a token that may write to this bucket: INFLUXDB_V2_TOKEN, or make one with `immune influx setup`",
    403: "give a token that may write to this bucket: INFLUXDB_V2_TOKEN, or make one with `immune influx setup`",
    404: "make the bucket with `immune influx setup`, or name another: INFLUXDB_V2_BUCKET, INFLUXDB_V2_ORG",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became of the lines of one parcel: `dead` are those that the server refuses for good, each with its reason."""

    stored: int
    dead: tuple[tuple[str, bytes], ...] = ()
    expired: int = 0


class NotNowError(Exception):
    """The server cannot take it now; `wait_s` says when to ask again. Never seen outside this folder."""

    def __init__(self, trouble: str, wait_s: float) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    message: str
    retry_after: str


@dataclass(slots=True, kw_only=True)
class Courier:
    """One connection pool to one bucket. `trouble` is a sentence while the server does not take what it is given."""

    target: InfluxSettings
    clock: Clock
    say: Callable[[str], None]
    timeout_s: float = TIMEOUT_S
    pauses_s: Sequence[float] = PAUSES_S
    jitter: Callable[[], float] = SystemRandom().random
    trouble: str = ""
    requests: int = 0
    failures: int = 0
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _sort: str = field(default="", init=False)

    async def deliver(self, packed: bytes, precision: str, lines: int) -> Delivery:
        """Bring a gzipped piece of so many lines. Raises NotNowError; then it is to be brought again, whole."""
        answer = await self._post(packed, precision)
        if answer.status == 204:
            self._went_well()
            return Delivery(stored=lines)
        if answer.status in (400, 413, 422):
            return await self._in_pieces(gzip.decompress(packed), precision, answer)
        raise self._not_now(answer)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _in_pieces(self, text: bytes, precision: str, answer: _Answer) -> Delivery:
        lines = split_lines(text)
        dropped = re.search(r"dropped=(\d+)", answer.message)
        if dropped and "retention policy" in answer.message:
            expired = min(int(dropped[1]), len(lines))
            self._went_well()
            return Delivery(stored=len(lines) - expired, expired=expired)
        if not lines:  # a file of the spool that lost its content
            return Delivery(stored=0)
        if len(lines) == 1 or (dropped and int(dropped[1]) == len(lines)):
            self._went_well()
            return Delivery(stored=0, dead=tuple((answer.message, line) for line in lines))
        middle = len(lines) // 2
        halves = [await self.deliver(gzip.compress(b"".join(half), GZIP_LEVEL), precision, len(half)) for half in (lines[:middle], lines[middle:])]
        return Delivery(
            stored=sum(half.stored for half in halves),
            dead=tuple(letter for half in halves for letter in half.dead),
            expired=sum(half.expired for half in halves),
        )

    async def _post(self, packed: bytes, precision: str) -> _Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        self.requests += 1
        begun_us = self.clock.now_us()
        try:
            async with self._session.post(
                f"{self.target.url}/api/v2/write",
                params={"org": self.target.org, "bucket": self.target.bucket, "precision": precision},
                data=packed,
                headers={"Authorization": f"Token {self.target.token}", "Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"},
                timeout=aiohttp.ClientTimeout(total=self.timeout_s),
                allow_redirects=False,
            ) as response:
                message = (await read_up_to(response.content, MESSAGE_BYTES)).decode("utf-8", "replace")
                return _Answer(status=response.status, message=message, retry_after=response.headers.get("Retry-After", ""))
        except TimeoutError:
            raise self._later(f"no answer within {self.timeout_s:g} s", "") from None
        except asyncio.CancelledError:
            waited_s = (self.clock.now_us() - begun_us) / US
            if waited_s > PATIENCE_S:  # whoever stops now need not find out once more that nobody answers
                self._later(f"no answer within {waited_s:.1f} s", "")
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise self._later(f"{type(error).__name__}: {error}"[:200], "") from None

    def _not_now(self, answer: _Answer) -> NotNowError:
        mend = MENDS.get(answer.status)
        said = f"HTTP {answer.status} {message_of(answer.message)}".strip()
        if mend is None:
            return self._later(said, answer.retry_after)
        self._note(f"InfluxDB refuses everything ({said}): {mend}", f"HTTP {answer.status}")
        return NotNowError(self.trouble, PERSON_NEEDED_S)

    def _later(self, why: str, retry_after: str) -> NotNowError:
        pause_s = self.pauses_s[min(self.failures, len(self.pauses_s) - 1)]
        wait_s = pause_s * (0.5 + 0.5 * self.jitter())
        self._note(f"InfluxDB at {self.target.url} does not take what it is given ({why}); it is kept and brought later", "away")
        return NotNowError(self.trouble, max(wait_s, asked_s(retry_after, self.clock.now_us())))

    def _note(self, trouble: str, sort: str) -> None:
        """Say it once per sort of trouble, however often it is met."""
        self.failures += 1
        if self._sort != sort:
            self.say(trouble)
        self.trouble, self._sort = trouble, sort

    def _went_well(self) -> None:
        if self.trouble:
            self.say(f"InfluxDB at {self.target.url} takes what it is given again")
        self.trouble, self._sort, self.failures = "", "", 0


def asked_s(retry_after: str, now_us: int) -> float:
    """Seconds that a `Retry-After` asks for, a number or a date; 0 for none or for one that says nothing."""
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return min(float(retry_after), PAUSE_MAX_S)
    try:
        at_us = parsedate_to_datetime(retry_after).timestamp() * US
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, (at_us - now_us) / US), PAUSE_MAX_S)


def split_lines(text: bytes) -> list[bytes]:
    """Lines with their ends. No line of ours has an end within: see `escape`."""
    return [line + b"\n" for line in text.split(b"\n") if line]
