"""Password hashes (argon2id), made off the event loop in a bounded queue; the common passwords."""

import asyncio
import base64
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from app.errors import InvalidInputError, UnavailableError
from app.metrics import PASSWORDS_PENDING, SHED
from app.settings import Settings

# 8 logins at once on two busy cores: other requests had a median of 98 to 568 ms at 0, of 8 to 12
# ms at 10. 150 at once: the p99 of /livez was 43 to 190 ms at 0, 22 to 74 ms at 10. Default: 0.
# https://man7.org/linux/man-pages/man7/sched.7.html (the nice value)
_HASHING_NICENESS = 10

# Made by `python -m development.common_passwords`.
_COMMON_PASSWORDS = Path(__file__).with_name("common_passwords.txt")

UNCHANGED = "The new password is the old one."

Result = TypeVar("Result")


class PasswordHasher:
    """One per worker. Each hash takes 64 MiB and a core for about 0.1 s."""

    def __init__(self, settings: Settings) -> None:
        hasher = Argon2Hasher(
            time_cost=settings.password_time_cost,
            memory_cost=settings.password_memory_cost_kib,
            parallelism=settings.password_parallelism,
        )
        self._hash = PasswordHash((hasher,))
        self._threads = ThreadPoolExecutor(
            settings.password_concurrency, "password", initializer=_let_others_go_first
        )
        self._pending = 0
        self._pending_max = settings.password_concurrency + settings.password_queue_max
        self._dummy = _hash_nobody_has(settings)
        self._service_names = {settings.service_name.lower(), settings.service_title.lower()}

    def refuse_obvious(self, password: str, email: str) -> None:
        """What somebody would try first who knows the account and nothing else."""
        guesses = {email, email.partition("@")[0], *self._service_names}
        if password.strip().lower() in guesses:
            raise InvalidInputError("The password must not be the email or the service's name.")

    def measure(self) -> None:
        PASSWORDS_PENDING.set(self._pending)

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._hash.hash(_bytes(password)))

    async def verify(self, password: str, password_hash: str | None) -> tuple[bool, str | None]:
        """Whether it matches, and a new hash when the parameters have changed since.

        None instead of a hash (no such user) takes the same time and never matches.
        """
        return await self._run(lambda: self._verify(password, password_hash or self._dummy))

    def _verify(self, password: str, password_hash: str) -> tuple[bool, str | None]:
        try:
            return self._hash.verify_and_update(_bytes(password), password_hash)
        except UnknownHashError:
            return False, None

    def refuse_when_busy(self) -> None:
        """Asked before the first query of a login, so that a flood of them costs little."""
        if self._pending >= self._pending_max:
            SHED.add(1, "passwords")
            raise UnavailableError("Too many logins at the moment.")

    async def _run(self, work: Callable[[], Result]) -> Result:
        self.refuse_when_busy()
        self._pending += 1
        try:
            # Cancelled before its turn, it is never computed.
            return await asyncio.wrap_future(self._threads.submit(work))
        finally:
            self._pending -= 1


def _let_others_go_first() -> None:
    # Only Linux gives each thread a priority; those that argon2 starts inherit it.
    if sys.platform == "linux":
        # A sandbox may forbid it; a failing initializer would end all hashing.
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _HASHING_NICENESS)


def _bytes(password: str) -> bytes:
    # A form may be sent in a charset that yields lone surrogates, which UTF-8 cannot say.
    return password.encode("utf-8", "surrogatepass")


def _hash_nobody_has(settings: Settings) -> str:
    """Costs as much to verify as a real one, and nothing to make: its digest is random."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32)
    )
    memory, passes = settings.password_memory_cost_kib, settings.password_time_cost
    lanes = settings.password_parallelism
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${digest}"


@cache
def common_passwords() -> frozenset[str]:
    """Those that are guessed first. The first call takes 3 ms: the lifespan makes it."""
    lines = _COMMON_PASSWORDS.read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))
