"""What the demo needs of this machine, looked at before anything is fetched."""

import os
import shutil
import socket
from pathlib import Path

# Measured: packages 226 MB, database 46 MB; the rest is for what people do with the demo.
FREE_MEGABYTES_MIN = 500
PORTS = {"APP_PORT": 8000, "HTTP_PORT": 8080}


class DemoError(Exception):
    """One sentence that says what is wrong and what would be right."""


def has_nginx() -> bool:
    # Debian keeps it in sbin, which is not on a user's PATH.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/opt/homebrew/bin"])
    return shutil.which("nginx", path=path) is not None


def check_machine(folder: Path, with_nginx: bool) -> int:
    """The port people will open; refused now rather than after a minute of downloads."""
    if not os.access(folder, os.W_OK):
        raise DemoError(f"{folder} cannot be written: give another DEST.")
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < FREE_MEGABYTES_MIN:
        needed = f"{free} MB free and the demo needs {FREE_MEGABYTES_MIN} MB"
        raise DemoError(f"{folder} has {needed}: make room or give another DEST.")
    ports = {name: check_port(name, default) for name, default in PORTS.items()}
    return ports["HTTP_PORT" if with_nginx else "APP_PORT"]


def check_port(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except (OSError, OverflowError, ValueError) as error:
            raise DemoError(
                f"Port {text} cannot be used: stop what listens there, or choose a free one "
                f"with `{name}={default + 1} make demo`."
            ) from error
    return int(text)
