"""A Docker engine for the tests alone, with Compose, and the images that deploy/compose names."""

import os
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
from tests.system.archives import archive
from tests.system.image import CA_BUNDLE

Require = Callable[[str], str]

PROGRAMS = ("dockerd", "docker", "containerd", "runc", "iptables")
STARTS_WITHIN_SECONDS = 60
PYTHON = ("ca-certificates", "python-is-python3", "python3", "python3-venv")
# A proxy before the package index may have a certificate that only this machine knows.
PYTHON_IMAGE = f"""
FROM python-base
COPY ca.crt {CA_BUNDLE}
ENV PIP_CERT={CA_BUNDLE} SSL_CERT_FILE={CA_BUNDLE}
"""
# User, folder and entrypoint of the official image, as far as compose.yaml makes use of them.
POSTGRES_IMAGE = """
FROM postgres-base
RUN groupmod --non-unique --gid 999 postgres && usermod --non-unique --uid 999 --gid 999 postgres \\
    && rm -rf /var/lib/postgresql/* && chown -R 999:999 /var/lib/postgresql
COPY entrypoint.sh /
ENV PATH=/usr/lib/postgresql/18/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
ENTRYPOINT ["sh", "/entrypoint.sh"]
"""
POSTGRES_ENTRYPOINT = """
set -eu
[ -s "$PGDATA/PG_VERSION" ] || {
    initdb --username="${POSTGRES_USER:-postgres}" --pwfile="$POSTGRES_PASSWORD_FILE" \\
        $POSTGRES_INITDB_ARGS >/dev/null
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
}
exec "$@"
"""


@dataclass
class Engine:
    folder: Path
    environment: dict[str, str]
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
        )

    def start(self) -> None:
        # More than the machine's own limit is what the engine asks for, and does not get.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        options: list[str | Path] = [
            *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
            *("--host", self.environment["DOCKER_HOST"], "--pidfile", self.folder / "pid"),
            *("--default-ulimit", f"nofile={files}:{files}", "--default-ulimit", "nproc=1024:1024"),
        ]
        with (self.folder / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(shutil.which("dockerd", path=SEARCHED)), *options],
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

    def import_image(self, file: Path, name: str) -> None:
        self("docker", "import", file, name)

    def build_image(self, name: str, dockerfile: str, **files: str) -> None:
        folder = self.folder / name.replace("/", "_").replace(":", "_")
        folder.mkdir()
        (folder / "Dockerfile").write_text(dockerfile)
        for file, text in files.items():
            (folder / file.replace("_", ".")).write_text(text)
        self("docker", "build", "--tag", name, folder)


@contextmanager
def running_engine(require: Require, folder: Path) -> Iterator[Engine]:
    for program in PROGRAMS:
        require(program)
    (folder / "configuration/cli-plugins").mkdir(parents=True)
    engine = Engine(
        folder,
        own_environment()
        | {
            "PATH": SEARCHED,
            "DOCKER_HOST": f"unix://{folder}/socket",
            "DOCKER_CONFIG": str(folder / "configuration"),
            # The builder in the engine itself; the other is a plugin that Debian lacks.
            "DOCKER_BUILDKIT": "0",
        },
    )
    _install_compose(folder)
    engine.start()
    try:
        yield engine
    finally:
        # Or the bridges of the networks, and their routes, stay on this machine.
        engine("sh", "-c", "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force")
        engine("docker", "network", "prune", "--force")
        engine.stop()
        # Gigabytes, which pytest would keep for three runs.
        shutil.rmtree(folder / "data", ignore_errors=True)


def _install_compose(folder: Path) -> None:
    root = debian.unpack("trixie", "docker-compose", folder / "compose")
    command = debian.program(root, "usr/libexec/docker/cli-plugins/docker-compose")
    plugin = folder / "configuration/cli-plugins/docker-compose"
    plugin.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    plugin.chmod(0o755)


def make_images(engine: Engine, require: Require) -> None:
    """Those that compose.yaml and the Dockerfile name, from Debian's packages."""
    nginx = archive(require, "forky", ["nginx-light", "curl"])
    engine.import_image(nginx, "docker.io/library/nginx:1.30")
    engine.import_image(archive(require, "trixie", PYTHON), "python-base")
    python = "docker.io/library/python:3.13-slim-trixie"
    engine.build_image(python, PYTHON_IMAGE, ca_crt=CA_BUNDLE.read_text())
    engine.import_image(archive(require, "forky", ["postgresql-18"]), "postgres-base")
    postgres = "docker.io/library/postgres:18-trixie"
    engine.build_image(postgres, POSTGRES_IMAGE, entrypoint_sh=POSTGRES_ENTRYPOINT)
    # What the image of PgBouncer is made from; it installs the package itself.
    bouncer = archive(require, "trixie", ["ca-certificates"])
    engine.import_image(bouncer, "docker.io/library/debian:trixie-slim")


def process_of(engine: Engine, container: str) -> int:
    """Process 1 of a container, as the host numbers it."""
    return int(engine("docker", "inspect", "--format", "{{.State.Pid}}", container))


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
