"""`manage work` with tasks that write into a file what they do."""

import asyncio
import os
import sys
import time
from pathlib import Path

from app.jobs import process
from app.jobs.queue import Work, task
from app.settings import Settings
from server.settings import ServerSettings


def write(folder: str, line: str) -> None:
    with (Path(folder) / "lines").open("a") as file:  # one write, so lines stay whole
        file.write(f"{line}\n")


@task("test.slow", may_run_twice=True)
async def slow(_work: Work, folder: str, number: int, seconds: float) -> None:
    write(folder, f"begin {number}")
    await asyncio.sleep(seconds)
    write(folder, f"end {number}")


@task("test.once")
async def once(work: Work, folder: str, number: int, seconds: float) -> None:
    await slow.run(work, folder, number, seconds)


@task("test.failing")
async def failing(_work: Work) -> None:
    raise RuntimeError("no")


@task("test.blocking")
async def blocking(_work: Work) -> None:
    time.sleep(30)  # noqa: ASYNC251 (what a job must not do)


if __name__ == "__main__":
    if "periodic" in sys.argv:

        @task("test.period", cron="* * * * * *")
        async def period(_work: Work, timestamp: int) -> None:
            write(os.environ["FOLDER"], f"period {timestamp}")

    process.STUCK_SECONDS = int(os.environ.get("STUCK_SECONDS", "20"))
    process.run(Settings.load(), ServerSettings.load())
