"""The ring of keys: which are refused, how it turns, and that no secret is ever printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter

from app.accounts.tokens import build_token_keys, issue_access_token, public_keys, read_access_token
from app.errors import UnauthorizedError
from app.keys import Algorithm, SigningKey
from app.settings import Settings
from manage.cli import main
from manage.keys import dump_keys, generate_key
from tests.accounts.test_tokens import SESSION_ID, USER_ID
from tests.test_settings import GOOD

ROOT = Path(__file__).parent.parent
ALGORITHMS: list[Algorithm] = ["HS256", "ES256", "RS256"]


@pytest.fixture(scope="module")
def ring() -> list[SigningKey]:
    return [generate_key(algorithm) for algorithm in ALGORITHMS]


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with an .env and without a ring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JWT_KEYS", raising=False)
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.setenv("DATABASE_URL", GOOD["database_url"])
    (tmp_path / ".env").write_text(f"SECRET_KEY={GOOD['secret_key']}\n")
    return tmp_path


def with_ring(settings: Settings, ring: list[SigningKey]) -> Settings:
    return settings.model_copy(update={"jwt_keys": tuple(ring)})


def rotate(*options: str) -> tuple[SigningKey, ...]:
    result = CliRunner().invoke(main, ["keys", "rotate", *options])
    assert result.exit_code == 0, result.output
    ring = Settings.load().token_key_ring
    assert not any(key.key.get_secret_value() in result.output for key in ring)
    return ring


@pytest.mark.parametrize("place", [0, 1, 2])
def test_token_of_each_key_is_accepted_when_all_are_in_the_ring(
    settings: Settings, ring: list[SigningKey], place: int
) -> None:
    everywhere = build_token_keys(with_ring(settings, ring))
    alone = build_token_keys(with_ring(settings, [ring[place]]))
    token = issue_access_token(alone, USER_ID, SESSION_ID, "account")
    assert read_access_token(everywhere, token).sub == USER_ID


def test_token_is_refused_when_its_key_has_left_the_ring(
    settings: Settings, ring: list[SigningKey]
) -> None:
    token = issue_access_token(
        build_token_keys(with_ring(settings, ring)), USER_ID, SESSION_ID, "account"
    )
    with pytest.raises(UnauthorizedError):
        read_access_token(build_token_keys(with_ring(settings, ring[1:])), token)


def test_only_public_halves_are_served(settings: Settings, ring: list[SigningKey]) -> None:
    served = public_keys(build_token_keys(with_ring(settings, ring)))
    assert [(key["kid"], key["kty"]) for key in served] == [
        (ring[1].kid, "EC"),
        (ring[2].kid, "RSA"),
    ]
    assert not any({"d", "p", "q", "k"} & key.keys() for key in served)


def test_ring_is_read_from_json(ring: list[SigningKey]) -> None:
    settings = Settings.model_validate(GOOD | {"jwt_keys": dump_keys(ring)})
    assert list(settings.token_key_ring) == ring


@pytest.mark.parametrize(
    "keys",
    [
        "no json",
        "[]",
        json.dumps([{"kid": "a", "key": "short"}]),
        json.dumps([{"kid": "../a", "key": "k" * 32}]),
        json.dumps([{"kid": "a", "key": "k" * 32}] * 2),
        json.dumps([{"kid": "a", "alg": "none", "key": "k" * 32}]),
        json.dumps([{"kid": "a", "alg": "ES256", "key": "k" * 32}]),
        json.dumps([{"kid": "a", "key": "-----BEGIN PUBLIC KEY-----" + "k" * 32}]),
    ],
)
def test_ring_is_refused_when_a_key_is_unfit(keys: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)jwt.keys"):
        Settings.model_validate(GOOD | {"jwt_keys": keys})


def test_ring_is_refused_when_a_private_key_is_of_another_kind(ring: list[SigningKey]) -> None:
    text = ring[2].key.get_secret_value()
    with pytest.raises(ValueError, match="P-256"):
        TypeAdapter(SigningKey).validate_python({"kid": "a", "alg": "ES256", "key": text})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rotation_writes_a_new_first_key_and_keeps_the_old_one(
    project: Path, algorithm: Algorithm
) -> None:
    before = Settings.load().token_key_ring
    after = rotate("--algorithm", algorithm)
    assert after[0].alg == algorithm
    assert after[1:] == before
    assert (project / ".env").stat().st_mode & 0o077 == 0


@pytest.mark.system
def test_rotation_is_told_without_the_key(project: Path) -> None:
    command = [sys.executable, "-c", "from manage.cli import main; main()", "keys", "rotate"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json"}
    told = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    [line] = [one for one in told.stdout.splitlines() if "token_keys_rotated" in one]
    new, old = Settings.load().token_key_ring
    assert (json.loads(line)["signs"], json.loads(line)["verify"]) == (new.kid, [new.kid, old.kid])
    assert new.key.get_secret_value() not in told.stdout + told.stderr


def test_rotation_drops_the_oldest_key_when_the_ring_is_full(project: Path) -> None:
    rings = [rotate() for _ in range(4)]
    assert rings[3][1:] == rings[2][:2]


def test_staged_key_signs_only_after_its_promotion(project: Path) -> None:
    before, staged, promoted = (
        Settings.load().token_key_ring,
        rotate("--stage"),
        rotate("--promote"),
    )
    assert staged[0] == before[0]
    assert promoted == (staged[1], staged[0])


def test_rotation_writes_a_secret_file_that_only_its_owner_reads(project: Path) -> None:
    rotate("--file", "jwt_keys")
    keys = (project / "jwt_keys").read_text()
    assert (project / "jwt_keys").stat().st_mode & 0o777 == 0o600
    assert len(Settings.model_validate(GOOD | {"jwt_keys": keys}).token_key_ring) == 2


def test_rotation_is_refused_when_the_ring_is_not_in_the_env_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_KEYS", dump_keys([generate_key("HS256")]))
    result = CliRunner().invoke(main, ["keys", "rotate"])
    assert (result.exit_code, "--file" in result.output) == (1, True)
