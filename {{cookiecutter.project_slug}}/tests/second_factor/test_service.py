"""Codes and their checks, at moments that the test chooses."""

import asyncio
import re
from uuid import UUID, uuid4

import pyotp
import pytest
from sqlalchemy import func, select

from app.database import Database
from app.errors import TooManyRequestsError
from app.lifespan import State, build_state
from app.second_factor import codes, service
from app.second_factor.models import RecoveryCode, SecondFactor
from app.second_factor.service import Owner
from app.settings import Settings
from tests.conftest import sign_up

# Of RFC 6238, appendix B, in base32.
RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
AT = 1_234_567_890.0
STEP = int(AT) // 30


def code_at(at: float, secret: str = RFC_SECRET) -> str:
    return pyotp.TOTP(secret).at(int(at))


@pytest.fixture
async def state(settings: Settings, committing_database: Database) -> State:
    return build_state(settings, committing_database)


@pytest.fixture
async def owner(state: State) -> Owner:
    """Who has set it up a while ago."""
    user = await sign_up(state, "root@example.com")
    await set_up(state, user.id)
    return Owner(user.id, user.email, "198.51.100.7")


async def set_up(state: State, user_id: UUID) -> list[str]:
    async with state["database"].transaction() as session:
        encrypted = codes.encrypt_secret(state["settings"], user_id, RFC_SECRET)
        row = SecondFactor(user_id=user_id, encrypted_secret=encrypted, last_step=STEP - 100)
        return list(await service.set_up(session, row) or ())


async def check(state: State, owner: Owner, typed: str, at: float = AT) -> bool:
    return await service.check(state["database"], state["settings"], owner, typed, at)


@pytest.mark.parametrize(("at", "code"), [(59, "287082"), (1_111_111_109, "081804")])
def test_code_is_that_of_the_rfc(at: int, code: str) -> None:
    assert codes.matching_step(RFC_SECRET, code, at) == at // 30


@pytest.mark.parametrize(("steps", "matches"), [(-2, False), (-1, True), (1, True), (2, False)])
def test_code_is_good_for_one_step_before_and_after(steps: int, matches: bool) -> None:
    found = codes.matching_step(RFC_SECRET, code_at(AT + 30 * steps), AT)
    assert found == (STEP + steps if matches else None)


@pytest.mark.parametrize(
    ("form", "is_good"), [("{}", True), (" {} ", True), ("{}\n", False), ("{}0", False)]
)
def test_only_six_digits_are_a_code(form: str, is_good: bool) -> None:
    step = codes.matching_step(RFC_SECRET, form.format(code_at(AT)), AT)
    assert (step is not None) == is_good


def test_digits_of_other_scripts_are_no_code() -> None:
    full_width = "".join(chr(0xFF10 + int(digit)) for digit in code_at(AT))
    assert codes.matching_step(RFC_SECRET, full_width, AT) is None


def test_secret_is_unreadable_for_another_user_and_after_a_rotation(settings: Settings) -> None:
    user_id = uuid4()
    encrypted = codes.encrypt_secret(settings, user_id, RFC_SECRET)
    rotated = Settings.model_validate(
        settings.model_dump() | {"secret_key": "another key of thirty-two bytes!"}
    )
    assert RFC_SECRET.encode() not in encrypted
    assert codes.decrypt_secret(settings, user_id, encrypted) == RFC_SECRET
    assert codes.decrypt_secret(settings, uuid4(), encrypted) is None
    assert codes.decrypt_secret(rotated, user_id, encrypted) is None


def test_qr_code_is_scaled_and_has_no_style_attribute() -> None:
    svg = codes.draw_qr_code(codes.otpauth_uri(RFC_SECRET, "root@example.com", "Bar"))
    assert svg.startswith("<svg")
    assert "style" not in svg
    assert re.match(r'<svg [^>]*viewBox="0 0 (\d+) \1"', svg)


async def test_code_works_once(state: State, owner: Owner) -> None:
    assert await check(state, owner, code_at(AT))
    assert not await check(state, owner, code_at(AT))
    # Nor does the one before it, which nobody has used.
    assert not await check(state, owner, code_at(AT - 30))
    assert await check(state, owner, code_at(AT + 30), AT + 30)


async def test_code_works_once_when_it_is_sent_many_times_at_once(
    state: State, owner: Owner
) -> None:
    done = await asyncio.gather(*(check(state, owner, code_at(AT)) for _ in range(5)))
    assert sorted(done) == [False] * 4 + [True]


async def test_recovery_code_works_once_however_it_is_typed(state: State) -> None:
    user = await sign_up(state, "root@example.com")
    recovery_codes = await set_up(state, user.id)
    owner = Owner(user.id, user.email, None)
    typed = recovery_codes[0].upper().replace("-", " ")
    done = await asyncio.gather(*(check(state, owner, typed) for _ in range(3)))
    assert sorted(done) == [False, False, True]
    assert len(set(recovery_codes)) == 10


async def test_recovery_codes_are_stored_as_hashes_and_void_when_renewed(state: State) -> None:
    user = await sign_up(state, "root@example.com")
    old = await set_up(state, user.id)
    owner = Owner(user.id, user.email, None)
    async with state["database"].transaction() as session:
        new = list(await service.renew_recovery_codes(session, user.id) or ())
        stored = set(await session.scalars(select(RecoveryCode.code_hash)))
    assert stored == {codes.hash_recovery_code(code) for code in new}
    assert not await check(state, owner, old[0])
    assert await check(state, owner, new[0])


async def test_codes_stay_ten_when_they_are_renewed_twice_at_once(
    state: State, owner: Owner
) -> None:
    async def renew() -> None:
        async with state["database"].transaction() as session:
            await service.renew_recovery_codes(session, owner.id)

    await asyncio.gather(*(renew() for _ in range(4)))
    count = select(func.count()).select_from(RecoveryCode)
    assert await state["database"].read_one(count) == (10,)


async def test_second_factor_is_set_up_once_when_two_try_at_once(state: State) -> None:
    user = await sign_up(state, "root@example.com")
    done = await asyncio.gather(*(set_up(state, user.id) for _ in range(3)))
    assert sorted(len(recovery_codes) for recovery_codes in done) == [0, 0, 10]


async def test_guessing_waits_after_five_wrong_codes(state: State, owner: Owner) -> None:
    for _ in range(5):
        assert not await check(state, owner, "000000")
    with pytest.raises(TooManyRequestsError):
        await check(state, owner, code_at(AT))


async def test_removing_deletes_the_recovery_codes(state: State, owner: Owner) -> None:
    async with state["database"].transaction() as session:
        assert await service.remove(session, owner.id)
        for table in (SecondFactor, RecoveryCode):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
    assert not await check(state, owner, code_at(AT))
