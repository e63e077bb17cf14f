"""Migrations: each goes up, down and up again, agrees with the models, and runs once."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, NullPool, String, Table, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.database import Model
from app.settings import Settings
from tests.conftest import SignedInUser, execute
from tests.rollback import RollbackDatabase

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
MANAGE = str(BIN / "manage")


@pytest.fixture
def empty_database(settings: Settings) -> Iterator[str]:
    url = make_url(str(settings.database_owner_url))
    name = f"migrations_{uuid4().hex[:8]}"
    execute(url, f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    execute(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def config(alembic_config: Config, settings: Settings, empty_database: str) -> Config:
    config = Config(alembic_config.config_file_name)
    urls = {"database_url": empty_database, "database_owner_url": empty_database}
    config.attributes["settings"] = settings.model_copy(update=urls)
    return config


def test_each_migration_goes_up_down_and_up_again(config: Config) -> None:
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        command.upgrade(config, script.revision)
        command.downgrade(config, "-1")
        command.upgrade(config, script.revision)


def test_migrations_build_what_the_models_describe(config: Config) -> None:
    command.upgrade(config, "head")
    command.check(config)


@pytest.mark.system
def test_one_works_and_all_succeed_when_eight_migrate_at_once(
    settings: Settings, empty_database: str
) -> None:
    secret = settings.secret_key.get_secret_value()
    environment = os.environ | {"DATABASE_URL": empty_database, "SECRET_KEY": secret}
    arguments = [sys.executable, "-c", "from manage.cli import main; main()", "migrate"]
    processes = [
        subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    logs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sum("Running upgrade" in log for log in logs) == 1


# 0009 makes the tables of procrastinate with its own statements, before anybody uses them.
@pytest.mark.parametrize("revisions", ["base:0008", "0009:head"])
def test_migrations_block_nobody_for_long(
    alembic_config: Config, tmp_path: Path, revisions: str
) -> None:
    """What is an exception says so in the migration: `-- squawk-ignore RULE`, and why."""
    with (tmp_path / "migrations.sql").open("w") as file:
        config = Config(alembic_config.config_file_name, output_buffer=file)
        command.upgrade(config, revisions, sql=True)
    linter = [BIN / "squawk", tmp_path / "migrations.sql"]
    checked = subprocess.run(linter, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("change", "role", "is_admin"),
    [
        ("is_admin = true", "admin", True),
        ("role = 'admin'", "admin", True),
        ("role = 'admin'; UPDATE app_user SET is_admin = false", "member", False),
        ("role = 'admin'; UPDATE app_user SET role = 'member'", "member", False),
    ],
)
async def test_role_and_is_admin_agree_when_old_or_new_code_writes(
    database: RollbackDatabase, user: SignedInUser, change: str, role: str, is_admin: bool
) -> None:
    for statement in f"UPDATE app_user SET {change}".split(";"):  # noqa: S608
        await database.connection.execute(text(statement))
    row = await database.connection.execute(text("SELECT role, is_admin FROM app_user"))
    assert row.one() == (role, is_admin)


@pytest.mark.parametrize(("is_admin", "role"), [("true", "admin"), ("false", "member")])
async def test_user_has_a_role_when_old_code_inserts(
    database: RollbackDatabase, is_admin: str, role: str
) -> None:
    values = f"gen_random_uuid(), 'a@example.com', 'hash', {is_admin}"
    statement = f"INSERT INTO app_user (id, email, password_hash, is_admin) VALUES ({values})"  # noqa: S608
    await database.connection.execute(text(statement))
    assert await database.connection.scalar(text("SELECT role FROM app_user")) == role


async def manage(url: str, settings: Settings, *arguments: str) -> asyncio.subprocess.Process:
    secret = settings.secret_key.get_secret_value()
    return await asyncio.create_subprocess_exec(
        MANAGE,
        *arguments,
        env=os.environ | {"DATABASE_URL": url, "SECRET_KEY": secret},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.mark.system
async def test_check_fails_when_a_migration_is_missing(
    settings: Settings, empty_database: str, config: Config
) -> None:
    before = await manage(empty_database, settings, "migrate", "--check")
    said, _ = await before.communicate()
    assert before.returncode == 1
    assert said.decode().endswith(f"not at the newest revision: run `{MANAGE} migrate`.\n")
    await asyncio.to_thread(command.upgrade, config, "head")
    after = await manage(empty_database, settings, "migrate", "--check")
    await after.communicate()
    assert after.returncode == 0


# It waits for 5 s.
@pytest.mark.system
async def test_migration_tries_again_when_a_table_is_in_use(
    settings: Settings, empty_database: str, config: Config
) -> None:
    await asyncio.to_thread(command.upgrade, config, "head")
    engine = create_async_engine(empty_database, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        process = await manage(empty_database, settings, "migrate")
        assert process.stdout
        while b"A table is in use" not in (line := await process.stdout.readline()):
            assert line, "it ended instead"
    await process.communicate()
    assert process.returncode == 0


def test_new_migration_passes_the_checks_when_it_is_fixed(config: Config, tmp_path: Path) -> None:
    command.upgrade(config, "head")
    comment = Column("comment", String(200), server_default="a default that makes a long line")
    table = Table("not_a_feature", Model.metadata, Column("id", Integer, primary_key=True), comment)
    shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    try:
        command.revision(config, "not a feature", autogenerate=True)
    finally:
        Model.metadata.remove(table)
    [made] = (tmp_path / "migrations" / "versions").glob("*_not_a_feature.py")
    assert run_ruff("check", made) == 1
    # What `make fix` runs, then what `make check` runs.
    for arguments in (["check", "--fix-only"], ["format"], ["check"], ["format", "--check"]):
        assert run_ruff(*arguments, made) == 0


def run_ruff(*arguments: str | Path) -> int:
    command = [BIN / "ruff", *arguments, "--config", ROOT / "pyproject.toml"]
    return subprocess.run(command, check=False).returncode
