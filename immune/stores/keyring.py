"""Everyone who may speak to a daemon: named tokens, and people who logged in with a password. One question, one answer."""

from __future__ import annotations

from collections.abc import Callable

from immune.core.commands import Principal, Role
from immune.stores.people import PeopleStore
from immune.stores.tokens import APPROVING, TokenStore


class Keyring:
    """Tokens and sessions together. A name that has both a token and a password is one person, with the role of what they show."""

    def __init__(self, tokens: TokenStore, people: PeopleStore, now_us: Callable[[], int]) -> None:
        self.tokens = tokens
        self.people = people
        self._now_us = now_us

    @property
    def broken(self) -> str:
        """Why somebody cannot be checked at this moment; empty while all can."""
        return "; ".join(one for one in (self.tokens.broken, self.people.broken) if one)

    def find(self, token: str) -> Principal | None:
        """Whose token or session this is, or None."""
        return self.tokens.find(token) or self.people.find(token, self._now_us())

    def roles(self) -> dict[str, Role]:
        """Role by name; that of the token where somebody has both."""
        return {**self.people.roles(), **self.tokens.roles()}

    def approvers(self) -> frozenset[str]:
        """Names that may approve at this moment."""
        return self.tokens.approvers() | {name for name, role in self.people.roles().items() if role in APPROVING}
