"""Load over HTTP/1.1 on loopback; latencies count from when a request was due, not when it left.

A generator that waits for a slow answer before it sends the next request leaves out the requests
that would have met the stall (coordinated omission). With a rate, requests here are due at fixed
times, and one that had to wait for a free connection was waiting already.
"""

import asyncio
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
# Longer than any answer may take: what is open then counts as a failure.
_ANSWER_WITHIN_SECONDS = 40


@dataclass(frozen=True)
class Load:
    port: int
    # As it goes over the wire; its answer has a Content-Length.
    request: bytes
    connections: int
    seconds: float
    # Requests per second, for all connections together; None: each as fast as it is answered.
    rate: float | None = None
    # Another one is a failure.
    status: bytes = b"200"
    tls: ssl.SSLContext | None = None


@dataclass
class Outcome:
    latencies_ms: list[float] = field(default_factory=list)
    # By status or by what happened to the connection.
    failures: Counter[str] = field(default_factory=Counter)
    # How late this process was with requests that had a connection.
    lateness_ms: list[float] = field(default_factory=list)
    seconds: float = 0

    @property
    def requests_per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


async def run(load: Load) -> Outcome:
    outcome = Outcome()
    began = time.perf_counter()
    due = _due_times(load, began)
    await asyncio.gather(*(_work(load, due, outcome) for _ in range(load.connections)))
    outcome.seconds = time.perf_counter() - began
    return outcome


def _due_times(load: Load, began: float) -> Iterator[float]:
    if load.rate is not None:
        for number in range(int(load.rate * load.seconds)):
            yield began + number / load.rate
        return
    while (now := time.perf_counter()) < began + load.seconds:
        yield now


async def _work(load: Load, due_times: Iterator[float], outcome: Outcome) -> None:
    connection = _Connection()
    # Shared by all: the next request goes over the next connection that is free.
    for due in due_times:
        early = due - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
            outcome.lateness_ms.append((time.perf_counter() - due) * 1000)
        try:
            if not connection.is_open:
                connection = await _connect(load)
            async with asyncio.timeout(_ANSWER_WITHIN_SECONDS):
                status = await connection.send(load.request)
        except (OSError, TimeoutError, ValueError) as error:
            outcome.failures[type(error).__name__] += 1
            connection.close()
            continue
        outcome.latencies_ms.append((time.perf_counter() - due) * 1000)
        if status != load.status:
            outcome.failures[status.decode()] += 1
    connection.close()


async def _connect(load: Load) -> "_Connection":
    connect = asyncio.get_running_loop().create_connection
    _, connection = await connect(_Connection, "127.0.0.1", load.port, ssl=load.tls)
    return connection


class _Connection(asyncio.Protocol):
    """One request at a time; a client library would cost more than the service that it measures."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    async def send(self, request: bytes) -> bytes:
        """The status; raises ConnectionError when the connection ends before the answer does."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self._received.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        length = _CONTENT_LENGTH.search(self._received, 0, end + 2)
        if length is None:
            self._answer.set_exception(ValueError("the answer has no Content-Length"))
        elif len(self._received) >= end + 4 + int(length[1]):
            if b"\r\nconnection: close\r\n" in self._received[: end + 2].lower():
                self.close()
            # HTTP/1.1 200 OK
            self._answer.set_result(bytes(self._received[9:12]))

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
