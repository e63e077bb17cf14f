"""Ports that are taken or nonsense are refused before anything starts."""

import socket
from pathlib import Path

import pytest

from development import DevelopmentError, ports
from development.serve import LauncherSettings


def test_port_is_refused_when_somebody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(DevelopmentError, match=f"Port {port} .* set HTTP_PORT to a free port"):
            ports.check_free("HTTP_PORT", port, ["127.0.0.1"])


@pytest.mark.parametrize("value", ["abc", "-1", "0", "65536", "80 80"])
def test_port_is_refused_when_it_is_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTP_PORT", value)
    with pytest.raises(SystemExit, match=r"^The settings are not valid\.\nHTTP_PORT: .*$"):
        LauncherSettings.load()


def test_address_that_the_launcher_wrote_is_not_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/database.env").write_text("DATABASE_URL=postgresql://a@b/c\n")
    assert LauncherSettings.load().database_url is None
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://a@b/c\n")
    assert LauncherSettings.load().database_url == "postgresql://a@b/c"
