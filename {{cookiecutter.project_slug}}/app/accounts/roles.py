"""The roles of users, and the scopes that the access tokens of each role may have."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

ACCOUNT = "account"
EVENTS_READ = "events:read"
ITEMS_READ = "items:read"
ITEMS_WRITE = "items:write"
ADMIN = "admin"

# The texts are shown by the Authorize dialogue of the OpenAPI page.
SCOPES = {
    ACCOUNT: "Change the account: name, password, sessions.",
    EVENTS_READ: "Follow what changes.",
    ITEMS_READ: "Read items.",
    ITEMS_WRITE: "Create, change and delete items.",
    ADMIN: "Use the admin app and what else only administrators may do.",
}


class Role(StrEnum):
    """One line for each: what is stored in the column, then the scopes it may have."""

    MEMBER = "member", ACCOUNT, EVENTS_READ, ITEMS_READ, ITEMS_WRITE
    ADMIN = "admin", *SCOPES

    scopes: frozenset[str]

    def __new__(cls, name: str, *scopes: str) -> Self:
        role = str.__new__(cls, name)
        role._value_ = name
        role.scopes = frozenset(scopes)
        return role

    def grant(self, requested: Iterable[str]) -> str:
        """The requested scopes that this role may have, written as in RFC 6749."""
        wanted = self.scopes.intersection(requested)
        return " ".join(scope for scope in SCOPES if scope in wanted)
