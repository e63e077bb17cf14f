"""Settings refuse what would hurt later, and say it in one line."""

import json
import re
from pathlib import Path

import pytest

from app.settings import Settings
from doctor.settings import AllSettings

ROOT = Path(__file__).parent.parent
GOOD = {
    "environment": "production",
    "database_url": "postgresql://app@127.0.0.1/app",
    "secret_key": "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
}


@pytest.mark.parametrize(
    "secret", ["", "short", "a" * 48, "changeme" * 6, "my-production-secret-key-0123456789abcdef"]
)
def test_production_is_refused_when_the_secret_is_weak(secret: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)secret.key"):
        Settings.model_validate(GOOD | {"secret_key": secret})


@pytest.mark.parametrize("secret", ["a" * 48, "changeme" * 6])
def test_production_is_refused_when_a_key_of_the_ring_is_weak(secret: str) -> None:
    good = {"kid": "one", "key": GOOD["secret_key"]}
    ring = json.dumps([good, {"kid": "two", "key": secret}])
    with pytest.raises(ValueError, match="JWT_KEYS: the key two") as refused:
        Settings.model_validate(GOOD | {"jwt_keys": ring})
    assert secret not in str(refused.value)
    Settings.model_validate(GOOD | {"jwt_keys": ring, "environment": "development"})


def test_start_is_refused_when_argon2_has_too_little_memory() -> None:
    with pytest.raises(ValueError, match="PASSWORD_MEMORY_COST_KIB"):
        Settings.model_validate(GOOD | {"password_memory_cost_kib": 31})


def test_docs_are_off_when_in_production() -> None:
    assert not Settings.model_validate(GOOD).docs_are_on
    assert Settings.model_validate(GOOD | {"docs_enabled": True}).docs_are_on


def test_process_ends_with_a_line_for_each_mistake_and_no_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "mysql://somewhere")
    with pytest.raises(SystemExit) as stopped:
        Settings.load()
    message = str(stopped.value)
    assert "SECRET_KEY: " in message
    assert "DATABASE_URL: " in message
    assert "hunter2" not in message


def test_setting_is_read_when_it_is_a_mounted_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret_key").write_text(GOOD["secret_key"] + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.setenv("DATABASE_URL", GOOD["database_url"])
    monkeypatch.setattr("server.settings.SECRETS_DIR", tmp_path)
    assert Settings.load().secret_key.get_secret_value() == GOOD["secret_key"]


def test_every_setting_is_in_the_example_file_and_the_other_way_round() -> None:
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    assert named == {name.upper() for name in AllSettings.model_fields} | {"HTTP_PORT"}
