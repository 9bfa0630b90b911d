"""Who may speak to the daemon: named tokens with a role, kept as salted hashes, and the admin's token in its own file.

A token is 32 random bytes, so one keyed BLAKE2b is enough: there is nothing to guess, and nothing for a slow hash to
slow down. Files are written whole and renamed; a running daemon notices within its next look.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from immune.core.commands import Principal, Role
from immune.core.events import iso
from immune.core.vitals import check_agent_id
from immune.errors import ImmuneError, InputError, RefusedError, UnknownIdError
from immune.stores.named import NamedRecords
from immune.stores.private import Stamp, file_lock, replace_private, stamp_of
from immune.stores.sqlite import FILE_MODE, make_directory, unavailable

ADMIN = "admin"
ADMIN_FILE = "admin.token"
TOKENS_FILE = "tokens.json"
LOCK_FILE = "tokens.lock"
ROLES: tuple[Role, ...] = get_args(Role)
APPROVING: frozenset[Role] = frozenset({"approver", "admin"})
MAX_TOKENS = 100_000
MAX_TOKEN_CHARS = 512
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What is kept of a token: everything but the token."""

    name: str
    role: Role
    token_id: str
    salt: bytes
    digest: bytes
    created_at: str

    def matches(self, token: str) -> bool:
        """Whether this is the token, in a time that does not depend on it."""
        return hmac.compare_digest(self.digest, _digest(token, self.salt))


class TokenStore:
    """The tokens of a data directory. Any process may open it; changes by one are seen by the others."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._file = NamedRecords(self.path, data_dir / LOCK_FILE, "tokens", _record, _entry)
        self._by_id: dict[str, TokenRecord] = {}
        self._approvers: frozenset[str] = frozenset({ADMIN})
        self._admin: TokenRecord | None = None
        self._admin_stamp: Stamp | None = None

    @property
    def admin_path(self) -> Path:
        """Where the admin's token is."""
        return self.data_dir / ADMIN_FILE

    @property
    def path(self) -> Path:
        """Where the named tokens are."""
        return self.data_dir / TOKENS_FILE

    @property
    def broken(self) -> str:
        """Why the file of named tokens cannot be used at this moment; then only the admin's token is valid."""
        return self._file.broken

    def ensure_admin(self) -> Path:
        """Make the admin's token if there is none; its path. Nobody but the owner may read it. Raises StoreUnavailableError."""
        make_directory(self.data_dir)
        try:
            with file_lock(self.data_dir / LOCK_FILE):
                if not self.admin_path.exists():
                    replace_private(self.admin_path, _new_token(ADMIN) + "\n")
                self.admin_path.chmod(FILE_MODE)
        except OSError as error:
            raise unavailable(error, self.admin_path) from error
        return self.admin_path

    def admin_token(self) -> str:
        """The admin's token. Raises UnknownIdError when there is none yet, StoreUnavailableError."""
        try:
            return self.admin_path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise UnknownIdError(
                "there is no token yet", field="--data-dir", value=str(self.data_dir), way_out="start the daemon once: `immune run`"
            ) from None
        except OSError as error:
            raise unavailable(error, self.admin_path) from error

    def create(self, name: str, role: str, at_us: int = 0) -> str:
        """A new token with a name and a role; it is shown this once and kept only as a hash.

        Raises InputError for a bad name or role, RefusedError for a name that is taken, StoreUnavailableError.
        """
        checked = check_name(name, role)
        token_id = secrets.token_hex(6)
        token = _new_token(token_id)
        salt = secrets.token_bytes(16)
        record = TokenRecord(
            name=checked[0], role=checked[1], token_id=token_id, salt=salt, digest=_digest(token, salt), created_at=iso(at_us) if at_us else ""
        )
        with self._file.changing() as records:
            if record.name in records:
                raise RefusedError("this name has a token", field="name", value=name, way_out="revoke it first, or choose another name")
            if len(records) >= MAX_TOKENS:
                raise RefusedError(f"there are {MAX_TOKENS} tokens already", field="name", value=name, way_out="revoke some")
            records[record.name] = record
        return token

    def revoke(self, name: str) -> None:
        """Make a token worthless from now on. Raises UnknownIdError, StoreUnavailableError."""
        with self._file.changing() as records:
            if name not in records:
                known = ", ".join(sorted(records)[:5]) or "none yet"
                raise UnknownIdError("no token has this name", field="name", value=name, way_out=f"known names: {known}")
            del records[name]

    def roles(self) -> dict[str, Role]:
        """Role by name, `admin` included when it has a token."""
        self._refresh()
        named: dict[str, Role] = {name: record.role for name, record in sorted(self._file.records.items())}
        return {ADMIN: "admin", **named} if self._admin is not None else named

    def approvers(self) -> frozenset[str]:
        """Names that may approve at this moment."""
        self._refresh()
        return self._approvers

    def find(self, token: str) -> Principal | None:
        """Whose token this is, or None."""
        self._refresh()
        if not 16 <= len(token) <= MAX_TOKEN_CHARS:
            return None
        if self._admin is not None and self._admin.matches(token):
            return Principal(name=ADMIN, role="admin")
        record = self._by_id.get(token.split("_", 2)[1] if token.count("_") >= 2 else "")
        if record is None or not record.matches(token):
            return None
        return Principal(name=record.name, role=record.role)

    # -- files ---------------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        admin_stamp = stamp_of(self.admin_path)
        if admin_stamp != self._admin_stamp:
            self._admin_stamp = admin_stamp
            self._admin = self._read_admin() if admin_stamp else None
        if self._file.refresh():
            self._take(self._file.records)

    def _read_admin(self) -> TokenRecord | None:
        try:
            token = self.admin_token()
        except ImmuneError:
            return None
        salt = secrets.token_bytes(16)
        return TokenRecord(name=ADMIN, role="admin", token_id=ADMIN, salt=salt, digest=_digest(token, salt), created_at="") if token else None

    def _take(self, records: Mapping[str, TokenRecord]) -> None:
        self._by_id = {record.token_id: record for record in records.values()}
        self._approvers = frozenset({ADMIN, *(record.name for record in records.values() if record.role in APPROVING)})


