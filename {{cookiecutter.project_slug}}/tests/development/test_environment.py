"""`.env`: made once, private from the start, with a secret that nobody else has."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from development import environment

EXAMPLE = "# Why.\nENVIRONMENT=development\nSECRET_KEY=\n# SECRET_KEY=is only talked about\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".env.example").write_text(EXAMPLE, encoding="utf-8")
    return tmp_path


def read_secret(folder: Path) -> str:
    lines = (folder / ".env").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("SECRET_KEY=") for line in lines if line[:11] == "SECRET_KEY=")


def test_create_fills_in_the_secret_and_nothing_else(folder: Path) -> None:
    assert environment.create(folder)
    secret = read_secret(folder)
    text = (folder / ".env").read_text(encoding="utf-8")
    assert text == EXAMPLE.replace("SECRET_KEY=\n", f"SECRET_KEY={secret}\n")
    assert len(secret) == 64
    assert sorted(os.listdir(folder)) == [".env", ".env.example"]


def test_create_gives_another_secret_each_time(folder: Path) -> None:
    environment.create(folder)
    first = read_secret(folder)
    (folder / ".env").unlink()
    environment.create(folder)
    assert read_secret(folder) != first


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_create_keeps_others_out_when_the_umask_would_not(folder: Path) -> None:
    before = os.umask(0)
    try:
        environment.create(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600


def test_create_changes_nothing_when_there_is_one(folder: Path) -> None:
    (folder / ".env").write_text("", encoding="utf-8")
    assert not environment.create(folder)
    assert (folder / ".env").read_text(encoding="utf-8") == ""


def test_create_changes_nothing_when_one_comes_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("theirs", encoding="utf-8")
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    assert not environment.create(folder)
    assert (folder / ".env").read_text(encoding="utf-8") == "theirs"
    assert sorted(os.listdir(folder)) == [".env", ".env.example"]


def test_script_says_one_sentence_when_the_example_is_gone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, environment.__file__],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == ".env cannot be written: No such file or directory (.env.example).\n"


def test_create_says_one_sentence_when_the_example_has_no_secret_key(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("# SECRET_KEY=\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="one line that begins with SECRET_KEY="):
        environment.create(tmp_path)
    assert not (tmp_path / ".env").exists()
