"""`make demo`: generate the default service, start all of it and say where it answers.

`kill -9` of this program leaves its folder behind, and off Linux the servers as well.
Next hop: `development/serve.py` of the generated service.
"""

import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent
EMAIL = "demo@example.com"
# Measured: packages 226 MB, database 46 MB; the rest is for what people do with the demo.
FREE_MEGABYTES_MIN = 500
READY_WITHIN_SECONDS = 90
# The service takes 40 s at most, then the database stops.
STOP_WITHIN_SECONDS = 60
PORTS = {"APP_PORT": 8000, "HTTP_PORT": 8080}
# What make and uv hand down would send the service to the environment of this repository.
INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV")
# `uv run`, which started us, says where it lies.
UV = Path(os.environ.get("UV", "uv"))
UV_RUN = [str(UV), "run", "--quiet", "--no-sync"]
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class DemoError(Exception):
    """One sentence that says what is wrong and what would be right."""


def main() -> int:
    # Also where a shell started us in the background and switched Ctrl-C off.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    destination = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        with open_folder(destination) as folder:
            demonstrate(folder)
    except KeyboardInterrupt:
        kept = f" The service stays in {destination}." if destination else ""
        print(f"\nEverything has stopped.{kept}")
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def open_folder(destination: str) -> Iterator[Path]:
    try:
        if destination:
            Path(destination).mkdir(parents=True, exist_ok=True)
            yield Path(destination).resolve()
        else:
            with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
                # Root's database runs as another user, who has to get there.
                Path(folder).chmod(0o711)
                yield Path(folder).resolve()
    except OSError as error:
        where = error.filename or destination or tempfile.gettempdir()
        raise DemoError(f"{where} cannot be used ({error.strerror}): give another DEST.") from error


def demonstrate(folder: Path) -> None:
    with_nginx = has_nginx()
    port = check_machine(folder, with_nginx)
    project = folder / "my-service"
    if project.exists():
        raise DemoError(f"{project} exists already: run `make serve` in it or give another DEST.")
    try:
        generate(folder)
        password = set_up(project)
        serve(project, with_nginx, port, password)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if (project / ".local").exists():
            run("stopped", [*UV_RUN, "manage", "database", "stop"], project, quiet=True)


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


def generate(folder: Path) -> None:
    print(f"Generating a service in {folder}", flush=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as scratch:
        # Cookiecutter's own files stay out of the home of whoever tries this.
        config = Path(scratch, "cookiecutter.json")
        config.write_text(json.dumps({"replay_dir": scratch}), encoding="utf-8")
        command = [sys.executable, "-m", "cookiecutter", "--no-input", f"--config-file={config}"]
        command += [f"--output-dir={folder}", str(REPOSITORY)]
        run("generated", command, folder, quiet=True, TMPDIR=scratch)


def set_up(project: Path) -> str:
    print("Fetching its packages, starting its database", flush=True)
    run("set up", ["make", "--no-print-directory", "migrate"], project)
    password = secrets.token_urlsafe(12)
    admin = ["manage", "create-admin", "--email", EMAIL, "--password-stdin"]
    run("given a login", [*UV_RUN, *admin], project, entered=password, quiet=True)
    return password


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


def serve(project: Path, with_nginx: bool, port: int, password: str) -> None:
    options = ["--stop-database"]
    if not with_nginx:
        print("There is no nginx on this machine: gunicorn answers directly.", flush=True)
        options.append("--without-nginx")
    with running([*UV_RUN, "python", "-m", "development.serve", *options], project) as process:
        wait_until_ready(process, port)
        print(f"\n    http://localhost:{port}/docs\n    {EMAIL}\n    {password}\n", flush=True)
        process.wait()
    if process.returncode != 0:
        raise DemoError("The service ended; the lines above say why.")


def wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("localhost", port, timeout=2)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.1)
    raise DemoError("The service did not get ready; the lines above say why.")


if __name__ == "__main__":
    sys.exit(main())
