"""`make demo`: generate the default service, start all of it and say where it answers.

`kill -9` of this program leaves its folder behind, and off Linux the servers as well.
Next hop: `development/serve.py` of the generated service.
"""

import http.client
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from demo.machine import DemoError, check_machine, has_nginx
from demo.process import UV_RUN, run, running

REPOSITORY = Path(__file__).resolve().parents[1]
EMAIL = "demo@example.com"
READY_WITHIN_SECONDS = 90


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


def serve(project: Path, with_nginx: bool, port: int, password: str) -> None:
    options = ["--stop-database"]
    if not with_nginx:
        print("There is no nginx on this machine: gunicorn answers directly.", flush=True)
        options.append("--without-nginx")
    with running([*UV_RUN, "python", "-m", "development.serve", *options], project) as process:
        wait_until_ready(process, port)
        url = f"http://localhost:{port}"
        print(f"\n    {url}/docs     the API: Authorize with the login below, then try a route")
        print(f"    {url}/admin    users, sessions, items: the same login, an administrator's")
        print(f"\n    {EMAIL}\n    {password}\n", flush=True)
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
