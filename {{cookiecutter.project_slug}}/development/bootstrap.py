"""Prints the path of a usable uv and nothing else; fetches one when there is none.

Standard library only: both Makefiles run it before anything is installed.
"""

from __future__ import annotations  # an older Python must get as far as the sentence about it

import argparse
import hashlib
import html
import http.client
import importlib.util
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import NoReturn
from urllib.parse import urljoin, urlsplit

# The oldest that was seen to install from this pyproject.toml and uv.lock.
OLDEST_UV = (0, 8)
UV_VERSION = "0.13.8"

# Run from its wheel where Python came without pip, as on Debian.
PIP_VERSION = "26.3"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"

ON_WINDOWS = os.name == "nt"
UV_FILE = "uv.exe" if ON_WINDOWS else "uv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=Path(__file__).resolve().parent.parent)
    folder = parser.parse_args().into.resolve() / ".uv"
    # Otherwise the end of make would leave a half of a download behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(find(folder) or fetch(folder))
    except OSError as error:
        sys.exit(f"uv cannot be put into {folder}: {error.strerror or error}.")
    except KeyboardInterrupt:
        sys.exit(130)


def find(folder: Path) -> str | None:
    candidates = (shutil.which("uv"), folder / "bin" / UV_FILE)
    return next((os.path.abspath(uv) for uv in candidates if uv and is_usable(uv)), None)


def is_usable(uv: str | Path) -> bool:
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, check=True, text=True)
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.match(r"uv (\d+)\.(\d+)", answer.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST_UV


def fetch(folder: Path) -> str:
    if sys.version_info < (3, 11):  # noqa: UP036 - who reads this has not installed anything yet
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}.")
    print(f"Fetching uv {UV_VERSION} into {folder}", file=sys.stderr)
    target = folder / "bin" / UV_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as name:
        uv = _unpack(_download_uv(Path(name)))
        if not is_usable(uv):
            sys.exit(f"uv {UV_VERSION} does not run on this machine: install another release.")
        # One step, so that two makes at once both find a whole file.
        os.replace(uv, target)
    return str(target)


def _unpack(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        uv = Path(archive.extract(f"uv-{UV_VERSION}.data/scripts/{UV_FILE}", wheel.parent))
    uv.chmod(0o755)
    return uv


def _download_uv(folder: Path) -> Path:
    # pip knows the user's mirror and proxy, and which wheel suits the machine. It only downloads:
    # an installation would change, or be refused by, whatever Python this is.
    options = ["--no-deps", "--only-binary=:all:", f"--dest={folder}", f"uv=={UV_VERSION}"]
    done = subprocess.run(
        [*_pip(folder), "download", *options],
        capture_output=True,
        check=False,
        env={"PIP_RETRIES": "2", **os.environ, "PIP_REQUIRE_VIRTUALENV": "0"},
        text=True,
    )
    if done.returncode != 0:
        _give_up(_reason(done.stderr))
    return next(folder.glob("uv-*.whl"))


def _pip(folder: Path) -> list[str | Path]:
    if has_pip():
        return [sys.executable, "-m", "pip"]
    return [sys.executable, download_pip(folder) / "pip"]


def has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def download_pip(folder: Path) -> Path:
    name = f"pip-{PIP_VERSION}-py3-none-any.whl"
    index = os.environ.get("PIP_INDEX_URL") or os.environ.get("UV_DEFAULT_INDEX")
    page = (index or "https://pypi.org/simple").rstrip("/") + "/pip/"
    link = re.search(f"href=[\"']([^\"'#]*{re.escape(name)}[^\"'#]*)", _read(page).decode())
    if not link:
        _give_up(f"{urlsplit(page).hostname} has no {name}")
    content = _read(urljoin(page, html.unescape(link[1])))
    if hashlib.sha256(content).hexdigest() != PIP_SHA256:
        _give_up(f"{name} of {urlsplit(page).hostname} has a wrong checksum")
    wheel = folder / name
    wheel.write_bytes(content)
    return wheel


def _read(url: str) -> bytes:
    # A bare Debian has no certificates to check with; the checksum above is what protects.
    unverified = ssl._create_unverified_context()  # noqa: S323
    request = urllib.request.Request(url, headers={"Accept": "text/html"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30, context=unverified) as response:  # noqa: S310
            return bytes(response.read())
    except (OSError, http.client.HTTPException) as error:
        _give_up(f"{urlsplit(url).hostname} cannot be reached, {type(error).__name__}")


def _reason(output: str) -> str:
    if "No space left" in output:
        return "no space left on the device"
    if "versions: none" in output:
        return "no package index answers with a uv for this machine"
    errors = re.findall(r"ERROR: (.+)", output)
    return errors[-1].rstrip(".") if errors else "pip failed"


def _give_up(reason: str) -> NoReturn:
    sys.exit(
        f"uv {UV_VERSION} cannot be fetched ({reason}): check the network and PIP_INDEX_URL, "
        "or install uv yourself (https://docs.astral.sh/uv/)."
    )


if __name__ == "__main__":
    main()