def check_name(name: str, role: str) -> tuple[str, Role]:
    """(name, role) if both can be had. Raises InputError, RefusedError for the name of the admin's token."""
    known = next((one for one in ROLES if one == role), None)
    if known is None:
        raise InputError("unknown role", field="role", value=role, way_out="one of " + " ".join(ROLES))
    if known == "agent":
        return check_agent_id(name), known
    if not _PERSON.fullmatch(name):
        raise InputError("not a name", field="name", value=name, way_out="1 to 64 letters, digits and . _ @ + -")
    if name == ADMIN:
        raise RefusedError("this name belongs to the admin's token", field="name", value=name, way_out="choose another name")
    return name, known


def _new_token(token_id: str) -> str:
    return f"imm_{token_id}_{secrets.token_urlsafe(32)}"


def _digest(token: str, salt: bytes) -> bytes:
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), key=salt, digest_size=32).digest()


def _entry(record: TokenRecord) -> dict[str, str]:
    return {
        "role": record.role,
        "id": record.token_id,
        "salt": record.salt.hex(),
        "digest": record.digest.hex(),
        "created_at": record.created_at,
    }


def _record(name: str, entry: Mapping[str, str]) -> TokenRecord:
    role = next(one for one in ROLES if one == entry["role"]) if entry["role"] in ROLES else None
    if role is None:
        raise ValueError(entry["role"])
    return TokenRecord(
        name=name,
        role=role,
        token_id=entry["id"],
        salt=bytes.fromhex(entry["salt"]),
        digest=bytes.fromhex(entry["digest"]),
        created_at=entry.get("created_at", ""),
    )
