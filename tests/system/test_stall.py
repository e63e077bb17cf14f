"""A blocked event loop is killed and leaves its stack in the log; its sibling answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.servers import wait_until
from tests.system.processes import count_lines, worker_pids
from tests.system.stack import Stack
from tests.system.trial import serve_all
from tests.system.trial_routes import STALLING_LINE

pytestmark = pytest.mark.alone

STALL_SECONDS = 3


@pytest.fixture(scope="module")
def stack(trial_project: Path, uv: str) -> Iterator[Stack]:
    with serve_all(trial_project, uv, SERVER_TIMEOUT_SECONDS=str(STALL_SECONDS)) as running:
        yield running


def stall(stack: Stack) -> int:
    # A POST: nginx would give a GET to the other worker when this one is killed.
    return httpx2.post(f"{stack.url}/trial/stall?seconds=60", timeout=90).status_code


def test_stalled_worker_is_killed_with_its_stack_while_its_sibling_answers(stack: Stack) -> None:
    before = worker_pids(stack)
    answered_by = []
    with ThreadPoolExecutor() as pool:
        stalled = pool.submit(stall, stack)
        while not stalled.done():
            # New connections, to gunicorn itself: only who can accept them gets any.
            url = f"http://127.0.0.1:{stack.environment['APP_PORT']}/trial/pid"
            answered_by.append(int(httpx2.get(url, timeout=10).text))
    assert stalled.result() == 502
    wait_until(lambda: len(worker_pids(stack)) == 2 and worker_pids(stack) != before)
    (killed,) = before - worker_pids(stack)
    assert answered_by.count((before - {killed}).pop()) > 20
    assert f'app/trial.py", line {STALLING_LINE} in stall' in stack.log.read_text()
    assert count_lines(stack, f"WORKER TIMEOUT (pid:{killed})") == 1
