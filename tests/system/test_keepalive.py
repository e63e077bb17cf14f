"""POSTs at the moment at which an idle connection between nginx and gunicorn is closed.

nginx sends no POST twice, so whoever closes must not meet one: nginx has to be the first.
"""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.servers import wait_until
from tests.system.load import Client, Target, sign_up
from tests.system.processes import LEAVING, count_lines, master_pid, reload_all
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all, setting
from tests.system.trial_routes import replace_once

pytestmark = pytest.mark.alone

# Any other request would take an idle connection before its time is over: so each group of
# clients has an upstream of its own, with the numbers of the real one.
UPSTREAMS = 40
CLIENTS_PER_UPSTREAM = 16
# 8 x 640 = 5,120 POSTs
ROUNDS = 8
# keepalive_timeout in deploy/nginx/http/proxy.conf
NGINX_IDLE_SECONDS = 2.5
# Numbers of requests in `load`.
POST, GET = 0, 1


@pytest.fixture(scope="module")
def stack(trial_project: Path, uv: str) -> Iterator[Stack]:
    """With more upstreams; other modules want the nginx that the template ships."""
    folder = trial_project / "deploy/nginx"
    changes = {"http/proxy.conf": add_upstreams, "server/service.conf": add_locations}
    former = {folder / name: (folder / name).read_text() for name in changes}
    for name, add in changes.items():
        (folder / name).write_text(add(former[folder / name]))
    try:
        with serve_all(trial_project, uv) as running:
            yield running
    finally:
        for file, text in former.items():
            file.write_text(text)


def add_upstreams(text: str) -> str:
    block = re.findall(r"^upstream app \{.*?^\}\n", text, re.DOTALL | re.MULTILINE)[0]
    assert f"keepalive_timeout {NGINX_IDLE_SECONDS * 1000:.0f}ms;" in block
    for number in range(UPSTREAMS):
        copy = replace_once(block, "upstream app {", f"upstream app{number} {{")
        text += replace_once(copy, "zone app 128k;", f"zone app{number} 128k;")
    return text


def add_locations(text: str) -> str:
    for number in range(UPSTREAMS):
        text += f"location /{number}/ {{ proxy_pass http://app{number}/; }}\n"
    return text


async def post_after_idling(stack: Stack, idle_seconds: float, rounds: int) -> Counter[str]:
    """Statuses, and kinds of errors, of POSTs that follow pauses of about that long."""
    results: Counter[str] = Counter()
    token = sign_up(stack.url)
    port = stack.http_port
    async with asyncio.TaskGroup() as group:
        for place in range(UPSTREAMS):
            target = Target(port, token, post_path=f"/{place}/api/v1/items")
            group.create_task(_post_in_rounds(target, place, idle_seconds, rounds, results))
    return results


async def _post_in_rounds(
    target: Target, place: int, idle_seconds: float, rounds: int, results: Counter[str]
) -> None:
    clients = [Client(target) for _ in range(CLIENTS_PER_UPSTREAM)]
    # The groups take turns: all at once they would wait for each other.
    await asyncio.sleep(idle_seconds * place / UPSTREAMS)
    for number in range(rounds):
        if number:
            await asyncio.sleep(idle_seconds + off_seconds(place + number))
        requests = [client.ask(POST) for client in clients]
        answers = await asyncio.gather(*requests, return_exceptions=True)
        results.update(map(name, answers))
    for client in clients:
        client.close()


def off_seconds(step: int) -> float:
    """From 20 ms too early to 20 ms too late, all alike often."""
    return (step * 8 % 41 - 20) / 1000


def name(answer: int | BaseException) -> str:
    return str(answer) if isinstance(answer, int) else type(answer).__name__


def test_posts_at_the_idle_limit_are_answered(stack: Stack, record_property: Record) -> None:
    results = asyncio.run(post_after_idling(stack, NGINX_IDLE_SECONDS, ROUNDS))
    record_property("POSTs at the idle limit", dict(results))
    assert results == {"201": ROUNDS * UPSTREAMS * CLIENTS_PER_UPSTREAM}


async def post_while_leaving(stack: Stack) -> list[int]:
    """Straight to gunicorn, on connections that nginx could still hold: 24 within 2.4 s."""
    target = Target(int(stack.environment["APP_PORT"]), sign_up(stack.url))
    statuses = []
    with ExitStack() as cleanup:
        clients = [cleanup.enter_context(closing(Client(target))) for _ in range(24)]
        for client in clients:
            assert await client.ask(GET) == 200
        left = count_lines(stack, LEAVING)
        os.kill(master_pid(stack), signal.SIGHUP)
        await asyncio.to_thread(wait_until, lambda: count_lines(stack, LEAVING) == left + 2)
        began = time.monotonic()
        for place, client in enumerate(clients):
            await asyncio.sleep(began + place / 10 - time.monotonic())
            statuses.append(await client.ask(POST))
            assert not client.is_open  # as the worker asked
    return statuses


def test_leaving_worker_answers_for_as_long_as_nginx_keeps_connections(stack: Stack) -> None:
    assert asyncio.run(post_while_leaving(stack)) == [201] * 24


def test_posts_at_the_idle_limit_are_lost_when_gunicorn_closes_first(
    stack: Stack, record_property: Record
) -> None:
    """What it takes to fail: the test above can."""
    with setting(stack, "SERVER_KEEPALIVE_SECONDS=2"):
        reload_all(stack)
    results = asyncio.run(post_after_idling(stack, 2, rounds=3))
    record_property("POSTs at the idle limit, SERVER_KEEPALIVE_SECONDS=2", dict(results))
    assert results["502"] > 0
    assert set(results) == {"201", "502"}
