"""SQL of the throttling: one atomic statement for each attempt."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Interval,
    LargeBinary,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.throttling.models import ThrottleBucket as Bucket

Parameters: TypeAlias = Mapping[str, object]

# Not now(): a transaction that waits would stand still.
_NOW = func.statement_timestamp()
_FORGET = bindparam("forget_after", type_=Interval)
_DELAY_MAX = bindparam("delay_seconds_max", type_=Double)
# 2 ** 20 s is beyond every cap, and nothing overflows.
_DOUBLINGS_MAX = 20


def _key(name: str) -> ColumnElement[bytes]:
    return bindparam(name, type_=LargeBinary)


def _count(
    name: str, key: ColumnElement[bytes], free_attempts: str, *conditions: ColumnElement[bool]
) -> CTE:
    """Counts an attempt unless the bucket is blocked; the key comes back when it was counted."""
    free = bindparam(free_attempts, type_=Double)
    attempts = case((Bucket.forget_at < _NOW, 1), else_=Bucket.attempts + 1)
    doublings = func.least(attempts - free, _DOUBLINGS_MAX)
    delay = case((attempts >= free, func.least(_DELAY_MAX, func.power(2, doublings))), else_=0)
    row = select(key, literal(1), _NOW + _FORGET, _NOW).where(key.is_not(None), *conditions)
    columns = ["key", "attempts", "forget_at", "blocked_until"]
    statement = insert(Bucket).from_select(columns, row)
    statement = statement.on_conflict_do_update(
        index_elements=[Bucket.key],
        set_={
            "attempts": attempts,
            "forget_at": _NOW + _FORGET,
            "blocked_until": _NOW + delay * literal(timedelta(seconds=1), Interval),
        },
        where=Bucket.blocked_until <= _NOW,
    )
    return statement.returning(Bucket.key).cte(name)


def _own_key(
    account_key: ColumnElement[bytes], pair_key: ColumnElement[bytes]
) -> ColumnElement[bytes]:
    # Whoever logged in from this address before has a bucket of his own there,
    # which strangers who fill the account's bucket from elsewhere do not touch.
    is_known = select(Bucket).where(Bucket.key == pair_key, Bucket.known_until > _NOW).exists()
    return case((is_known, pair_key), else_=account_key)


_ACCOUNT_KEY = _own_key(_key("account_key"), _key("pair_key"))
_ADDRESS_KEY = _key("address_key")
# The address first: one that is blocked must not add to the delay of an account.
_BY_ADDRESS = _count("by_address", _ADDRESS_KEY, "address_attempts")
_ADDRESS_PASSES = or_(_ADDRESS_KEY.is_(None), select(_BY_ADDRESS).exists())
_BY_ACCOUNT = _count("by_account", _ACCOUNT_KEY, "account_attempts", _ADDRESS_PASSES)
_WAIT = (
    select(func.extract("epoch", func.max(Bucket.blocked_until) - _NOW))
    .where(Bucket.key.in_((_ADDRESS_KEY, _ACCOUNT_KEY)))
    .scalar_subquery()
)
_ATTEMPT = select(select(_BY_ACCOUNT).exists(), _WAIT)


async def count_attempt(database: Database, parameters: Parameters) -> float | None:
    """None when the attempt may go on, else the seconds to wait."""
    row = await database.read_one(_ATTEMPT, parameters)
    is_admitted, wait_seconds = row or (False, None)
    return None if is_admitted else float(wait_seconds or 1)


async def take_back(
    session: AsyncSession, address_key: bytes | None, account_key: bytes, pair_key: bytes | None
) -> None:
    own_key = _own_key(literal(account_key, LargeBinary), literal(pair_key, LargeBinary))
    # One after the other in the order of `_ATTEMPT`, so that two never wait for each other.
    for key in (literal(address_key, LargeBinary), own_key):
        await session.execute(
            update(Bucket)
            .where(Bucket.key == key, Bucket.attempts > 0)
            .values(attempts=Bucket.attempts - 1, blocked_until=_NOW)
            .execution_options(synchronize_session=False)
        )


async def remember(session: AsyncSession, pair_key: bytes, known_for: timedelta) -> None:
    values = {
        "attempts": 0,
        "forget_at": _NOW,
        "blocked_until": _NOW,
        "known_until": _NOW + known_for,
    }
    statement = insert(Bucket).values(key=pair_key, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=[Bucket.key], set_=values))


async def delete_forgotten(session: AsyncSession, row_count: int) -> int:
    forgotten = (
        select(Bucket.key)
        .where(
            Bucket.forget_at < _NOW,
            or_(Bucket.known_until.is_(None), Bucket.known_until < _NOW),
        )
        .limit(row_count)
        .with_for_update(skip_locked=True)
    )
    statement = delete(Bucket).where(Bucket.key.in_(forgotten)).returning(Bucket.key)
    return len((await session.scalars(statement)).all())
