"""People who log in with a password: name, role, and an argon2id hash; what they get for it is a token that lives for a shift.

A password is guessed where a token cannot be, so hashing is slow on purpose (argon2id, RFC 9106, second recommendation: 64 MiB,
three passes), only a few may be checked at a time, and a name that nobody has costs as much as a wrong password. The file is
written whole and renamed, readable for its owner alone; a running daemon notices a change with its next look.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from immune.core.commands import Principal, Role
from immune.core.events import iso
from immune.errors import InputError, RefusedError, UnknownIdError
from immune.ports import Bound
from immune.stores.named import NamedRecords
from immune.stores.tokens import ADMIN, ROLES, check_name

PEOPLE_FILE = "people.json"
LOCK_FILE = "people.lock"
MAX_PEOPLE = 10_000
MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_CHARS = 256
SESSION_S = 12 * 3600.0
SESSIONS_KEPT = 2_000
SESSIONS_PER_PERSON = 10
US = 1_000_000
PREFIX = "ims_"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRecord:
    """What is kept of a person: everything but the password."""

    name: str
    role: Role
    hash: str
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a log-in gives: a token for the `Authorization` header, until when, and whose it is."""

    token: str
    principal: Principal
    expires_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    principal: Principal
    expires_us: int
    hash_of_person: str


class PeopleStore:
    """The people of a data directory. `check` is slow on purpose: call it in a thread. Everything else is quick."""

    def __init__(self, data_dir: Path, hasher: PasswordHasher | None = None) -> None:
        self.data_dir = data_dir
        self._file = NamedRecords(self.path, data_dir / LOCK_FILE, "people", _record, _entry)
        self.hasher = hasher or PasswordHasher()
        self._decoy = ""
        self._sessions: OrderedDict[bytes, _Kept] = OrderedDict()
        self._evicted = 0
        self._key = secrets.token_bytes(32)

    @property
    def path(self) -> Path:
        """Where the people are."""
        return self.data_dir / PEOPLE_FILE

    @property
    def broken(self) -> str:
        """Why the file of people cannot be used at this moment; then nobody logs in."""
        return self._file.broken

    def add(self, name: str, role: str, password: str, at_us: int = 0) -> None:
        """Add a person, or give one another role and password; their sessions end with it.

        Raises InputError for a bad name, role or password, RefusedError for a name that may not be had, StoreUnavailableError.
        """
        checked, known = check_name(name, role)
        if known == "agent":
            raise InputError("an agent has a token, not a password", field="role", value=role, way_out="one of " + " ".join(PEOPLES_ROLES))
        check_password(password, checked)
        record = PersonRecord(name=checked, role=known, hash=self.hasher.hash(password), created_at=iso(at_us) if at_us else "")
        with self._file.changing() as people:
            if checked not in people and len(people) >= MAX_PEOPLE:
                raise RefusedError(f"there are {MAX_PEOPLE} people already", field="name", value=name, way_out="remove some")
            people[checked] = record

    def remove(self, name: str) -> None:
        """Let a person in no more; sessions end at once. Raises UnknownIdError, StoreUnavailableError."""
        with self._file.changing() as people:
            if name not in people:
                known = ", ".join(sorted(people)[:5]) or "nobody yet"
                raise UnknownIdError("nobody has this name", field="name", value=name, way_out=f"known: {known}")
            del people[name]

    def roles(self) -> dict[str, Role]:
        """Role by name."""
        self._file.refresh()
        return {name: person.role for name, person in sorted(self._file.records.items())}

    def check(self, name: str, password: str) -> Principal | None:
        """Who has this name and password; None for anyone else, after the same work."""
        self._file.refresh()
        if not self._decoy:  # made when first needed, whoever asks: it takes as long as a check
            self._decoy = self.hasher.hash(secrets.token_urlsafe(16))
        person = self._file.records.get(name)
        try:
            self.hasher.verify(person.hash if person else self._decoy, password[:MAX_PASSWORD_CHARS])
        except (VerificationError, InvalidHashError):
            return None
        return Principal(name=person.name, role=person.role) if person else None

    # -- sessions: in memory, so that a restart ends them ---------------------------------------------------------------

    def begin(self, principal: Principal, now_us: int) -> Session:
        """A session for somebody whose password was right. The oldest of too many of a person's own sessions ends."""
        token = PREFIX + secrets.token_urlsafe(32)
        expires_us = now_us + round(SESSION_S * US)
        own = [key for key, kept in self._sessions.items() if kept.principal.name == principal.name]
        for key in own[: max(0, len(own) - SESSIONS_PER_PERSON + 1)]:
            del self._sessions[key]
            self._evicted += 1
        person = self._file.records.get(principal.name)
        kept = _Kept(principal=principal, expires_us=expires_us, hash_of_person=person.hash if person else "")
        self._sessions[self._digest(token)] = kept
        while len(self._sessions) > SESSIONS_KEPT:
            self._sessions.popitem(last=False)
            self._evicted += 1
        return Session(token=token, principal=principal, expires_us=expires_us)

    def find(self, token: str, now_us: int) -> Principal | None:
        """Whose session this is, with the role that the person has at this moment; None once it is over."""
        kept = self._sessions.get(self._digest(token)) if token.startswith(PREFIX) and len(token) < MAX_PASSWORD_CHARS else None
        if kept is None:
            return None
        self._file.refresh()
        person = self._file.records.get(kept.principal.name)
        if person is None or now_us >= kept.expires_us or not hmac.compare_digest(person.hash.encode(), kept.hash_of_person.encode()):
            del self._sessions[self._digest(token)]
            return None
        return Principal(name=person.name, role=person.role)

    def end(self, token: str) -> None:
        """End a session; nothing happens for one that is over."""
        self._sessions.pop(self._digest(token), None)

    @property
    def sessions(self) -> int:
        """Sessions that may still be valid."""
        return len(self._sessions)

    def bounds(self) -> Sequence[Bound]:
        """The sessions, and how many ended early because a person, or all, had too many."""
        return (Bound(name="login.sessions", size=len(self._sessions), limit=SESSIONS_KEPT, lost=self._evicted),)

    def _digest(self, token: str) -> bytes:
        # looked up by a keyed digest: how long a look-up takes says nothing about the token
        return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()


PEOPLES_ROLES: tuple[Role, ...] = tuple(role for role in ROLES if role != "agent")


def check_password(password: str, name: str) -> None:
    """Raises InputError for a password that is too short, too long, or the name itself."""
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS or not password.isprintable():
        way_out = f"{MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} printable characters"
        raise InputError("not a password that is taken", field="password", way_out=way_out)
    if password.casefold() in {name.casefold(), (name * 4).casefold(), ADMIN * 2} or len(set(password)) < 4:
        raise InputError("this password would be guessed at once", field="password", way_out="not the name, not a few letters again and again")


def _entry(person: PersonRecord) -> dict[str, str]:
    return {"role": person.role, "hash": person.hash, "created_at": person.created_at}


def _record(name: str, entry: Mapping[str, str]) -> PersonRecord:
    role = next((one for one in PEOPLES_ROLES if one == entry["role"]), None)
    if role is None or not entry["hash"].startswith("$argon2"):
        raise ValueError(name)
    return PersonRecord(name=name, role=role, hash=entry["hash"], created_at=entry.get("created_at", ""))
