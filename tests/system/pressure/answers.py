"""Requests whose every answer is kept, headers, body and time; `tests.system.load` only counts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from tests.system.load import Plan, Target, read_answer

# Beyond every timeout of the order of timeouts: what takes longer hangs.
HANGS_AFTER_SECONDS = 40


@dataclass(frozen=True)
class Answer:
    """Status 0: the connection ended, or nothing came. `sent` is of the monotonic clock."""

    sent: float
    seconds: float
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, object]:
        assert self.headers["content-type"] == "application/problem+json", self
        problem = json.loads(self.body)
        assert problem["status"] == self.status, self
        assert problem["request_id"] == self.headers["x-request-id"], self
        return dict(problem)


class Connection:
    """Keep-alive to nginx; opened again when it was closed."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._port = port
        self._source = (source, 0)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, planned: float | None = None) -> Answer:
        """Counts from when it was planned: a service that stalls delays all later requests."""
        sent = time.monotonic() if planned is None else planned
        try:
            async with asyncio.timeout(HANGS_AFTER_SECONDS):
                status, headers, body = await self._exchange(request)
        except (OSError, EOFError) as error:
            status, headers, body = 0, {}, repr(error).encode()
        if status == 0 or headers.get("connection") == "close":
            self.close()
        return Answer(sent, time.monotonic() - sent, status, headers, body)

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=self._source
            )
        reader, writer = self._streams
        writer.write(request)
        return await read_answer(reader)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def ask_on_schedule(
    target: Target, plan: Plan, over: asyncio.Event | None = None
) -> list[Answer]:
    """Open loop: GET and POST in turn leave as planned, whatever became of those before."""
    answers: list[Answer] = []

    async def follow(share: list[tuple[int, float]]) -> None:
        connection = Connection(target.port)
        for number, planned in share:
            if over and over.is_set():
                break
            await asyncio.sleep(max(0.0, planned - time.monotonic()))
            answers.append(await connection.ask(target.request(number), planned))
        connection.close()

    async with asyncio.TaskGroup() as group:
        for share in plan.shares():
            group.create_task(follow(share))
    return answers


async def ask_at_once(
    port: int, connections: int, seconds: float, request: Callable[[int], bytes]
) -> list[Answer]:
    """Closed loop: each connection asks again as soon as it is answered."""
    answers: list[Answer] = []
    numbers = count()
    until = time.monotonic() + seconds

    async def repeat() -> None:
        connection = Connection(port)
        while time.monotonic() < until:
            answers.append(await connection.ask(request(next(numbers))))
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(repeat())
    return answers


async def ask_often(port: int, path: str, until: asyncio.Event, pause: float) -> list[Answer]:
    """A probe at this pace; the last one is asked after `until` is set."""
    connection, answers = Connection(port), []
    done = False
    while not done:
        done = until.is_set()
        answers.append(await connection.ask(get(path)))
        await asyncio.sleep(pause)
    connection.close()
    return answers


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def statuses(answers: Iterable[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def percentile_ms(answers: Sequence[Answer], share: float) -> int:
    ordered = sorted(answer.seconds for answer in answers)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000)


def assert_served_or_unavailable(answers: Iterable[Answer], within_seconds: float) -> None:
    """2xx, or a 503 that says what happened and when to come again; nothing hangs."""
    for answer in answers:
        assert answer.seconds < within_seconds, answer
        if not 200 <= answer.status < 300:
            assert answer.status == 503, answer
            assert answer.problem["detail"], answer
            assert int(answer.headers["retry-after"]) >= 1, answer
