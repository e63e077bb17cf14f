"""Hashing off the loop, bounded, and renewed when its price changes."""

import asyncio
import os
import sys
import threading

import pytest

from app.accounts.authentication import Authenticator, Login
from app.accounts.passwords import PasswordHasher
from app.accounts.schemas import UserCreate
from app.database import Database
from app.errors import InvalidInputError, UnavailableError
from app.settings import Settings
from development import common_passwords


async def test_password_matches_its_hash(settings: Settings) -> None:
    hasher = PasswordHasher(settings)
    assert await hasher.verify("secret", await hasher.hash("secret")) == (True, None)


async def test_password_is_hashed_again_when_the_parameters_have_changed(
    settings: Settings,
) -> None:
    old_hash = await PasswordHasher(settings).hash("secret")
    dearer = PasswordHasher(settings.model_copy(update={"password_time_cost": 2}))
    matches, new_hash = await dearer.verify("secret", old_hash)
    assert matches
    assert "t=2" in (new_hash or "")


@pytest.mark.parametrize("password_hash", [None, "", "$2b$12$unknown", "no hash at all"])
async def test_password_never_matches_when_there_is_no_usable_hash(
    settings: Settings, password_hash: str | None
) -> None:
    assert await PasswordHasher(settings).verify("secret", password_hash) == (False, None)


async def test_login_queue_refuses_when_it_is_full(settings: Settings) -> None:
    tight = {"password_concurrency": 1, "password_queue_max": 1}
    hasher = PasswordHasher(settings.model_copy(update=tight))
    results = await asyncio.gather(
        *(hasher.hash("secret") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, UnavailableError) for result in results) == 3


async def test_login_sends_no_query_when_the_queue_is_full(
    settings: Settings, committing_database: Database, statements: list[str]
) -> None:
    tight = {"password_concurrency": 1, "password_queue_max": 1}
    hasher = PasswordHasher(settings.model_copy(update=tight))
    authenticator = Authenticator(committing_database, hasher, settings)
    hashing = asyncio.gather(hasher.hash("secret"), hasher.hash("secret"))
    await asyncio.sleep(0)  # both take their places
    with pytest.raises(UnavailableError):
        await authenticator.authenticate(Login("ada@example.com", "secret"))
    await hashing
    assert statements == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority")
async def test_hashing_lets_the_event_loop_go_first(settings: Settings) -> None:
    hasher = PasswordHasher(settings)
    await hasher.hash("secret")
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("password")]
    assert threads
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    for thread in threads:
        assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) > own


async def test_password_is_hashed_when_a_sandbox_forbids_priorities(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_arguments: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbid)
    assert await PasswordHasher(settings).hash("secret")


@pytest.mark.parametrize("password", ["password123", "PassWord123", " qwertyuiop "])
def test_common_password_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="guessed first"):
        UserCreate.model_validate({"email": "ada@example.com", "password": password})


@pytest.mark.parametrize("password", ["Lovelace@Example.com", "lovelace", "Bar Service "])
def test_password_is_refused_when_it_is_the_email_or_the_name_of_the_service(
    settings: Settings, password: str
) -> None:
    named = settings.model_copy(update={"service_title": "Bar Service"})
    with pytest.raises(InvalidInputError):
        PasswordHasher(named).refuse_obvious(password, "lovelace@example.com")


def test_list_of_common_passwords_is_the_maintained_one() -> None:
    assert common_passwords.LIST.read_text("utf-8") == common_passwords.build_list()


async def test_password_never_matches_when_it_is_not_unicode(settings: Settings) -> None:
    hasher = PasswordHasher(settings)
    known = await hasher.hash("secret")
    assert await hasher.verify("\ud800", known) == (False, None)
