"""Slows down who guesses, in PostgreSQL, for all workers and hosts together.

Every attempt is counted before its work begins, and no longer counts once it has succeeded.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address

from app.database import Database
from app.errors import TooManyRequestsError
from app.settings import Settings
from app.throttling import repository

# Every provider gives at least this much to one customer.
_IPV6_CUSTOMER_PREFIX_BITS = 64


@dataclass(frozen=True)
class ThrottlePolicy:
    account_attempts: int
    address_attempts: int
    delay_seconds_max: float
    forget_after: timedelta
    known_for: timedelta


@dataclass(frozen=True)
class Attempt:
    """At what, on which account (whether it exists or not), from which address (if known)."""

    purpose: str
    account: str
    address: str | None
    # None: the account. Several accounts that count as one have the same text here.
    counted_as: str | None = None

    @property
    def keys(self) -> Mapping[str, bytes | None]:
        """Of its buckets, by the names that the statements give them."""
        customer = _customer(self.address) if self.address else None
        counted_as = self.counted_as or self.account
        return {
            "account_key": _key(self.purpose, "account", counted_as),
            "address_key": _key(self.purpose, "address", customer) if customer else None,
            "pair_key": _key(self.purpose, "pair", customer, counted_as) if customer else None,
            # Not of one purpose: whoever logs in here is known to all of them.
            "known_key": _key("known", customer, self.account) if customer else None,
        }


def _key(*parts: str) -> bytes:
    # What people type may hold lone surrogates, which UTF-8 cannot say.
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def login_policy(settings: Settings) -> ThrottlePolicy:
    return ThrottlePolicy(
        account_attempts=settings.login_attempts_per_account,
        address_attempts=settings.login_attempts_per_address,
        delay_seconds_max=settings.login_delay_seconds_max,
        forget_after=timedelta(seconds=settings.login_forget_seconds),
        known_for=timedelta(seconds=settings.refresh_token_seconds),
    )


async def admit(database: Database, policy: ThrottlePolicy, attempt: Attempt) -> None:
    """Counts the attempt, or raises TooManyRequestsError."""
    wait_seconds = await repository.count_attempt(database, {**attempt.keys, **asdict(policy)})
    if wait_seconds is not None:
        raise TooManyRequestsError("Too many attempts; wait.", max(1, math.ceil(wait_seconds)))


async def uncount_attempt(database: Database, attempt: Attempt) -> None:
    """As if it had not been counted."""
    await repository.uncount_attempt(database, attempt.keys)


async def record_success(database: Database, policy: ThrottlePolicy, attempt: Attempt) -> None:
    """It succeeded: it does not count, and its address is now known to the account."""
    await uncount_attempt(database, attempt)
    await trust_address(database, policy, attempt)


async def trust_address(database: Database, policy: ThrottlePolicy, attempt: Attempt) -> None:
    """From now on strangers and neighbours cannot slow this address down on this account."""
    if attempt.address:
        await repository.trust_address(database, {**attempt.keys, **asdict(policy)})


async def purge(database: Database, row_count: int) -> int:
    return await repository.delete_forgotten(database, row_count)


def _customer(address: str) -> str:
    """An IPv6 customer has a whole network, and may write an IPv4 address in IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, _IPV6_CUSTOMER_PREFIX_BITS), strict=False))
