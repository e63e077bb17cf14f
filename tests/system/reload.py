"""HUP to gunicorn under steady load, until the workers of before have gone."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

from tests.system.load import Outcome, Plan, Target, run_load_until, sign_up
from tests.system.stack import Stack

RELOADED_WITHIN_SECONDS = 60
LOAD = Plan(seconds=3, per_second=100)


def reload_under_load(stack: Stack) -> Outcome:
    """A second of load before, and some after."""
    target = Target(int(stack.environment["HTTP_PORT"]), sign_up(stack.url))
    return asyncio.run(_reload_under_load(stack, target))


def has_reloaded(stack: Stack) -> bool:
    ended = stack.log.read_text().count("Application shutdown complete")
    return ended == int(stack.environment["WEB_CONCURRENCY"])


async def _reload_under_load(stack: Stack, target: Target) -> Outcome:
    gunicorn = _gunicorn_below(stack.process.pid)
    asyncio.get_running_loop().call_later(1, os.kill, gunicorn, signal.SIGHUP)
    is_over = partial(has_reloaded, stack)
    return await run_load_until(target, LOAD, is_over, RELOADED_WITHIN_SECONDS)


def _gunicorn_below(supervisor: int) -> int:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    [found] = [pid for pid in children if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(found)
