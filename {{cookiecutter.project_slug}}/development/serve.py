"""`make serve`: gunicorn behind nginx, and the jobs: started, watched and stopped together."""

import argparse
import http.client
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from development import DevelopmentError, nginx, ports, postgres, supervisor
from development.supervisor import Child, Inbox
from server.settings import ServerSettings

ROOT = Path(__file__).resolve().parent.parent
NGINX_FOLDER = ROOT / ".local" / "nginx"

# A cold start imports the app once per worker; on a busy laptop that takes 10 s.
READY_WITHIN_SECONDS = 60
# As long as a container has: gunicorn's graceful_timeout (30 s) and some.
STOP_WITHIN_SECONDS = 40


class LauncherSettings(ServerSettings):
    """With the port of nginx, and without the database address that the launcher writes itself."""

    model_config = SettingsConfigDict(env_file=".env")

    http_port: int = Field(default=8080, ge=1, le=65535)
    database_url: str | None = None


@dataclass(frozen=True)
class Options:
    app_port: int
    http_port: int
    with_nginx: bool
    owns_database: bool
    stop_database: bool

    @property
    def public_port(self) -> int:
        return self.http_port if self.with_nginx else self.app_port


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return serve(_read_options(arguments))
    except KeyboardInterrupt:
        return 130
    except DevelopmentError as error:
        print(error, file=sys.stderr)
        return 1


def _read_options(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m development.serve", description=__doc__)
    parser.add_argument("--without-nginx", action="store_true", help="serve on APP_PORT alone")
    parser.add_argument("--stop-database", action="store_true", help="stop it when leaving")
    parsed = parser.parse_args(arguments)
    settings = LauncherSettings.load()
    return Options(
        app_port=settings.app_port,
        http_port=settings.http_port,
        with_nginx=not parsed.without_nginx,
        owns_database=settings.database_url is None,
        stop_database=parsed.stop_database,
    )


def serve(options: Options) -> int:
    _check_ports(options)
    binary = nginx.find_binary() if options.with_nginx else None
    if options.owns_database:
        postgres.start()
    try:
        if binary:
            shutil.rmtree(NGINX_FOLDER, ignore_errors=True)
            _prepare_nginx(binary, options)
        _run(options, binary)
    finally:
        if options.owns_database and options.stop_database:
            postgres.stop()
    return 0


def _check_ports(options: Options) -> None:
    ports.check_free("APP_PORT", options.app_port, ["127.0.0.1"])
    if not options.with_nginx:
        return
    if options.http_port == options.app_port:
        raise DevelopmentError(
            f"HTTP_PORT and APP_PORT are both {options.app_port}: change one of them."
        )
    ports.check_free("HTTP_PORT", options.http_port, ports.loopback_hosts())


def _prepare_nginx(binary: str, options: Options) -> None:
    nginx.prepare(NGINX_FOLDER, options.http_port, options.app_port)
    nginx.check(binary, NGINX_FOLDER)


def _run(options: Options, binary: str | None) -> None:
    has_terminal = supervisor.has_terminal()
    children: list[Child] = []
    with supervisor.signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as inbox:
        try:
            environment = {**os.environ, "APP_PORT": str(options.app_port)}
            start(children, environment, nginx.command(binary, NGINX_FOLDER) if binary else ())
            children.append(start_jobs(environment))
            if not _wait_until_ready(options, children, inbox):
                return
            _print_addresses(options)
            while _asks_to_go_on(_watch(children, inbox), has_terminal):
                _reload(options, binary, children)
        finally:
            supervisor.stop(children, inbox, STOP_WITHIN_SECONDS)


def start(
    children: list[Child],
    environment: Mapping[str, str],
    nginx_command: Sequence[str],
    *app: str,
    output: IO[bytes] | None = None,
) -> None:
    """gunicorn, and nginx in front of it; `app` is another one than that of gunicorn.conf.py."""
    commands = [("gunicorn", [sys.executable, "-m", "gunicorn", *app], signal.SIGTERM)]
    if nginx_command:
        commands.append(("nginx", [*nginx_command], signal.SIGQUIT))
    for name, command, stop_signal in commands:
        children.append(
            supervisor.start(
                name, command, stop_signal, folder=ROOT, environment=environment, output=output
            )
        )


def start_jobs(environment: Mapping[str, str], *watcher: str) -> Child:
    """The process that runs them; a watcher starts it anew when a file changes."""
    command = [str(Path(sys.executable).with_name("manage")), "work"]
    if watcher:
        command = [sys.executable, "-m", *watcher, shlex.join(command), "app"]
    return supervisor.start("jobs", command, signal.SIGINT, folder=ROOT, environment=environment)


def _wait_until_ready(options: Options, children: Sequence[Child], inbox: Inbox) -> bool:
    try:
        return wait_until_ready(options.public_port, children, inbox)
    except DevelopmentError:
        for line in nginx.last_log_lines(NGINX_FOLDER) if options.with_nginx else []:
            print(line, file=sys.stderr)
        raise


def wait_until_ready(port: int, children: Sequence[Child], inbox: Inbox) -> bool:
    """False when somebody stopped us meanwhile."""
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    answer = "nothing"
    while time.monotonic() < deadline:
        supervisor.raise_if_dead(children)
        try:
            status, body = call(port, "GET", "/readyz")
            answer = f"{status} {body[:1000].decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            status, answer = 0, f"nothing ({error})"
        if status == http.HTTPStatus.OK:
            return True
        if supervisor.next_signal(inbox, 0.1):
            return False
    raise DevelopmentError(
        f"The service was not ready within {READY_WITHIN_SECONDS} s: /readyz answered {answer}."
    )


def call(
    port: int,
    method: str,
    path: str,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """The status and the body of an answer on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _print_addresses(options: Options) -> None:
    print(f"\nhttp://localhost:{options.public_port}/docs", flush=True)
    if options.with_nginx:
        logs = (NGINX_FOLDER / "logs").relative_to(ROOT)
        print(f"gunicorn: 127.0.0.1:{options.app_port}, logs of nginx: {logs}/", flush=True)
    print("Ctrl-C stops, SIGHUP reloads.", flush=True)


def _watch(children: Sequence[Child], inbox: Inbox) -> signal.Signals:
    while True:
        supervisor.raise_if_dead(children)
        if received := supervisor.next_signal(inbox, 0.2):
            return received


def _asks_to_go_on(received: signal.Signals, had_terminal: bool) -> bool:
    # A terminal that is closed sends SIGHUP as well; nobody is there then to press Ctrl-C.
    return received == signal.SIGHUP and supervisor.has_terminal() == had_terminal


def _reload(options: Options, binary: str | None, children: Sequence[Child]) -> None:
    try:
        if binary:
            _prepare_nginx(binary, options)
    except DevelopmentError as error:
        print(f"Nothing was reloaded. {error}", file=sys.stderr)
        return
    for child in children:
        child.send(signal.SIGHUP)


if __name__ == "__main__":
    sys.exit(main())
