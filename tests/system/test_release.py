"""compose's release.sh on a current nginx; what it asks docker for happens to small servers."""

import asyncio
import json
import socket
import socketserver
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from development.ports import free_port
from tests.conftest import REPOSITORY, SERVICE, own_environment
from tests.system.edge import Nginx, lay_out
from tests.system.load import Outcome, Plan, Target, run_load_until
from tests.system.names import Names, name_server

SCRIPT = REPOSITORY / SERVICE / "deploy/compose/release.sh"
RELEASED_WITHIN_SECONDS = 60
# Longer than nginx believes a name.
BOOT_SECONDS = 3
LOAD = Plan(seconds=2, per_second=50)
RELEASED = "/tmp/released"  # noqa: S108 (in the container)
OLD, NEW = "127.0.10.1", "127.0.10.2"
# Each call of docker is handed to the test, which answers when it has happened.
DOCKER = """#!/usr/bin/env python3
import socket, sys
with socket.socket(socket.AF_UNIX) as test:
    test.connect({door!r})
    test.sendall("\\0".join(sys.argv[1:]).encode())
    test.shutdown(socket.SHUT_WR)
    code, _, said = test.makefile().read().partition(" ")
sys.stdout.write(said)
sys.exit(int(code))
"""


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@dataclass
class Containers:
    """Docker in small: one container of the service, or two."""

    folder: Path
    names: Names
    nginx: int = 0
    port: int = field(default_factory=free_port)
    running: dict[str, ThreadingHTTPServer] = field(default_factory=dict)
    left: ExitStack = field(default_factory=ExitStack)

    def __call__(self, *command: str) -> tuple[int, str]:
        match command:
            case ("compose", "ps", *_):
                return 0, "".join(f"{address}\n" for address in self.running)
            case ("compose", "up", *_, "service") if "--scale" in command:
                self.boot(NEW)
            case ("stop", *_, address):
                self.stop(address)
            case ("compose", "exec", "-T", "nginx", *inside):
                return self.run_in_nginx(*inside), ""
        return 0, ""

    def start(self, address: str) -> None:
        self.running[address] = server = ThreadingHTTPServer((address, self.port), Answer)
        Thread(target=server.serve_forever, daemon=True).start()
        self.names.addresses = list(self.running)

    def boot(self, address: str) -> None:
        """It has a name from the beginning."""
        with silent(address, self.port):
            self.names.addresses.append(address)
            time.sleep(BOOT_SECONDS)
        self.start(address)

    def stop(self, address: str) -> None:
        """Its name is gone at once, and so is its address: packets to it are lost."""
        server = self.running.pop(address)
        server.shutdown()
        server.server_close()
        self.left.enter_context(silent(address, self.port))
        self.names.addresses = list(self.running)

    def run_in_nginx(self, *command: str) -> int:
        words = [word.replace(RELEASED, f"{self.folder}/writable/released") for word in command]
        tools = {"nginx": f'[ "$1" = -t ] || kill -HUP {self.nginx}', "getent": 'echo "$2 name"'}
        functions = "".join(f"{name}() {{ {body}; }}\n" for name, body in tools.items())
        words[2] = functions + words[2].replace(":8000", f":{self.port}")
        return subprocess.run(words, check=False).returncode


@contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """A full queue of connections: whoever comes is neither answered nor refused."""
    with ExitStack() as stack, socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield


@pytest.fixture
def containers(
    nginx_of: Callable[[str], Nginx], tmp_path: Path
) -> Iterator[tuple[Containers, Target]]:
    with name_server() as names:
        containers, port = Containers(tmp_path / "nginx", names), free_port()
        changes = {
            ":8000": f":{containers.port}",
            "listen 8081": f"listen 127.0.0.1:{free_port()}",
            "listen 80": f"listen 127.0.0.1:{port}",
            "resolver 127.0.0.11": f"resolver 127.0.0.11:{names.port}",
            RELEASED: f"{containers.folder}/writable/released",
            # All clients are one here.
            "rate=50r/s": "rate=10000r/s",
        }
        containers.start(OLD)
        folder = lay_out("compose", containers.folder, changes)
        with nginx_of("forky").running(folder, port) as containers.nginx:
            yield containers, Target(port, token="any")
        containers.left.close()
        for server in containers.running.values():
            server.shutdown()
            server.server_close()


@pytest.fixture
def release(containers: tuple[Containers, Target], tmp_path: Path) -> Iterator[Callable[[], int]]:
    door, program = str(tmp_path / "door"), tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(DOCKER.format(door=door))
    program.chmod(0o755)

    class Call(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            code, said = containers[0](*self.rfile.read().decode().split("\0"))
            self.wfile.write(f"{code} {said}".encode())

    environment = own_environment()
    environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    with socketserver.UnixStreamServer(door, Call) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield lambda: subprocess.run([SCRIPT], env=environment, check=False).returncode
        server.shutdown()


def test_release_asks_nobody_who_does_not_serve(
    containers: tuple[Containers, Target], release: Callable[[], int]
) -> None:
    shop, target = containers
    outcome, code = asyncio.run(release_under_load(target, release))
    assert (code, outcome.failures) == (0, {})
    assert list(shop.running) == [NEW]
    log = (shop.folder / "writable/access.log").read_text().splitlines()
    asked = {json.loads(line)["upstream"] for line in log}
    # "a, b" is a request that was tried twice.
    assert asked == {f"{address}:{shop.port}" for address in (OLD, NEW)}
    assert not (shop.folder / "writable/released.conf").exists()


async def release_under_load(target: Target, release: Callable[[], int]) -> tuple[Outcome, int]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.to_thread(release))
        outcome = await run_load_until(target, LOAD, task.done, RELEASED_WITHIN_SECONDS)
    return outcome, task.result()
