"""The command line's way to a running daemon: its address and token from the data directory, its refusals as our errors.

The token travels in one header to the address that the daemon wrote down, past any proxy, never along a redirect, and
appears in no message.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from immune.errors import ImmuneError, InputError, RefusedError, UnknownIdError, UnreachableError

TIMEOUT_S = 15.0
ANSWER_BYTES = 64 * 1024 * 1024
START_IT = "start it with `immune run` or `python main.py`, or name its directory with --data-dir"
REFUSED = frozenset({401, 403, 409, 410, 412, 429})
ADDRESS_FILE = "daemon.json"
TOKEN_FILE = "admin.token"  # noqa: S105 - the name of a file

Document = dict[str, Any]


class DaemonClient:
    """Asks one daemon. Raises UnreachableError, InputError, UnknownIdError, RefusedError."""

    def __init__(self, url: str, token: str, data_dir: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self.data_dir = data_dir
        self.timeout_s = timeout_s
        self._token = token
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)

    def __repr__(self) -> str:
        return f"DaemonClient({self.url})"

    def get(self, path: str) -> Any:
        """The document behind a path."""
        return self._ask("GET", path, None, {})

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Document:
        """Tell the daemon something. A connection that broke is tried once more under the same idempotency key."""
        headers = {"Idempotency-Key": secrets.token_hex(16), "Content-Type": "application/json"}
        content = json.dumps(dict(body or {})).encode()
        try:
            answer = self._ask("POST", path, content, headers)
        except _BrokenConnectionError:
            answer = self._ask("POST", path, content, headers)
        return answer if isinstance(answer, dict) else {"answer": answer}

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(self.url + path, data=body, method=method)  # noqa: S310 - the scheme was checked when the address was read
        for name, value in {**headers, "Accept": "application/json", "Authorization": f"Bearer {self._token}"}.items():
            request.add_unredirected_header(name, value)
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                return _parsed(response.read(ANSWER_BYTES))
        except urllib.error.HTTPError as answer:
            with answer:
                raise refusal(answer.code, _problem(answer.read(ANSWER_BYTES))) from None
        except TimeoutError:
            raise self._absent("it did not answer in time; what was asked may still be done", "see `immune journal tail`") from None
        except urllib.error.URLError as error:
            raise self._no_connection(error.reason) from None
        except (http.client.HTTPException, OSError):
            raise _BrokenConnectionError("the connection broke", field="--data-dir", value=str(self.data_dir), way_out="try again") from None

    def _no_connection(self, reason: object) -> UnreachableError:
        if isinstance(reason, ConnectionResetError | BrokenPipeError):
            return _BrokenConnectionError("the connection broke", field="--data-dir", value=str(self.data_dir), way_out="try again")
        if isinstance(reason, TimeoutError):
            return self._absent("it did not answer in time; what was asked may still be done", "see `immune journal tail`")
        return self._absent(f"nothing answers at {self.url}: the daemon has stopped", START_IT)

    def _absent(self, what: str, way_out: str) -> UnreachableError:
        return UnreachableError(what, field="--data-dir", value=str(self.data_dir), way_out=way_out)


def connect(data_dir: Path | None, environment: Mapping[str, str] | None = None) -> DaemonClient:
    """A client for the daemon of a data directory; the token of ``IMMUNE_TOKEN``, or else the admin's. Raises UnreachableError."""
    from immune.settings import load_settings

    env = os.environ if environment is None else environment
    directory = load_settings(data_dir=data_dir, environment=env).data_dir
    url = _address(directory)
    return DaemonClient(url, env.get("IMMUNE_TOKEN") or _admin_token(directory), directory)


def path_of(*parts: str) -> str:
    """``/v1/…`` with every part quoted: an id may hold anything that prints."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def refusal(status: int, problem: Mapping[str, Any]) -> ImmuneError:
    """A problem document as the error that has the right exit code."""
    way_out = str(problem.get("way_out") or "")
    what = str(problem.get("detail") or problem.get("title") or f"the daemon answered {status}")
    what = what.removesuffix(f"; {way_out}") if way_out else what
    kind: type[ImmuneError]
    if status in REFUSED:
        kind = RefusedError
        if status == 401:
            way_out = way_out or "set IMMUNE_TOKEN, or read the data directory of this daemon"
    elif status == 404:
        kind = UnknownIdError
    elif 400 <= status < 500:
        kind = InputError
    else:
        kind = UnreachableError
    field = problem.get("field")
    value = problem.get("value")
    return kind(what, field=str(field) if field else None, value=_AsTold(value) if isinstance(value, str) else value, way_out=way_out)


class _AsTold(str):
    """A value that the daemon quoted already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _BrokenConnectionError(UnreachableError):
    """The connection was there and broke: whether the daemon read what was sent is not known."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _address(directory: Path) -> str:
    file = directory / ADDRESS_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        url = str(content["url"])
        whole = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except FileNotFoundError:
        raise UnreachableError("no daemon runs on this data directory", field="--data-dir", value=str(directory), way_out=START_IT) from None
    except (OSError, ValueError, KeyError, TypeError):
        url, whole = "", False
    if not whole:
        raise UnreachableError(
            "the daemon's address cannot be read", field=ADDRESS_FILE, value=str(file), way_out="restart the daemon, it writes it anew"
        )
    return url


def _admin_token(directory: Path) -> str:
    file = directory / TOKEN_FILE
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UnreachableError(
            f"no token to show: {error.strerror}", field="IMMUNE_TOKEN", value=str(file), way_out="set IMMUNE_TOKEN to a token of yours"
        ) from None


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content) if content else {}
    except ValueError:
        raise UnreachableError("the answer is not JSON; is this the daemon?", way_out="see daemon.json in the data directory") from None


def _problem(content: bytes) -> Mapping[str, Any]:
    try:
        problem = json.loads(content)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
