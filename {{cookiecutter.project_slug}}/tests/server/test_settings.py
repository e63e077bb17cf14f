"""Server settings refuse what has no effect; a reload survives a mistake."""

from pathlib import Path

import pytest

from server.settings import ServerSettings, uvicorn_options

GOOD = {
    "database_url": "postgresql://app@127.0.0.1/app",
    "secret_key": "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_uvicorn_gets_our_choice_when_nothing_is_set(environment: pytest.MonkeyPatch) -> None:
    assert uvicorn_options()["lifespan"] == "on"


def test_uvicorn_gets_what_its_own_variable_says(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("UVICORN_WS_MAX_SIZE", "4096")
    environment.setenv("UVICORN_SERVER_HEADER", "true")
    options = uvicorn_options()
    assert (options["ws_max_size"], options["server_header"]) == (4096, True)


def test_uvicorn_gets_what_the_file_says(environment: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("UVICORN_LOOP=asyncio\n")
    assert uvicorn_options()["loop"] == "asyncio"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("UVICORN_PORT", "80", "has no effect behind gunicorn: set APP_PORT"),
        ("UVICORN_RELOAD", "true", "UVICORN_RELOAD has no effect"),
        ("UVICORN_LIFESPAN", "maybe", "'maybe' is not one of"),
    ],
)
def test_uvicorn_option_is_refused_when_it_is_wrong_or_has_no_effect(
    environment: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(SystemExit, match=sentence):
        uvicorn_options()


def test_jitter_is_a_tenth_when_not_set() -> None:
    settings = ServerSettings.model_validate(GOOD | {"server_max_requests": 5000})
    assert settings.max_requests_jitter == 500


def test_earlier_settings_are_kept_when_a_reload_finds_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = ServerSettings.model_validate(GOOD)
    monkeypatch.setenv("SERVER_BACKLOG", "many")
    assert ServerSettings.reload(earlier) is earlier
    with pytest.raises(SystemExit, match="SERVER_BACKLOG: "):
        ServerSettings.load()
