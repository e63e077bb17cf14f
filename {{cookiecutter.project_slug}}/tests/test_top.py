"""`manage top` on a real service: on a terminal, in a pipe, once, and where there is none."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer

import pytest
from click.testing import CliRunner

from manage.cli import main
from tests.server.test_metrics import Serve, Service, load, serve
from tests.servers import ROOT

__all__ = ["serve"]

TOP = [sys.executable, "-c", "from manage.cli import main; main()", "top", "--seconds", "0.5"]


@pytest.fixture
def service(serve: Serve) -> Service:
    return serve()


def port_of(service: Service) -> dict[str, str]:
    return {"METRICS_PORT": str(service.port)}


@contextmanager
def watching(
    service: Service, stdin: int | None = None, stdout: int | None = None, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """It is killed after a minute, so that no reader waits for ever."""
    environment = os.environ | port_of(service) | variables
    with subprocess.Popen(TOP, cwd=ROOT, env=environment, stdin=stdin, stdout=stdout) as process:
        limit = Timer(60, process.kill)
        limit.start()
        yield process
        limit.cancel()


@pytest.mark.system
def test_top_says_once_how_busy_the_service_is(service: Service) -> None:
    with load(service):
        said = CliRunner().invoke(
            main, ["top", "--once"], env=port_of(service), catch_exceptions=False
        )
    rows = dict(re.findall(r"^(\S.*?) {2,}(.*)$", said.output, re.MULTILINE))
    assert rows["workers"] == "2 of 2"
    assert float(rows["requests"].removesuffix("/s")) > 10
    assert float(rows["/version"].split("/s")[0]) > 10
    assert re.fullmatch(r"<\d+ ms", rows["latency p99"])
    assert rows["failed (5xx)"] == "0.0/s"
    pids = re.findall(r"^worker +(\d+) +\d+ MiB +\d+ % +\d s$", said.output, re.MULTILINE)
    assert sorted(map(int, pids)) == sorted(service.processes("worker"))


@pytest.mark.system
def test_top_writes_plain_text_again_and_again_when_it_is_no_terminal(service: Service) -> None:
    with watching(service, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = b""
        while text.count(b"workers ") < 2:
            line = process.stdout.readline()
            assert line
            text += line
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    assert b"\x1b" not in text


@pytest.mark.system
def test_top_fills_a_terminal_until_it_is_interrupted(service: Service) -> None:
    ours, theirs = pty.openpty()
    terminal = {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with watching(service, stdin=theirs, stdout=theirs, **terminal) as process:
        os.close(theirs)
        screens = b""
        while screens.count(b"2 of 2") < 2:
            screens += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other side is closed
            while os.read(ours, 65_536):
                pass
    assert process.returncode == 0
    assert b"\x1b[?1049h" in screens, "the screen of its own, so that the shell's comes back"


@pytest.mark.parametrize(
    ("port", "sentence"),
    # Nobody listens on 1; a random port would be another one in each process of the tests.
    [("0", "METRICS_PORT is 0"), ("1", "is the service running")],
)
def test_top_says_why_when_there_are_no_metrics(port: str, sentence: str) -> None:
    said = CliRunner().invoke(main, ["top", "--once"], env={"METRICS_PORT": port})
    assert said.exit_code == 1
    assert said.output.startswith("Error: ")
    assert sentence in said.output
