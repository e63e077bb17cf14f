"""deploy/systemd: the units are valid and tight; install.sh installs, repeats and goes back."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Bake, own_environment
from tests.system.database import running_postgres

Require = Callable[[str], str]

EXPOSURE_MAX = 2.0
# Stand-ins for what would change this machine. `restart` does what systemd does: it ends the main
# process and starts the next one on the same socket.
FAKES = {
    "getent": "#!/bin/sh\nexit 2\n",
    "useradd": "#!/bin/sh\n",
    "systemd-run": """#!/bin/bash
while [[ $1 == --* ]]; do
    case $1 in
    --property=EnvironmentFile=*) set -a; . "${1#*EnvironmentFile=}"; set +a ;;
    --working-directory=*) cd "${1#*=}" ;;
    esac
    shift
done
exec "$@"
""",
    "systemctl": """#!/bin/bash
echo "$*" >>"$PREFIX/systemctl.log"
[[ $1 == restart ]] || exit 0
main=$PREFIX/main.pid
if [[ -e $main ]]; then
    kill "$(cat "$main")" 2>/dev/null
    while kill -0 "$(cat "$main")" 2>/dev/null; do sleep 0.1; done
fi
cd "$PREFIX/opt/shop/current"
set -a; . "$PREFIX/etc/shop/app.env"; . "$PREFIX/etc/shop/secrets.env"; set +a
exec 3<&"$SOCKET"
LISTEN_FDS=1 setsid bash -c 'echo $$ >"$1"; LISTEN_PID=$$ exec .venv/bin/gunicorn' sh "$main" \\
    >>"$PREFIX/gunicorn.log" 2>&1 &
""",
}


@dataclass(frozen=True)
class Machine:
    """A folder in the place of /, and a socket that somebody else holds, as systemd does."""

    root: Path
    project: Path
    listener: socket.socket

    def install(self, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = own_environment()
        search = f"{self.root / 'bin'}:{environment['PATH']}:/usr/sbin"
        changes = {"PATH": search, "PREFIX": str(self.root), "SOCKET": str(self.listener.fileno())}
        return subprocess.run(
            [self.project / "deploy/systemd/install.sh"],
            env=environment | changes | settings,
            pass_fds=[self.listener.fileno()],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def write_database_url(self, url: str) -> None:
        with (self.root / "etc/shop/secrets.env").open("a") as file:
            file.write(f"DATABASE_URL={url}\n")

    def release(self) -> str:
        return (self.root / "opt/shop/current").readlink().name

    def get(self, path: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(self.listener.getsockname())
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            return connection.makefile().read()

    def stop(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            process = int((self.root / "main.pid").read_text())
            os.kill(process, signal.SIGTERM)
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline:
                os.kill(process, 0)
                time.sleep(0.1)


@pytest.fixture
def project(bake: Bake) -> Path:
    return bake(deployment="systemd", project_slug="shop")


@pytest.fixture
def machine(project: Path, tmp_path: Path, require: Require) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("install.sh wants root")
    require("nginx")
    root = tmp_path / "machine"
    for folder in ("bin", "run"):
        (root / folder).mkdir(parents=True)
    for name, text in FAKES.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "run/shop.socket"))
        listener.listen(4096)
        machine = Machine(root, project, listener)
        yield machine
        machine.stop()


@pytest.fixture
def database_url(project: Path, tmp_path: Path, uv: str) -> Iterator[str]:
    """A database of a copy's own, so that the project stays as it was baked."""
    copy = shutil.copytree(project, tmp_path / "database")
    with running_postgres(copy, uv) as url:
        yield url


def test_install_asks_for_the_database_when_there_is_none(machine: Machine) -> None:
    done = machine.install()
    assert done.returncode == 1
    assert done.stderr.startswith("Write DATABASE_URL=")
    assert done.stderr.count("\n") == 1
    assert (machine.root / "etc/shop/secrets.env").stat().st_mode & 0o777 == 0o600


def test_install_repeats_and_goes_back_when_the_new_version_is_broken(
    machine: Machine, database_url: str
) -> None:
    machine.install()
    machine.write_database_url(database_url)
    first = machine.install()
    assert first.returncode == 0, first.stderr
    release = machine.release()
    assert '"name":"shop"' in machine.get("/version")

    again = machine.install()
    assert again.returncode == 0, again.stderr
    assert machine.release() == release

    with (machine.project / "app/main.py").open("a") as file:
        file.write('\nraise RuntimeError("broken")\n')
    broken = machine.install(READY_WITHIN_SECONDS="20")
    assert broken.returncode == 1
    assert f"{release} runs again" in broken.stderr
    assert machine.release() == release
    assert " 200 OK" in machine.get("/readyz")


def test_units_are_valid_and_tight(project: Path, tmp_path: Path, require: Require) -> None:
    analyze = require("systemd-analyze")
    for kind in ("service", "socket"):
        unit = (project / f"deploy/systemd/app.{kind}").read_text()
        # The only thing that is missing here is the program itself.
        unit = unit.replace("/opt/%N/current/.venv/bin/gunicorn", "/bin/true")
        (tmp_path / f"shop.{kind}").write_text(unit)
    service = str(tmp_path / "shop.service")
    verified = subprocess.run(
        [analyze, "verify", "--man=no", service, str(tmp_path / "shop.socket")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    security = [analyze, "security", "--offline=true", "--no-pager", service]
    rated = subprocess.run(security, capture_output=True, text=True, check=False).stdout
    assert float(re.findall(r"Overall exposure level .*: ([\d.]+)", rated)[0]) < EXPOSURE_MAX
