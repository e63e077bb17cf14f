"""A Docker engine for the tests alone, with Compose."""

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import SEARCHED, own_environment
from tests.system import debian
from tests.system.container_images import ENVIRONMENT, write_context

Require = Callable[[str], str]

PROGRAMS = ("dockerd", "docker", "containerd", "runc", "iptables")
STARTS_WITHIN_SECONDS = 120
# Building an image takes longest.
COMMAND_SECONDS = 600
# What the engine keeps of each container, its log first of all, is on a disk of its own, which a
# test fills; that of the database has room.
LOG_DISK_BYTES = 24 * 2**20
# Mounts that nobody else sees, and that end with this process.
PRIVATE_MOUNTS = """
mkdir --parents "$1/containers"
# Shared, or the engine mounts its folder once more, without the disk below.
mount --bind "$1" "$1"
mount --make-shared "$1"
mount -t tmpfs -o "size=$2" tmpfs "$1/containers"
echo mounted
exec sleep infinity
"""
# Whoever starts these may be killed.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")


@dataclass
class Engine:
    folder: Path
    environment: dict[str, str]
    mounts: subprocess.Popen[bytes]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self, *command: str | Path, cwd: Path | None = None, **settings: str) -> str:
        done = self.attempt(*command, cwd=cwd, **settings)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.strip()

    def attempt(
        self, *command: str | Path, cwd: Path | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def start(self) -> None:
        # More than the machine's own limit is what the engine asks for, and does not get.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        options: list[str | Path] = [
            *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
            *("--host", self.environment["DOCKER_HOST"], "--pidfile", self.folder / "pid"),
            *("--default-ulimit", f"nofile={files}:{files}", "--default-ulimit", "nproc=1024:1024"),
        ]
        dockerd = str(shutil.which("dockerd", path=SEARCHED))
        with (self.folder / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *ENDS_WITH_US,
                    "nsenter",
                    f"--mount=/proc/{self.mounts.pid}/ns/mnt",
                    dockerd,
                    *options,
                ],
                env=self.environment,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while self.attempt("docker", "info").returncode:
            said = (self.folder / "engine.log").read_text()[-4000:]
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=120)
            self.process = None

    @contextmanager
    def full_log_disk(self) -> Iterator[None]:
        ballast = Path(f"/proc/{self.mounts.pid}/root{self.folder}/data/containers/ballast")
        # A little more than the disk has, should it not be the small one.
        count = LOG_DISK_BYTES // 4096 + 1
        dd = ["dd", "if=/dev/zero", f"of={ballast}", "bs=4096", f"count={count}"]
        filled = subprocess.run(dd, capture_output=True, text=True, check=False)
        try:
            assert "No space left" in filled.stderr, filled.stderr
            yield
        finally:
            ballast.unlink()

    def import_image(self, file: Path, name: str) -> None:
        self("docker", "import", "--change", ENVIRONMENT, file, name)

    def build_image(self, name: str, dockerfile: str, **files: str) -> None:
        folder = self.folder / "contexts" / re.sub("[/:]", "_", name)
        self("docker", "build", "--tag", name, write_context(folder, dockerfile, files))


@contextmanager
def running_engine(require: Require, folder: Path) -> Iterator[Engine]:
    for program in PROGRAMS:
        require(program)
    (folder / "configuration/cli-plugins").mkdir(parents=True)
    environment = own_environment() | {
        "PATH": SEARCHED,
        "DOCKER_HOST": f"unix://{folder}/socket",
        "DOCKER_CONFIG": str(folder / "configuration"),
        # The builder in the engine itself; the other is a plugin that Debian lacks.
        "DOCKER_BUILDKIT": "0",
    }
    _install_compose(folder)
    with _private_mounts(folder) as mounts:
        engine = Engine(folder, environment, mounts)
        try:
            engine.start()
            yield engine
        finally:
            # Or the bridges of the networks, and their routes, stay on this machine.
            remove_all = "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force"
            engine.attempt("sh", "-c", remove_all)
            engine.attempt("docker", "network", "prune", "--force")
            engine.stop()
    # Gigabytes, which pytest would keep for three runs.
    shutil.rmtree(folder / "data", ignore_errors=True)


@contextmanager
def _private_mounts(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a mount namespace, which the engine enters at each of its starts."""
    place = [str(folder / "data"), str(LOG_DISK_BYTES)]
    command = [*ENDS_WITH_US, "unshare", "--mount", "sh", "-euc", PRIVATE_MOUNTS, "sh", *place]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n"
        try:
            yield process
        finally:
            process.kill()


def _install_compose(folder: Path) -> None:
    root = debian.unpack("trixie", "docker-compose", folder / "compose")
    command = debian.program(root, "usr/libexec/docker/cli-plugins/docker-compose")
    plugin = folder / "configuration/cli-plugins/docker-compose"
    plugin.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    plugin.chmod(0o755)


def process_of(engine: Engine, container: str) -> int:
    """Process 1 of a container, as the host numbers it."""
    return int(engine("docker", "inspect", "--format", "{{.State.Pid}}", container))


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
