"""Steady GET and POST traffic over keep-alive connections; counts every answer that is not 2xx.

Open loop: requests leave on a schedule, so a server that stalls is asked all the same.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import httpx2

PASSWORD = "correct horse battery staple"


@dataclass
class Outcome:
    """`failures` counts by kind; `late` are seconds from the planned start to the last byte.

    `created` are the numbers of the POSTs answered 201; `is_enough` ends the load early.
    """

    answers: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    created: list[int] = field(default_factory=list)
    is_enough: bool = False
    late: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.late) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def __str__(self) -> str:
        times = "/".join(str(round(self.percentile(share) * 1000)) for share in (0.5, 0.99, 1))
        failed = dict(self.failures) or "none"
        return f"{self.answers} answers, failed: {failed}, p50/p99/max {times} ms"


@dataclass(frozen=True)
class Target:
    """Where the requests go; the token belongs to a user who exists."""

    port: int
    token: str
    get_path: str = "/api/v1/users/me"
    post_path: str = "/api/v1/items"
    host: str = "localhost"

    def request(self, number: int) -> bytes:
        body = json.dumps({"title": f"item {number}"}) if is_post(number) else ""
        path = self.post_path if body else self.get_path
        lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"Authorization: Bearer {self.token}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "Content-Type: application/json", "", body]).encode()


@dataclass(frozen=True)
class Plan:
    seconds: float
    per_second: int = 250
    # An odd number gives every connection both methods.
    connections: int = 17
    answer_within_seconds: float = 40

    def shares(self) -> list[list[tuple[int, float]]]:
        """For each connection, the numbers of its requests and when they leave."""
        start = time.monotonic() + 0.05
        count = int(self.seconds * self.per_second)
        requests = [(number, start + number / self.per_second) for number in range(count)]
        return [requests[place :: self.connections] for place in range(self.connections)]


class Client:
    """One keep-alive connection; opened again when the server has closed it."""

    def __init__(self, target: Target, answer_within_seconds: float = 40) -> None:
        self._target = target
        self._answer_within_seconds = answer_within_seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        return self._streams is not None

    async def ask(self, number: int) -> int:
        """The status."""
        async with asyncio.timeout(self._answer_within_seconds):
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._target.port)
            reader, writer = self._streams
            writer.write(self._target.request(number))
            status, headers, _ = await read_answer(reader)
        if headers.get("connection") == "close":
            self.close()
        return status

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def is_post(number: int) -> bool:
    return number % 2 == 0


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.lower(): text.strip() for name, text in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = await reader.readuntil(b"0\r\n\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(head[0].split()[1]), headers, body


async def run_load(target: Target, plan: Plan, outcome: Outcome | None = None) -> Outcome:
    outcome = outcome or Outcome()
    async with asyncio.TaskGroup() as group:
        for share in plan.shares():
            client = Client(target, plan.answer_within_seconds)
            group.create_task(_run_client(client, share, outcome))
    return outcome


async def run_load_until(
    target: Target, plan: Plan, is_over: Callable[[], bool], within_seconds: float
) -> Outcome:
    """Again and again, and once more after it is over; the caller asserts that it was."""
    outcome, deadline, is_last = Outcome(), time.monotonic() + within_seconds, False
    while not is_last:
        is_last = is_over() or time.monotonic() > deadline
        await run_load(target, plan, outcome)
    return outcome


async def _run_client(client: Client, share: list[tuple[int, float]], outcome: Outcome) -> None:
    for number, planned in share:
        await asyncio.sleep(max(0.0, planned - time.monotonic()))
        if outcome.is_enough:
            break
        method = "POST" if is_post(number) else "GET"
        try:
            status = await client.ask(number)
        except (OSError, EOFError, TimeoutError) as error:
            outcome.failures[f"{method} {type(error).__name__}"] += 1
            client.close()
            continue
        outcome.answers += 1
        outcome.late.append(time.monotonic() - planned)
        if status == 201:
            outcome.created.append(number)
        if not 200 <= status < 300:
            outcome.failures[f"{method} {status}"] += 1
    client.close()


def sign_up(url: str, host: str = "localhost") -> str:
    """An access token of a new user."""
    headers = {"Host": host}
    email = f"{uuid4().hex}@example.com"
    credentials = {"email": email, "password": PASSWORD}
    httpx2.post(f"{url}/api/v1/users", json=credentials, headers=headers).raise_for_status()
    form = {"username": email, "password": PASSWORD}
    answer = httpx2.post(f"{url}/api/v1/auth/token", data=form, headers=headers).raise_for_status()
    return str(answer.json()["access_token"])
