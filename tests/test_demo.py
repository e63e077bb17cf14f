"""`make demo`, as a person meets it: it answers, its login works, Ctrl-C ends all of it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from development.ports import free_port
from tests.conftest import REPOSITORY, own_environment
from tests.servers import STOP_WITHIN_SECONDS, running, wait_until

RunningDemo = tuple[subprocess.Popen[bytes], tuple[str, str, str]]

ANNOUNCEMENT = re.compile(
    r"(http://localhost:\d+)/docs .*login.*\n +\1/admin .*login.*\n\n +(\S+@\S+)\n +(\S+)\n"
)


def demo(destination: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", str(destination)]
    ports = {"APP_PORT": str(free_port()), "HTTP_PORT": str(free_port())}
    environment = own_environment() | ports | settings
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.parametrize("name", ["APP_PORT", "HTTP_PORT"])
def test_demo_is_refused_when_port_is_taken(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert_refused(demo(tmp_path, **{name: port}), f"Port {port} cannot be used")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", ["0x50", "-1", "65536", "eighty"])
def test_demo_is_refused_when_port_is_no_port(tmp_path: Path, port: str) -> None:
    assert_refused(demo(tmp_path, HTTP_PORT=port), f"Port {port} cannot be used")


def test_demo_is_refused_when_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_refused(demo(tmp_path / "file/folder"), "give another DEST")


def test_demo_is_refused_when_service_exists(tmp_path: Path) -> None:
    (tmp_path / "my-service").mkdir()
    assert_refused(demo(tmp_path), "exists already")


@pytest.fixture
def running_demo(tmp_path: Path) -> Iterator[RunningDemo]:
    """`make demo` once it has printed its addresses, and what it printed."""
    output = tmp_path / "output"
    ports = {"APP_PORT": str(free_port()), "HTTP_PORT": str(free_port())}
    environment = own_environment() | ports | {"TMPDIR": str(tmp_path)}
    command = ("make", "--no-print-directory", "-C", str(REPOSITORY), "demo")

    def is_announced() -> bool:
        return ANNOUNCEMENT.search(output.read_text()) is not None

    with running(command, output, is_announced, environment=environment) as process:
        yield process, ANNOUNCEMENT.findall(output.read_text())[0]


@pytest.mark.slow(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_serves_a_login_and_ends_completely(
    running_demo: RunningDemo, number: signal.Signals, tmp_path: Path
) -> None:
    process, (address, email, password) = running_demo
    with httpx2.Client(base_url=address) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/admin", follow_redirects=True).status_code == 200
        form = {"username": email, "password": password}
        assert client.post("/api/v1/auth/token", data=form).status_code == 200
    os.killpg(process.pid, number)
    process.wait(STOP_WITHIN_SECONDS)
    assert list(tmp_path.glob("demo-*")) == []
    # A worker may be seen while it ends.
    wait_until(lambda: processes_in(tmp_path) == [], "no process is left", within_seconds=10)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address}/readyz")


def processes_in(folder: Path) -> list[str]:
    """Linux only; elsewhere the closed port has to do."""
    running = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            where = f"{(entry / 'cwd').readlink()} {(entry / 'cmdline').read_text()}"
            running += [where] if str(folder) in where else []
    return running
