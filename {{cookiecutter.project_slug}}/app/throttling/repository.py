"""SQL of the throttling: each is one atomic statement that commits by itself."""

from collections.abc import Mapping
from typing import TypeAlias, cast

from sqlalchemy import bindparam, delete, func, or_, select, text, update
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.database import Database
from app.throttling.models import ThrottleBucket as Bucket

Parameters: TypeAlias = Mapping[str, object]
Statement: TypeAlias = TypedReturnsRows[*tuple[object, ...]]

# Everywhere: statement_timestamp(), because now() stands still in a transaction that waits;
# to_timestamp(0) for "not blocked", because a statement that began earlier and waited for the row
# would take the time of the other one for a block.
_NOW = func.statement_timestamp()

# Whoever logged in from this address before has a bucket of his own there: strangers who fill the
# account's bucket from elsewhere do not touch it, nor do neighbours who fill that of the address.
_KEYS = """
    SELECT
        CASE WHEN NOT is_known THEN CAST(:address_key AS bytea) END AS address,
        CASE WHEN is_known THEN CAST(:pair_key AS bytea) ELSE :account_key END AS account
    FROM (
        SELECT EXISTS (
            SELECT FROM throttle_bucket
            WHERE key = :known_key AND known_until > statement_timestamp()
        ) AS is_known
    ) AS _
"""


def _statement(sql: str) -> Statement:
    return cast("Statement", text(sql))


def _count(key: str, free_attempts: str, condition: str) -> str:
    """Counts an attempt unless the bucket is blocked; the key comes back when it was counted."""
    # 2 ** 20 s is beyond every cap, and nothing overflows.
    return f"""
        INSERT INTO throttle_bucket AS bucket (key, attempts, forget_at, blocked_until)
        SELECT {key}, 1, statement_timestamp() + CAST(:forget_after AS interval), to_timestamp(0)
        FROM keys WHERE {condition}
        ON CONFLICT (key) DO UPDATE SET (attempts, forget_at, blocked_until) = (
            SELECT
                counted,
                excluded.forget_at,
                CASE
                    WHEN counted < {free_attempts} THEN to_timestamp(0)
                    ELSE statement_timestamp() + interval '1 second'
                        * least(:delay_seconds_max, power(2, least(counted - {free_attempts}, 20)))
                END
            FROM (
                SELECT CASE WHEN bucket.forget_at < statement_timestamp() THEN 1
                    ELSE bucket.attempts + 1 END AS counted
            ) AS _
        )
        WHERE bucket.blocked_until <= statement_timestamp()
        RETURNING key
    """  # noqa: S608 (its parts are written here)


# The address first: one that is blocked must not add to the delay of an account.
_ADDRESS_PASSES = "address IS NULL OR EXISTS (SELECT FROM by_address)"
# No row comes back when the attempt was counted.
_ATTEMPT = _statement(f"""
    WITH keys AS ({_KEYS}),
    by_address AS ({_count("address", ":address_attempts", "address IS NOT NULL")}),
    by_account AS ({_count("account", ":account_attempts", _ADDRESS_PASSES)})
    SELECT CAST(extract(epoch FROM max(blocked_until) - statement_timestamp()) AS double precision)
    FROM throttle_bucket WHERE key IN (SELECT unnest(ARRAY[address, account]) FROM keys)
    HAVING NOT EXISTS (SELECT FROM by_account)
""")  # noqa: S608 (its parts are written here)
# The condition on `from_address` asks for nothing, but gives both the order of `_ATTEMPT`:
# so two statements never wait for each other.
_UNCOUNT = _statement(f"""
    WITH keys AS ({_KEYS}),
    from_address AS (
        UPDATE throttle_bucket SET attempts = attempts - 1, blocked_until = to_timestamp(0)
        FROM keys WHERE key = keys.address AND attempts > 0
        RETURNING key
    )
    UPDATE throttle_bucket SET attempts = attempts - 1, blocked_until = to_timestamp(0)
    FROM keys WHERE key = keys.account AND attempts > 0
    AND (SELECT count(*) FROM from_address) >= 0
""")  # noqa: S608 (its parts are written here)
_TRUST = _statement("""
    INSERT INTO throttle_bucket (key, attempts, forget_at, blocked_until, known_until)
    VALUES (
        :known_key, 0, statement_timestamp(), to_timestamp(0),
        statement_timestamp() + CAST(:known_for AS interval)
    )
    ON CONFLICT (key) DO UPDATE SET known_until = excluded.known_until
""")
_FORGET_MISTAKES = (
    update(Bucket)
    .where(Bucket.key == bindparam("pair_key"))
    .values(attempts=0, blocked_until=func.to_timestamp(0))
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
    return cast("float", row[0] or 1) if row else None


async def uncount_attempt(database: Database, parameters: Parameters) -> None:
    await database.read_one(_UNCOUNT, parameters)


async def trust_address(database: Database, parameters: Parameters) -> None:
    await database.read_one(_TRUST, parameters)
    await database.read_one(_FORGET_MISTAKES, parameters)


async def delete_forgotten(database: Database, row_count: int) -> int:
    return len(await database.read_all(_DELETE_FORGOTTEN, {"row_count": row_count}))
