"""`manage create-admin` and `reset-second-factor`: what they print and what they refuse."""

import asyncio
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.admin.audit import NO_ROW
from app.admin.models import AuditEntry
from app.settings import Settings
from manage.cli import main
from tests.conftest import PASSWORD, empty_tables, execute

EMAIL = "root@example.com"


@pytest.fixture(autouse=True)
def environment(
    settings: Settings, migrated: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("SECRET_KEY", settings.secret_key.get_secret_value())
    # The cheapest that argon2 allows.
    for name, value in (("MEMORY_COST_KIB", "8"), ("TIME_COST", "1"), ("PARALLELISM", "1")):
        monkeypatch.setenv(f"PASSWORD_{name}", value)
    yield
    empty_tables(settings)


def create_admin(*options: str, typed: str) -> Result:
    return CliRunner().invoke(main, ["create-admin", "--email", EMAIL, *options], input=typed)


@pytest.mark.parametrize(
    ("options", "typed"),
    [(["--password-stdin"], f"{PASSWORD}\n"), ([], f"{PASSWORD}\n{PASSWORD}\n")],
)
def test_admin_is_created_and_the_password_never_printed(options: list[str], typed: str) -> None:
    result = create_admin(*options, typed=typed)
    assert (result.exit_code, f"{EMAIL} may log in" in result.output) == (0, True)
    assert PASSWORD not in result.output


async def test_new_admin_is_in_the_audit_log(engine: AsyncEngine) -> None:
    await asyncio.to_thread(create_admin, "--password-stdin", typed=f"{PASSWORD}\n")
    async with engine.connect() as connection:
        newest = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(1)
        row = (await connection.execute(newest)).one()
    assert (row.action, row.after) == ("create-admin", {"email": EMAIL, "role": "admin"})
    assert (row.actor_id, row.actor_email) == (NO_ROW, "manage create-admin")


@pytest.mark.parametrize("typed", ["", "\n", "short\n", "password123\n"])
def test_admin_is_refused_in_one_line_when_the_password_is_weak(typed: str) -> None:
    result = create_admin("--password-stdin", typed=typed)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith("Error: PASSWORD: ")


def test_admin_is_refused_in_one_line_when_the_email_is_taken() -> None:
    create_admin("--password-stdin", typed=f"{PASSWORD}\n")
    result = create_admin("--password-stdin", typed=f"{PASSWORD}\n")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "exists already" in result.output


def reset_second_factor(email: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["reset-second-factor", "--email", email])
    return result.exit_code, result.output


def test_second_factor_of_an_admin_who_is_alone_is_reset_once(settings: Settings) -> None:
    create_admin("--password-stdin", typed=f"{PASSWORD}\n")
    added = "INSERT INTO second_factor (user_id, encrypted_secret, last_step) SELECT id, '', 0"
    execute(str(settings.database_url), f"{added} FROM app_user")
    exit_code, output = reset_second_factor(EMAIL.upper())
    assert (exit_code, "sets up another one" in output) == (0, True)
    assert reset_second_factor(EMAIL)[0] == 1


def test_reset_of_a_second_factor_fails_when_nobody_has_the_email() -> None:
    exit_code, output = reset_second_factor("nobody@example.com")
    assert (exit_code, output.count("\n")) == (1, 1)
