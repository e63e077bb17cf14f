"""What users do with their second factor; a code is spent before anything is done with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.errors import TooManyRequestsError
from app.second_factor import codes, repository
from app.second_factor.models import SecondFactor
from app.security_events import SecurityEvent, record_event
from app.settings import Settings
from app.throttling import service as throttling
from app.throttling.service import Attempt

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

DOOR = "admin-second-factor"
# Three of a million codes are good at a time; nobody mistypes six digits more often.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Owner:
    """Whose second factor it is, and from where they come."""

    id: UUID
    email: str
    address: str | None


async def check(
    database: Database, settings: Settings, owner: Owner, typed: str, at: float
) -> bool:
    """Whether it is a code of the app that is new, or an unspent recovery code; spends it."""
    policy = replace(throttling.login_policy(settings), account_attempts=_ATTEMPTS)
    attempt = Attempt(DOOR, owner.email, owner.address)
    try:
        await throttling.admit(database, policy, attempt)
    except TooManyRequestsError:
        record_event(SecurityEvent.ATTEMPT_THROTTLED, owner.id, door=DOOR)
        raise
    found = await repository.find(database, owner.id)
    secret = codes.decrypt_secret(settings, owner.id, found.encrypted_secret) if found else None
    if found and secret is None:
        log.error("second factor not readable: SECRET_KEY has changed", user_id=str(owner.id))
    step = codes.matching_step(secret, typed, at) if secret else None
    async with database.transaction() as session:
        if step is not None:
            is_good = await repository.spend_step(session, owner.id, step)
        else:
            is_good = await _spend_recovery_code(session, owner.id, typed)
    if is_good:
        await throttling.record_success(database, policy, attempt)
    else:
        record_event(SecurityEvent.LOGIN_FAILED, owner.id, door=DOOR)
    return is_good


async def _spend_recovery_code(session: AsyncSession, user_id: UUID, typed: str) -> bool:
    code_hash = codes.hash_recovery_code(typed)
    is_good = await repository.spend_recovery_code(session, user_id, code_hash)
    if is_good:
        record_event(SecurityEvent.RECOVERY_CODE_USED, user_id)
    return is_good


async def set_up(session: AsyncSession, row: SecondFactor) -> Sequence[str] | None:
    """The recovery codes, which nobody can read again; None when there is a second factor."""
    recovery_codes = codes.new_recovery_codes()
    if not await repository.add(session, row, map(codes.hash_recovery_code, recovery_codes)):
        return None
    record_event(SecurityEvent.SECOND_FACTOR_SET_UP, row.user_id)
    return recovery_codes


async def renew_recovery_codes(session: AsyncSession, user_id: UUID) -> Sequence[str] | None:
    """The old ones are void; None when there is no second factor any more."""
    recovery_codes = codes.new_recovery_codes()
    hashes = map(codes.hash_recovery_code, recovery_codes)
    if not await repository.replace_recovery_codes(session, user_id, hashes):
        return None
    record_event(SecurityEvent.RECOVERY_CODES_RENEWED, user_id)
    return recovery_codes


async def remove(session: AsyncSession, user_id: UUID, by: UUID | None = None) -> bool:
    """`by` is who did it when it is not the owner."""
    is_removed = await repository.remove(session, user_id)
    if is_removed:
        details = {"by": str(by)} if by else {}
        record_event(SecurityEvent.SECOND_FACTOR_REMOVED, user_id, **details)
    return is_removed
