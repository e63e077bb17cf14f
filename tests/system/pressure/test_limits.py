"""The shipped limits of nginx: problems as answers, and no header makes a client another one."""

import asyncio
import json
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.servers import wait_until
from tests.system.load import PASSWORD, Target
from tests.system.pressure.answers import Answer, Connection, ask_at_once, get, statuses
from tests.system.pressure.parts import nginx_folder, shipped_limits
from tests.system.stack import Stack

pytestmark = pytest.mark.alone

HONEST_ADDRESS = "127.0.0.9"


def spoofed(number: int) -> list[str]:
    address = f"203.0.113.{number}"
    return [
        f"X-Forwarded-For: {address}",
        f"X-Real-IP: {address}",
        f"Forwarded: for={address}",
        f"X-Client-IP: {address}",
        f"True-Client-IP: {address}",
    ]


def login(email: str, *headers: str) -> bytes:
    body = urlencode({"username": email, "password": PASSWORD})
    lines = ["POST /api/v1/auth/token HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    form = "Content-Type: application/x-www-form-urlencoded"
    return "\r\n".join([*lines, form, *headers, "", body]).encode()


def lines_about(log: Path, request_id: str) -> list[dict[str, object]]:
    """The JSON lines of a log that have this request id."""
    wait_until(lambda: request_id in log.read_text(), f"{request_id} in {log}")
    return [json.loads(line) for line in log.read_text().splitlines() if request_id in line]


def ask_in_turn(port: int, requests: list[bytes]) -> list[Answer]:
    async def ask() -> list[Answer]:
        connection = Connection(port, HONEST_ADDRESS)
        answers = [await connection.ask(request) for request in requests]
        connection.close()
        return answers

    return asyncio.run(ask())


def assert_is_refusal_of_nginx(answer: Answer, stack: Stack) -> None:
    assert (answer.status, answer.problem["title"]) == (429, "Too Many Requests")
    assert int(answer.headers["retry-after"]) >= 1
    request_id = answer.headers["x-request-id"]
    [line] = lines_about(nginx_folder(stack) / "logs/access.log", request_id)
    assert line["upstream"] == ""


def test_logins_are_limited_when_each_claims_another_address(stack: Stack, target: Target) -> None:
    requests = [login("nobody@example.com", *spoofed(number)) for number in range(25)]
    with shipped_limits(stack):
        answers = ask_in_turn(target.port, requests)
    refused = [answer for answer in answers if answer.status == 429]
    assert set(statuses(answers)) == {401, 429}
    # 11 at once, and one more every 3 s of a slow machine.
    assert len(refused) >= 7
    assert_is_refusal_of_nginx(refused[0], stack)


def test_logs_have_the_real_address_when_the_client_claims_another(
    stack: Stack, target: Target
) -> None:
    headers = [f"Authorization: Bearer {target.token}", *spoofed(1)]
    [answer] = ask_in_turn(target.port, [get("/api/v1/users/me", *headers)])
    assert answer.status == 200
    for log in (nginx_folder(stack) / "logs/access.log", stack.log):
        lines = lines_about(log, answer.headers["x-request-id"])
        assert [line["client"] for line in lines] == [HONEST_ADDRESS]
    assert "203.0.113." not in stack.log.read_text()


def test_requests_are_refused_with_problems_when_one_client_sends_too_many(
    stack: Stack, target: Target
) -> None:
    headers, numbers = f"Authorization: Bearer {target.token}", count()

    def request(_number: int) -> bytes:
        return get("/api/v1/users/me", headers, *spoofed(next(numbers) % 250))

    with shipped_limits(stack):
        answers = asyncio.run(ask_at_once(target.port, 8, 1.5, request))
        [probe] = ask_in_turn(target.port, [get("/livez")])
    assert set(statuses(answers)) == {200, 429}
    assert probe.status == 200
    refused = [answer for answer in answers if answer.status == 429]
    assert all(answer.problem["title"] == "Too Many Requests" for answer in refused)
    assert_is_refusal_of_nginx(refused[0], stack)
