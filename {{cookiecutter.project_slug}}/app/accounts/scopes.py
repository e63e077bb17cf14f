"""What an access token may be used for: granted at login, checked in `dependencies.py`."""

from collections.abc import Iterable

ADMIN = "admin"
ACCOUNT = "account"
ITEMS_READ = "items:read"
ITEMS_WRITE = "items:write"

# The texts are shown by the Authorize dialogue of the OpenAPI page.
DESCRIPTIONS = {
    ACCOUNT: "Change the account: name, password, sessions.",
    ITEMS_READ: "Read items.",
    ITEMS_WRITE: "Create, change and delete items.",
    ADMIN: "What only administrators may do.",
}


def grant(requested: Iterable[str], *, is_admin: bool) -> str:
    """Of what is asked for, what this user may have; everything when nothing is asked for."""
    wanted = set(requested) or DESCRIPTIONS.keys()
    return _joined(scope for scope in DESCRIPTIONS if scope in wanted and _may(scope, is_admin))


def renew(granted: str, *, is_admin: bool) -> str:
    """What was granted at login, less what the user may not have any more."""
    return _joined(scope for scope in granted.split() if _may(scope, is_admin))


def _may(scope: str, is_admin: bool) -> bool:
    return is_admin or scope != ADMIN


def _joined(scopes: Iterable[str]) -> str:
    return " ".join(scopes)
