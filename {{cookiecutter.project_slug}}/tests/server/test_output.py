"""Standard output that is full, closed or stuck: no request fails and nobody waits."""

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.output import WAITING_BYTES_MAX, LogStream
from tests.server.conftest import ENVIRONMENT
from tests.servers import SERVICE, start_gunicorn

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def write(stream: LogStream, lines: int) -> None:
    for _ in range(lines):
        stream.write(LINE)
        stream.flush()


def read_all(reader: int) -> str:
    os.set_blocking(reader, False)
    text = ""
    while (data := _read(reader)) is not None:
        text += data
    return text


def _read(reader: int) -> str | None:
    try:
        return os.read(reader, 65_536).decode()
    except BlockingIOError:
        return None


def test_lines_wait_and_the_lost_are_counted_when_the_reader_is_stuck(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    stream = LogStream(pipe[1])
    write(stream, 20_000)
    received = ""
    while "lost" not in caplog.text:
        received += read_all(pipe[0])
        stream.flush()
    received += read_all(pipe[0])
    [record] = caplog.records
    lines = received.splitlines(keepends=True)
    assert set(lines) == {LINE}
    assert record.args == (20_000 - len(lines),)
    assert len(received) > WAITING_BYTES_MAX


def test_nobody_else_is_made_non_blocking(pipe: tuple[int, int]) -> None:
    write(LogStream(pipe[1]), 1)
    assert os.get_blocking(pipe[1])


def test_line_is_dropped_when_the_disk_is_full() -> None:
    with open("/dev/full", "wb") as full:
        write(LogStream(full.fileno()), 1)


def test_line_is_dropped_when_the_reader_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    write(LogStream(writer), 1)
    os.close(writer)


def test_nobody_waits_when_a_socket_is_not_read() -> None:
    ours, journal = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, journal:
        write(LogStream(ours.fileno()), 1000)
        assert journal.recv(100) == LINE.encode()


def test_child_does_not_repeat_what_its_parent_has_to_write(pipe: tuple[int, int]) -> None:
    stream = LogStream(pipe[1])
    stream.write(LINE)
    child = os.fork()
    if child == 0:
        stream.flush()
        os._exit(0)
    os.waitpid(child, 0)
    stream.flush()
    assert read_all(pipe[0]) == LINE


@pytest.mark.system
@pytest.mark.parametrize("place", ["/dev/full", "pipe"])
def test_service_answers_and_stops_when_its_output_cannot_be_written(
    tmp_path: Path, pipe: tuple[int, int], place: str
) -> None:
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    output = pipe[1] if place == "pipe" else os.open("/dev/full", os.O_WRONLY)
    environment = ENVIRONMENT | {"UVICORN_ACCESS_LOG": "true"}
    arguments = (*SERVICE, "tests.server.bare_app:app")
    with start_gunicorn(tmp_path, environment, *arguments, stdout=output) as gunicorn:
        gunicorn.wait_until_ready()
        assert {gunicorn.get("/").status_code for _ in range(100)} == {200}
        assert gunicorn.stop() == 0
