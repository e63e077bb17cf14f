"""Hashing off the loop, bounded, and renewed when its price changes."""

import asyncio

import pytest

from app.accounts.passwords import Passwords
from app.errors import UnavailableError
from app.settings import Settings


async def test_password_matches_its_hash(settings: Settings) -> None:
    passwords = Passwords(settings)
    assert await passwords.verify("secret", await passwords.hash("secret")) == (True, None)


async def test_password_is_hashed_again_when_the_parameters_have_changed(
    settings: Settings,
) -> None:
    old_hash = await Passwords(settings).hash("secret")
    dearer = Passwords(settings.model_copy(update={"password_time_cost": 2}))
    matches, new_hash = await dearer.verify("secret", old_hash)
    assert matches
    assert "t=2" in (new_hash or "")


@pytest.mark.parametrize("password_hash", [None, "", "$2b$12$unknown", "no hash at all"])
async def test_password_never_matches_when_there_is_no_usable_hash(
    settings: Settings, password_hash: str | None
) -> None:
    assert await Passwords(settings).verify("secret", password_hash) == (False, None)


async def test_login_queue_refuses_when_it_is_full(settings: Settings) -> None:
    tight = {"password_concurrency": 1, "password_queue_max": 1}
    passwords = Passwords(settings.model_copy(update=tight))
    results = await asyncio.gather(
        *(passwords.hash("secret") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, UnavailableError) for result in results) == 3
