"""Settings of the server, and what a start does with a mistake in them."""

from pathlib import Path

import pytest

from server.settings import ServerSettings
from server.worker import Worker


def test_jitter_is_a_tenth_when_not_set() -> None:
    assert ServerSettings(server_max_requests=5000).max_requests_jitter == 500


def test_master_does_not_start_when_a_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(Worker, "settings", raising=False)
    monkeypatch.setenv("SERVER_BACKLOG", "many")
    with pytest.raises(SystemExit, match="SERVER_BACKLOG: "):
        Worker.configure()
