"""Settings of the server, and what a reload does with a mistake in them."""

from pathlib import Path

import pytest

from server.settings import ServerSettings
from server.worker import Worker


def test_jitter_is_a_tenth_when_not_set() -> None:
    assert ServerSettings(server_max_requests=5000).max_requests_jitter == 500


@pytest.mark.parametrize(
    ("variable", "value"), [("SERVER_BACKLOG", "many"), ("UVICORN_LIFESPAN", "maybe")]
)
def test_master_keeps_its_settings_when_a_reload_finds_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Worker, "CONFIG_KWARGS", {})
    monkeypatch.setattr(Worker, "settings", None, raising=False)
    earlier = Worker.configure()
    monkeypatch.setenv(variable, value)
    assert Worker.configure() is earlier
    assert Worker.CONFIG_KWARGS["lifespan"] == "on"


def test_master_does_not_start_when_a_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(Worker, "settings", raising=False)
    monkeypatch.setenv("SERVER_BACKLOG", "many")
    with pytest.raises(SystemExit, match="SERVER_BACKLOG: "):
        Worker.configure()
