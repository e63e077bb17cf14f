"""Programs of another Debian release, run on this machine with the libraries they come with."""

import os
import subprocess
from pathlib import Path

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
"""


def unpack(suite: str, package: str, folder: Path) -> Path:
    """A package and all it depends on, with apt's checks of signatures; installs nothing."""
    for name in ("lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    source = f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main\n"
    (folder / "sources.list").write_text(source)
    (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder))
    _apt(folder, "update")
    _apt(folder, "install", "--download-only", "--no-install-recommends", "--yes", package)
    for archive in (folder / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", archive, folder / "root"], check=True)
    return folder / "root"


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
