"""The way to uv on a machine that has only Python, with a package index on loopback."""

import ensurepip
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from development import bootstrap

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform == "win32", reason="the uv of the test is a script"),
]


def write_uv(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho uv {version}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Has the pip that Python brings along, and a uv that is a script."""
    pip = Path(ensurepip.__file__).parent / f"_bundled/pip-{ensurepip.version()}-py3-none-any.whl"
    if not pip.exists():
        pytest.skip("this Python has no pip in it")
    root = tmp_path / "index"
    copy = Path(shutil.copy(pip, make_folder(root / "pip")))
    write_uv_wheel(make_folder(root / "uv"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=root)) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(bootstrap, "has_pip", lambda: False)
        monkeypatch.setattr(bootstrap, "PIP_VERSION", ensurepip.version())
        checksum = hashlib.sha256(copy.read_bytes()).hexdigest()
        monkeypatch.setattr(bootstrap, "PIP_SHA256", checksum)
        yield root
        server.shutdown()


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def write_uv_wheel(folder: Path) -> None:
    name = f"uv-{bootstrap.UV_VERSION}"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        script = f"#!/bin/sh\necho uv {bootstrap.UV_VERSION}\n"
        wheel.writestr(f"{name}.data/scripts/uv", script)
        metadata = f"Metadata-Version: 2.1\nName: uv\nVersion: {bootstrap.UV_VERSION}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\n")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def run(into: Path, path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, bootstrap.__file__, "--into", into],
        check=False,
        capture_output=True,
        env={**os.environ, "PATH": str(path)},
        text=True,
    )


def test_bootstrap_prints_the_uv_on_the_path_when_it_is_new_enough(tmp_path: Path) -> None:
    uv = write_uv(tmp_path / "bin/uv", "0.8.0")
    done = run(tmp_path, uv.parent)
    assert (done.stdout, done.stderr) == (f"{uv}\n", "")
    assert not (tmp_path / ".uv").exists()


def test_bootstrap_prints_the_fetched_one_when_that_on_the_path_is_too_old(tmp_path: Path) -> None:
    old = write_uv(tmp_path / "bin/uv", "0.7.22")
    fetched = write_uv(tmp_path / ".uv/bin/uv", "0.10.0")
    done = run(tmp_path, old.parent)
    assert (done.stdout, done.stderr) == (f"{fetched}\n", "")


def test_bootstrap_says_one_sentence_when_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "into").touch()
    done = run(tmp_path / "into", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("/into/.uv: Not a directory.\n")


@pytest.mark.usefixtures("index")
def test_fetch_leaves_a_whole_uv_and_nothing_else_when_two_run_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "into/.uv"
    uv = folder / "bin/uv"
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(bootstrap.fetch, [folder, folder])) == [str(uv)] * 2
    assert list(folder.rglob("*")) == [uv.parent, uv]
    assert bootstrap.find(folder)


def test_fetch_says_one_sentence_when_the_index_has_no_uv(tmp_path: Path, index: Path) -> None:
    shutil.rmtree(index / "uv")
    with pytest.raises(SystemExit, match="no package index answers with a uv for this machine"):
        bootstrap.fetch(tmp_path / ".uv")
    assert list((tmp_path / ".uv").rglob("*")) == [tmp_path / ".uv/bin"]


@pytest.mark.usefixtures("index")
def test_fetch_refuses_a_pip_when_the_checksum_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "PIP_SHA256", "0" * 64)
    with pytest.raises(SystemExit, match=r"pip-.*\.whl of 127.0.0.1 has a wrong checksum"):
        bootstrap.fetch(tmp_path / ".uv")
    assert list((tmp_path / ".uv").rglob("*")) == [tmp_path / ".uv/bin"]


def test_fetch_says_one_sentence_when_python_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        bootstrap.fetch(tmp_path / ".uv")
    assert not (tmp_path / ".uv").exists()


def test_download_of_pip_hides_the_password_when_the_index_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hidden@127.0.0.1:9/simple")
    with pytest.raises(SystemExit, match=r"127\.0\.0\.1 cannot be reached") as stopped:
        bootstrap.download_pip(tmp_path)
    assert "hidden" not in str(stopped.value)
