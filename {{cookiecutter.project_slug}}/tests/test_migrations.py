"""Migrations: each goes up, down and up again, agrees with the models, and runs once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from app.settings import Settings
from tests.conftest import execute


@pytest.fixture
def empty_database(settings: Settings) -> Iterator[str]:
    url = make_url(str(settings.database_url))
    name = f"migrations_{uuid4().hex[:8]}"
    execute(url, f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    execute(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def config(alembic_config: Config, settings: Settings, empty_database: str) -> Config:
    config = Config(alembic_config.config_file_name)
    config.attributes["settings"] = settings.model_copy(update={"database_url": empty_database})
    return config


def test_each_migration_goes_up_down_and_up_again(config: Config) -> None:
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        command.upgrade(config, script.revision)
        command.downgrade(config, "-1")
        command.upgrade(config, script.revision)


def test_migrations_build_what_the_models_describe(config: Config) -> None:
    command.upgrade(config, "head")
    command.check(config)


def test_one_works_and_all_succeed_when_four_migrate_at_once(
    settings: Settings, empty_database: str
) -> None:
    secret = settings.secret_key.get_secret_value()
    environment = os.environ | {"DATABASE_URL": empty_database, "SECRET_KEY": secret}
    arguments = [sys.executable, "-c", "from app.cli import main; main()", "migrate"]
    processes = [
        subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    logs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum("Running upgrade" in log for log in logs) == 1
