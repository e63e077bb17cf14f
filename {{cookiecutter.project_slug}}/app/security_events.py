"""What whoever watches the service wants to know: one line of the log each, named here."""

from enum import StrEnum
from uuid import UUID

import structlog

from app.metrics import SECURITY_EVENTS
from app.settings import Settings

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class SecurityEvent(StrEnum):
    """The names are searched for and counted elsewhere: docs/security-events.md lists them."""

    SIGNED_UP = "signed_up"
    LOGIN_SUCCEEDED = "login_succeeded"
    LOGIN_FAILED = "login_failed"
    ATTEMPT_THROTTLED = "attempt_throttled"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 (a name, not a secret)
    SESSIONS_ENDED = "sessions_ended"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    PASSWORD_RESET_REQUESTED = "password_reset_requested"  # noqa: S105
    PASSWORD_RESET = "password_reset"  # noqa: S105
    EMAIL_VERIFIED = "email_verified"
    SECOND_FACTOR_SET_UP = "second_factor_set_up"
    SECOND_FACTOR_REMOVED = "second_factor_removed"
    RECOVERY_CODE_USED = "recovery_code_used"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    ADMIN_ACTION = "admin_action"
    TOKEN_KEYS_LOADED = "token_keys_loaded"  # noqa: S105
    TOKEN_KEYS_ROTATED = "token_keys_rotated"  # noqa: S105


_WARNINGS = frozenset(
    {
        SecurityEvent.LOGIN_FAILED,
        SecurityEvent.ATTEMPT_THROTTLED,
        SecurityEvent.REFRESH_TOKEN_REUSED,
        SecurityEvent.SECOND_FACTOR_REMOVED,
        SecurityEvent.RECOVERY_CODE_USED,
    }
)


def record_event(event: SecurityEvent, user_id: UUID | None = None, **details: object) -> None:
    """The request's id and the client's address are on every line of a request."""
    SECURITY_EVENTS.add(1, event.value, str(details.get("door", "")))
    write = log.warning if event in _WARNINGS else log.info
    account = {"user_id": str(user_id)} if user_id else {}
    write(event.value, **account, **details)


def hash_email(settings: Settings, email: str) -> str:
    """Instead of what somebody typed: it may be a password, or nobody's business."""
    text = b"email in the log\0" + email.encode("utf-8", "surrogatepass")
    return settings.keyed_hash(text).hex()[:16]
