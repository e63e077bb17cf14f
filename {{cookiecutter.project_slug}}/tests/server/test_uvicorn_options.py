"""Uvicorn's options come from its own variables, wherever settings come from."""

from inspect import signature
from pathlib import Path

import pytest
from uvicorn.config import Config

from server.uvicorn_options import UVICORN_OPTIONS, read_uvicorn_options


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_our_default_holds_when_nothing_is_set(environment: pytest.MonkeyPatch) -> None:
    assert read_uvicorn_options()["lifespan"] == "on"


def test_variable_wins_and_has_the_type_that_uvicorn_wants(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("UVICORN_WS_MAX_SIZE", "4096")
    environment.setenv("UVICORN_SERVER_HEADER", "true")
    options = read_uvicorn_options()
    assert (options["ws_max_size"], options["server_header"]) == (4096, True)


def test_option_is_read_from_dot_env_when_the_variable_is_empty(
    environment: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("UVICORN_LOOP=asyncio\nUVICORN_HTTP=\n")
    environment.setenv("UVICORN_LOOP", "")
    options = read_uvicorn_options()
    assert (options["loop"], options["http"]) == ("asyncio", "auto")


def test_option_is_read_from_a_secret(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setattr("server.settings.SECRETS_DIR", tmp_path)
    (tmp_path / "uvicorn_ssl_keyfile_password").write_text("open sesame\n")
    assert read_uvicorn_options()["ssl_keyfile_password"] == "open sesame"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("UVICORN_PORT", "80", "has no effect behind gunicorn: set APP_PORT"),
        ("UVICORN_RELOAD", "true", "UVICORN_RELOAD has no effect behind gunicorn"),
        ("UVICORN_HEADERS", "a:b c:d", "UVICORN_HEADERS has no effect behind gunicorn"),
        ("UVICORN_LIFESPAN", "maybe", "'maybe' is not one of"),
        ("UVICORN_WS_MAX_SIZE", "large", "'large' is not a valid integer"),
    ],
)
def test_option_is_refused_in_one_line_when_it_is_wrong_or_has_no_effect(
    environment: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit, match=sentence) as refused:
        read_uvicorn_options()
    assert str(refused.value).count("\n") == 0


def test_uvicorn_takes_every_option(environment: pytest.MonkeyPatch) -> None:
    options = read_uvicorn_options()
    assert options.keys() == set(UVICORN_OPTIONS) <= set(signature(Config).parameters)
