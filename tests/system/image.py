"""Builds the image and enters it without a container engine; used by test_image.py."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.servers import wait_until
from tests.system.debian import archive

CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = "ca-certificates,python-is-python3,python3,python3-venv"
# What an engine does: secrets as files, a read-only root, memory for /tmp, process 1.
ENTER = """
set -e
root=$1 secrets=$2; shift 2
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/secrets"
mount --bind "$secrets" "$root/run/secrets"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot --userspec="$USER_AND_GROUP" "$root" /usr/bin/env --ignore-environment "$@"
"""


@dataclass(frozen=True)
class Buildah:
    binary: str
    storage: Path

    def __call__(self, *arguments: str) -> str:
        places = ["--root", str(self.storage), "--runroot", f"{self.storage}-run"]
        # This isolation needs root, but neither a daemon nor namespaces.
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            [self.binary, *places, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout.strip()

    def mounted(self, image: str) -> Path:
        return Path(self("mount", self("from", "--pull-never", image)))

    def make_base(self, debootstrap: str, dockerfile: Path) -> str:
        """An image of the name in the Dockerfile: the suite it says, with that suite's Python."""
        [name] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
        version, _, suite = name.rpartition(":")[2].split("-")
        container = self("from", "scratch")
        root = self("mount", container)
        what = ("--variant=minbase", f"--include={PACKAGES}", suite)
        command = [debootstrap, *what, root, archive()]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
        assert os.readlink(f"{root}/usr/bin/python3") == f"python{version}"
        # A proxy before the package index may have a certificate that only this machine knows.
        shutil.copy(CA_BUNDLE, f"{root}{CA_BUNDLE}")
        for variable in ("PIP_CERT", "SSL_CERT_FILE"):
            self("config", "--env", f"{variable}={CA_BUNDLE}", container)
        self("commit", "--quiet", container, name)
        return str(name)

    def build(self, project: Path, *options: str) -> str:
        tag = f"localhost/{project.name}:test"
        # The format of Docker: that of the OCI knows no HEALTHCHECK.
        fixed = ["--pull-never", "--no-cache", "--format", "docker", "--timestamp", "0"]
        self("build", *fixed, *options, "--tag", tag, str(project))
        return tag


@dataclass(frozen=True)
class Image:
    root: Path
    base: Path
    base_name: str
    config: dict[str, object]
    # Digests of their content.
    layers: tuple[str, ...]

    def list_of(self, key: str) -> list[str]:
        value = self.config[key]
        assert isinstance(value, list)
        return [str(item) for item in value]

    def added_files(self) -> dict[str, Path]:
        """By the name they have in the image."""
        return {
            name: path
            for name, path in files_below(self.root).items()
            if not os.path.lexists(self.base / name)
        }

    def start(self, secrets: Path, log: Path, *command: str, **settings: str) -> "Container":
        """In the image's own environment, folder and user."""
        variables = [*self.list_of("Env"), *(f"{key}={text}" for key, text in settings.items())]
        inside = [f"--chdir={self.config['WorkingDir']}", *variables, *command]
        enter = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh"]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*enter, str(self.root), str(secrets), *inside],
                env=os.environ | {"USER_AND_GROUP": str(self.config["User"])},
                stdout=output,
                stderr=output,
            )
        address = settings.get("APP_HOST", "127.0.0.1")
        return Container(process, log, settings.get("APP_PORT", ""), address)


def inspect(buildah: Buildah, tag: str, base: str) -> Image:
    inspected = json.loads(buildah("inspect", "--type", "image", tag))
    layers = tuple(inspected["Docker"]["rootfs"]["diff_ids"])
    places = buildah.mounted(tag), buildah.mounted(base)
    return Image(*places, base, inspected["Docker"]["config"], layers)


def files_below(root: Path) -> dict[str, Path]:
    paths = [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
    return {path.relative_to(root).as_posix(): path for path in paths}


@dataclass(frozen=True)
class Container:
    process: subprocess.Popen[bytes]
    log: Path
    port: str
    address: str

    def first_process(self) -> int:
        """Process 1, as the host numbers it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        wait_until(lambda: bool(children.read_text()))
        found = children.read_text().split()
        return int(found[0])

    def get(self, path: str) -> tuple[int, str]:
        try:
            url = f"http://{self.address}:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError as error:
            return 0, str(error)

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or self.get("/readyz")[0] == 200)
        assert self.process.poll() is None, self.log.read_text()

    def kill(self) -> None:
        """Process 1, and with it everything: the end of `unshare` does not reach another user."""
        if self.process.poll() is None:
            os.kill(self.first_process(), signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """The exit code, as soon as it ends by itself; kills nothing that still runs."""
        return self.process.wait(timeout=60)
