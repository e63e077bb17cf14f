"""Server settings refuse what has no effect; a reload survives a mistake."""

from pathlib import Path

import pytest

from app.server.settings import ServerSettings, load_server_settings, uvicorn_options

GOOD = {
    "database_url": "postgresql://app@127.0.0.1/app",
    "secret_key": "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
}


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ({"ws_max_queue": 16}, "WS_MAX_QUEUE needs WS_PROTOCOL=websockets"),
        ({"server_h11_max_incomplete_event_bytes": 4096}, "needs SERVER_HTTP=h11"),
    ],
)
def test_setting_is_refused_when_it_has_no_effect(mistake: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ServerSettings.model_validate(GOOD | mistake)


def test_jitter_is_a_tenth_when_not_set() -> None:
    settings = ServerSettings.model_validate(GOOD | {"server_max_requests": 5000})
    assert settings.max_requests_jitter == 500


def test_password_of_the_key_reaches_uvicorn() -> None:
    settings = ServerSettings.model_validate(GOOD | {"server_ssl_keyfile_password": "of the key"})
    assert uvicorn_options(settings)["ssl_keyfile_password"] == "of the key"


def test_earlier_settings_are_kept_when_a_reload_finds_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = ServerSettings.model_validate(GOOD)
    monkeypatch.setenv("SERVER_BACKLOG", "many")
    assert load_server_settings(earlier) is earlier
    with pytest.raises(SystemExit, match="SERVER_BACKLOG: "):
        load_server_settings()
