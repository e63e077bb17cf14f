"""Programs of another Debian release, run on this machine with the libraries they come with."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import SEARCHED

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CONFIGURATION = """
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
// What is signed is enough: a mirror that is behind by some weeks will do.
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "";
// Its lock lies beside the status file, so in /dev, for all tests at once; nothing is installed.
Debug::NoLocking "true";
"""


def unpack(suite: str, package: str, folder: Path) -> Path:
    """A package and all it depends on, with apt's checks of signatures; installs nothing."""
    for name in ("lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    source = f"deb [signed-by={KEYRING}] {archive()} {suite} main\n"
    (folder / "sources.list").write_text(source)
    (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder))
    _apt(folder, "update")
    _apt(folder, "install", "--download-only", "--no-install-recommends", "--yes", package)
    for file in (folder / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", file, folder / "root"], check=True)
    return folder / "root"


@cache
def archive() -> str:
    """Where this machine gets Debian from: apt's own address, on Ubuntu that of debootstrap."""
    listing = ("indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    listed = subprocess.run(
        ["apt-get", *listing], capture_output=True, text=True, check=True
    ).stdout
    addresses: list[str] = re.findall(r"^Debian (\S+)$", listed, re.MULTILINE)
    if not addresses:
        script = Path(shutil.which("debootstrap", path=SEARCHED) or pytest.skip("no debootstrap"))
        addresses = re.findall(r'^DEF_MIRROR="(.+)"$', script.read_text(), re.MULTILINE)
    return addresses[0]


def program(root: Path, name: str) -> tuple[str, ...]:
    """How to start it: by its own loader, which then looks for libraries beside it."""
    [loader] = (root / "usr").glob("lib*/ld-linux-*.so.*")
    [libraries] = (root / "usr/lib").glob("*-linux-gnu")
    return str(loader), "--library-path", str(libraries), str(root / name)


def _apt(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "--quiet", *arguments],
        env=os.environ | {"APT_CONFIG": str(folder / "apt.conf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
