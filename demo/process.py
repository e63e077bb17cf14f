"""Programs that end with the demo, whatever ends it."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from demo.machine import DemoError

# The service takes 40 s at most, then the database stops.
STOP_WITHIN_SECONDS = 60
# What make and uv hand down would send the service to the environment of this repository.
INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV")
# `uv run`, which started us, says where it lies.
UV = Path(os.environ.get("UV", "uv"))
UV_RUN = [str(UV), "run", "--quiet", "--no-sync"]
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def run(
    done: str, command: list[str], folder: Path, entered: str = "", quiet: bool = False, **more: str
) -> None:
    with running(command, folder, quiet, **more) as process:
        process.communicate(f"{entered}\n")
    if process.returncode != 0:
        raise DemoError(f"The service could not be {done}; the lines above say why.")


@contextmanager
def running(
    command: list[str], folder: Path, quiet: bool = False, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """When something goes wrong in the block, the process and its children end before it does."""
    own = {key: value for key, value in os.environ.items() if key not in INHERITED}
    # Found there, it is not fetched once more for the service.
    own["PATH"] = f"{UV.parent}{os.pathsep}{own['PATH']}"
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=own | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if quiet else None,
        text=True,
        # A group of its own: Ctrl-C reaches us alone, and we stop things in order.
        process_group=0,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 (this program has one thread)
    )
    try:
        yield process
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        raise


def die_with_parent() -> Callable[[], object] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
