"""nginx as each deployment lays deploy/nginx out, in a folder of the test's own."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY, SERVICE
from tests.servers import listens, running

DEPLOY = REPOSITORY / SERVICE / "deploy"
# What lies over what.
LAYOUTS = {
    "compose": [
        ("compose/nginx-site", "site"),
        ("nginx/site", "etc/nginx-site"),
        ("nginx/site", "etc/nginx-listen"),
    ],
    "kubernetes": [("kubernetes/base/nginx-site", "site")],
    "systemd": [("systemd/nginx-site", "site")],
}
# A name that only exists among containers, and what nginx has had since this version.
NEW_SINCE = (1, 27, 4)
WITHOUT_NEW = {
    "server service:8000 resolve": "server 127.0.0.1:8000",
    "keepalive_min_timeout 2s;": "",
}


@dataclass(frozen=True)
class Nginx:
    command: tuple[str, ...]

    def version(self) -> tuple[int, ...]:
        said = subprocess.run([*self.command, "-v"], capture_output=True, text=True, check=True)
        return tuple(int(part) for part in re.findall(r"\d+", said.stderr.split("/")[1])[:3])

    def check(self, folder: Path) -> str:
        """What it complains about, warnings as well."""
        command = [*self._in(folder), "-t", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stderr if done.returncode == 0 else done.stderr or "no reason given"

    @contextmanager
    def running(self, folder: Path, port: int) -> Iterator[int]:
        """Its process id."""
        # Root's workers would become `nobody`, who may not enter the folders of pytest.
        more = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        command = [*self._in(folder), "-g", more]
        with running(command, folder / "log", lambda: listens(port)) as process:
            yield process.pid

    def _in(self, folder: Path) -> list[str]:
        where = ["-p", str(folder), "-c", str(folder / "nginx.conf")]
        return [*self.command, "-e", "stderr", *where]


def lay_out(deployment: str, folder: Path, changes: dict[str, str] | None = None) -> Path:
    """The shipped files; only places, names and what `changes` says are this machine's."""
    shutil.copytree(DEPLOY / "nginx", folder)
    for source, target in LAYOUTS[deployment]:
        shutil.copytree(DEPLOY / source, folder / target, dirs_exist_ok=True)
    writable = folder / "writable"
    writable.mkdir()
    ours = {
        "/etc/nginx-": f"{folder}/etc/nginx-",
        "_path /tmp": f"_path {writable}",
        "pid /tmp": f"pid {writable}",
        "/run/NAME-nginx": str(writable),
        "/var/cache/NAME-nginx": str(writable),
        "pid /run": f"pid {writable}",
        "/var/log/nginx": str(writable),
        "user www-data;\n": "",
        "/dev/stdout": f"{writable}/access.log",
        "{{ cookiecutter.domain_name }}": "localhost",
    }
    for file in folder.rglob("*.conf"):
        text = file.read_text()
        for shipped, replacement in {**ours, **(changes or {})}.items():
            text = text.replace(shipped, replacement)
        file.write_text(re.sub(r"\bNAME\b", "shop", text))
    return folder
