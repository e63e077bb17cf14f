"""Root file systems of Debian releases as tar files: images for engines that reach no registry."""

import fcntl
import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.system import debian

# Kept between runs: each takes about 40 s to make.
CACHE = REPOSITORY / ".cache/archives"
SCRIPTS = Path("/usr/share/debootstrap/scripts")
# Of no use in a container, and half of the size.
LEFT_OUT = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
)


def archive(require: Callable[[str], str], suite: str, packages: Sequence[str]) -> Path:
    """The release with these packages, made once."""
    key = hashlib.sha256(",".join(sorted(packages)).encode()).hexdigest()[:12]
    file = CACHE / f"{suite}-{key}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    # Tests side by side wait for each other.
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                made = _make(require("debootstrap"), suite, packages, Path(folder))
                made.replace(file)
    return file


def _make(debootstrap: str, suite: str, packages: Sequence[str], folder: Path) -> Path:
    # An older debootstrap does not know the newest releases, which are made as all others are.
    script = SCRIPTS / suite if (SCRIPTS / suite).exists() else SCRIPTS / "sid"
    include = f"--include={','.join(packages)}"
    root = folder / "root"
    # A mount namespace of its own: what it mounts ends with it, however it ends.
    own = ("unshare", "--mount", debootstrap)
    _run(*own, "--variant=minbase", include, suite, str(root), debian.archive(), str(script))
    made = folder / "root.tar"
    exclude = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    _run("tar", "--directory", str(root), "--create", *exclude, "--file", str(made), ".")
    return made


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
