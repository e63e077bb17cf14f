"""A machine with systemd as process 1, in a container of Podman; and `podman kube play`."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import SEARCHED, find_uv, own_environment
from tests.system.archives import archive
from tests.system.container_images import ENVIRONMENT, write_context
from tests.system.image import CA_BUNDLE

Require = Callable[[str], str]

PROGRAMS = ("podman", "runc")
# What the guide asks for, beside uv, which Debian does not have.
PACKAGES = ("ca-certificates", "curl", "dbus", "nginx-light", "openssl", "postgresql", "procps")
PYTHON = ("python3", "python3-venv")
SYSTEMD = ("systemd", "systemd-sysv")
BOOTS_WITHIN_SECONDS = 120
# Building an image takes longest.
COMMAND_SECONDS = 600
# crun, the usual one, refuses cgroups in hybrid mode; the limits are below those of the machine.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[network]
network_backend = "netavark"
network_config_dir = "{networks}"
"""


@dataclass(frozen=True)
class Podman:
    folder: Path
    run_root: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str | Path) -> str:
        done = self.attempt(*arguments)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.strip()

    def import_image(self, file: Path, name: str) -> None:
        self("import", "--change", ENVIRONMENT, file, name)

    def build_image(self, name: str, dockerfile: str, **files: str) -> None:
        folder = self.folder / "contexts" / re.sub("[/:]", "_", name)
        context = write_context(folder, dockerfile, files)
        # A layer for each instruction costs more than it saves here.
        self("build", "--pull=never", "--network=host", "--layers=false", "--tag", name, context)

    def attempt(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        places: list[str | Path] = [
            "--root",
            self.folder / "root",
            "--runroot",
            self.run_root,
        ]
        return subprocess.run(
            ["podman", *places, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )


@contextmanager
def podman(require: Require, folder: Path) -> Iterator[Podman]:
    for program in PROGRAMS:
        require(program)
    # Of its own, or this would remove the networks of others.
    (folder / "containers.conf").write_text(CONFIGURATION.format(networks=folder / "networks"))
    settings = {"CONTAINERS_CONF": str(folder / "containers.conf"), "PATH": SEARCHED}
    # Podman takes at most 50 characters for it, which temporary folders of tests may exceed.
    run_root = Path(tempfile.mkdtemp(prefix="podman-", dir="/run"))
    own = Podman(folder, run_root, own_environment() | settings)
    try:
        yield own
    finally:
        own.attempt("pod", "rm", "--all", "--force", "--time", "5")
        own.attempt("rm", "--all", "--force", "--time", "5")
        own.attempt("rmi", "--all", "--force")
        own.attempt("network", "prune", "--force")
        shutil.rmtree(folder / "root", ignore_errors=True)
        shutil.rmtree(run_root, ignore_errors=True)


@dataclass(frozen=True)
class Machine:
    """What a person types there, as root."""

    podman: Podman
    name: str

    def __call__(self, script: str, *, check: bool = True) -> str:
        done = self.attempt(script)
        assert done.returncode == 0 or not check, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.strip()

    def attempt(self, script: str) -> subprocess.CompletedProcess[str]:
        # The certificate of a proxy that only this machine knows.
        environment = ["--env", f"SSL_CERT_FILE={CA_BUNDLE}"]
        return self.podman.attempt("exec", *environment, self.name, "bash", "-c", script)

    def copy(self, source: Path, target: str) -> None:
        self.podman("cp", source, f"{self.name}:{target}")

    def wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOTS_WITHIN_SECONDS
        while self("systemctl is-system-running", check=False) not in ("running", "degraded"):
            assert time.monotonic() < deadline, self("systemctl list-jobs", check=False)
            time.sleep(0.5)

    def reboot(self) -> None:
        self.podman("restart", "--time", "60", self.name)
        self.wait_until_booted()


def start_machine(podman: Podman, require: Require, port: int) -> Machine:
    """Debian 12 as its installer leaves it, with the prerequisites of the guide."""
    root = archive(require, "bookworm", [*PACKAGES, *PYTHON, *SYSTEMD])
    podman.import_image(root, "localhost/machine")
    podman(
        *("run", "--detach", "--privileged", "--systemd=always", "--name", "machine"),
        # Its own root of cgroups, or systemd could set no limits.
        "--cgroupns=private",
        *("--publish", f"127.0.0.1:{port}:80", "localhost/machine", "/sbin/init"),
    )
    machine = Machine(podman, "machine")
    machine.wait_until_booted()
    machine.copy(Path(find_uv()), "/usr/local/bin/uv")
    machine.copy(CA_BUNDLE, str(CA_BUNDLE))
    return machine
