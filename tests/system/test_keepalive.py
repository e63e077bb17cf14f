"""POSTs at the moment at which an idle connection between nginx and gunicorn is closed.

nginx sends no POST twice, so whoever closes must not meet one: nginx has to be the first.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.load import Client, Target, sign_up
from tests.system.stack import Stack
from tests.system.trial import Record, serve_all
from tests.system.trial_routes import replace_once

# Any other request would take an idle connection before its time is over: so each group of
# clients has an upstream of its own, with the numbers of the real one.
UPSTREAMS = 40
CLIENTS_PER_UPSTREAM = 16
# 8 x 640 = 5,120 POSTs
ROUNDS = 8
# keepalive_timeout in deploy/nginx/http/proxy.conf
NGINX_IDLE_SECONDS = 2.5


@pytest.fixture(scope="module")
def project(trial_project: Path) -> Iterator[Path]:
    """With more upstreams; the others want the nginx that the template ships."""
    folder = trial_project / "deploy/nginx"
    files = {
        folder / "http/proxy.conf": add_upstreams,
        folder / "server/service.conf": add_locations,
    }
    former = {file: file.read_text() for file in files}
    for file, add in files.items():
        file.write_text(add(former[file]))
    yield trial_project
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
    port = int(stack.environment["HTTP_PORT"])
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
        requests = [client.ask(0) for client in clients]
        answers = await asyncio.gather(*requests, return_exceptions=True)
        results.update(map(name, answers))
    for client in clients:
        client.close()


def off_seconds(step: int) -> float:
    """From 20 ms too early to 20 ms too late, all alike often."""
    return (step * 8 % 41 - 20) / 1000


def name(answer: int | BaseException) -> str:
    return str(answer) if isinstance(answer, int) else type(answer).__name__


def test_posts_at_the_idle_limit_are_answered(
    project: Path, uv: str, record_property: Record
) -> None:
    with serve_all(project, uv) as stack:
        results = asyncio.run(post_after_idling(stack, NGINX_IDLE_SECONDS, ROUNDS))
    record_property("POSTs at the idle limit", dict(results))
    assert results == {"201": ROUNDS * UPSTREAMS * CLIENTS_PER_UPSTREAM}


def test_posts_at_the_idle_limit_are_lost_when_gunicorn_closes_first(
    project: Path, uv: str, record_property: Record
) -> None:
    """What it takes to fail: the test above can."""
    with serve_all(project, uv, SERVER_KEEPALIVE_SECONDS="2") as stack:
        results = asyncio.run(post_after_idling(stack, 2, rounds=3))
    record_property("POSTs at the idle limit, SERVER_KEEPALIVE_SECONDS=2", dict(results))
    assert results["502"] > 0
    assert set(results) == {"201", "502"}
