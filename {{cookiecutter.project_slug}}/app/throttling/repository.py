"""SQL of the throttling: each is one atomic statement that commits by itself."""

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
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from app.database import Database
from app.throttling.models import ThrottleBucket as Bucket

Parameters: TypeAlias = Mapping[str, object]

# Not now(): a transaction that waits would stand still.
_NOW = func.statement_timestamp()
# Not _NOW: a statement that began earlier and waited for the row would take that for a block.
_UNBLOCKED = func.to_timestamp(0)
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
    delay = func.least(_DELAY_MAX, func.power(2, doublings))
    blocked_until = _NOW + delay * literal(timedelta(seconds=1), Interval)
    row = select(key, literal(1), _NOW + _FORGET, _UNBLOCKED).where(key.is_not(None), *conditions)
    columns = ["key", "attempts", "forget_at", "blocked_until"]
    statement = insert(Bucket).from_select(columns, row)
    statement = statement.on_conflict_do_update(
        index_elements=[Bucket.key],
        set_={
            "attempts": attempts,
            "forget_at": _NOW + _FORGET,
            "blocked_until": case((attempts >= free, blocked_until), else_=_UNBLOCKED),
        },
        where=Bucket.blocked_until <= _NOW,
    )
    return statement.returning(Bucket.key).cte(name)


# Whoever logged in from this address before has a bucket of his own there: strangers who fill the
# account's bucket from elsewhere do not touch it, nor do neighbours who fill that of the address.
_IS_KNOWN = (
    select(Bucket).where(Bucket.key == _key("known_key"), Bucket.known_until > _NOW).exists()
)
_ACCOUNT_KEY = case((_IS_KNOWN, _key("pair_key")), else_=_key("account_key"))
_ADDRESS_KEY = case((_IS_KNOWN, null()), else_=_key("address_key"))
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


def _uncount(name: str, key: ColumnElement[bytes], *conditions: ColumnElement[bool]) -> CTE:
    statement = update(Bucket).where(Bucket.key == key, Bucket.attempts > 0, *conditions)
    values = {"attempts": Bucket.attempts - 1, "blocked_until": _UNBLOCKED}
    return statement.values(values).returning(Bucket.key).cte(name)


_FROM_ADDRESS = _uncount("from_address", _ADDRESS_KEY)
# Asks for nothing, but runs after the other, in the order of `_ATTEMPT`:
# so two statements never wait for each other.
_AFTER_ADDRESS = select(func.count()).select_from(_FROM_ADDRESS).scalar_subquery() >= 0
_UNCOUNT = select(select(_uncount("from_account", _ACCOUNT_KEY, _AFTER_ADDRESS)).exists())

_KNOWN = {
    "attempts": literal(0),
    "forget_at": _NOW,
    "blocked_until": _UNBLOCKED,
    "known_until": _NOW + bindparam("known_for", type_=Interval),
}
_TRUST = (
    insert(Bucket)
    .values(key=_key("known_key"), **_KNOWN)
    .on_conflict_do_update(index_elements=[Bucket.key], set_=_KNOWN)
    .returning(Bucket.key)
)
_FORGET_MISTAKES = (
    update(Bucket)
    .where(Bucket.key == _key("pair_key"))
    .values(attempts=0, blocked_until=_UNBLOCKED)
    .returning(Bucket.key)
)

_FORGOTTEN = (
    select(Bucket.key)
    .where(Bucket.forget_at < _NOW, or_(Bucket.known_until.is_(None), Bucket.known_until < _NOW))
    .limit(bindparam("row_count"))
    .with_for_update(skip_locked=True)
)
_DELETE_FORGOTTEN = delete(Bucket).where(Bucket.key.in_(_FORGOTTEN)).returning(Bucket.key)


async def count_attempt(database: Database, parameters: Parameters) -> float | None:
    """None when the attempt may go on, else the seconds to wait."""
    row = await database.read_one(_ATTEMPT, parameters)
    is_admitted, wait_seconds = row or (False, None)
    return None if is_admitted else float(wait_seconds or 1)


async def uncount_attempt(database: Database, parameters: Parameters) -> None:
    await database.read_one(_UNCOUNT, parameters)


async def trust_address(database: Database, parameters: Parameters) -> None:
    await database.read_one(_TRUST, parameters)
    await database.read_one(_FORGET_MISTAKES, parameters)


async def delete_forgotten(database: Database, row_count: int) -> int:
    return len(await database.read_all(_DELETE_FORGOTTEN, {"row_count": row_count}))
