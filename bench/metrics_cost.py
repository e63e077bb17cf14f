"""CPU of a request with metrics in shared files, and without: in turns, in one process.

In the service's folder: `PYTHONPATH=. python ../bench/metrics_cost.py`. No server, no database:
the difference in microseconds is what counts, not the ratio.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import MutableMapping

REQUESTS = 2_000
ROUNDS = 15

os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
os.environ.setdefault("SECRET_KEY", "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E")
os.environ["LOG_LEVEL"] = "error"


async def measure() -> None:
    from app import middleware  # noqa: PLC0415 (after the environment)
    from app.main import create_app  # noqa: PLC0415
    from server.metrics import METRICS_VARIABLE, use_own_files  # noqa: PLC0415

    app = create_app()
    count = middleware._count

    async def receive() -> MutableMapping[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: MutableMapping[str, object]) -> None:
        pass

    async def cpu_us() -> float:
        began = time.process_time()
        for _ in range(REQUESTS):
            scope = {
                "type": "http", "method": "GET", "path": "/livez", "raw_path": b"/livez",
                "query_string": b"", "headers": [], "state": {}, "root_path": "",
            }  # fmt: skip
            await app(scope, receive, send)
        return (time.process_time() - began) / REQUESTS * 1e6

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ[METRICS_VARIABLE] = folder
        use_own_files()
        results: dict[str, list[float]] = {"with": [], "without": []}
        await cpu_us()
        for _ in range(ROUNDS):
            middleware._count = count
            results["with"].append(await cpu_us())
            middleware._count = lambda *_: None
            results["without"].append(await cpu_us())
    for name, values in results.items():
        print(f"{name:8} {statistics.median(values):7.1f} us, best {min(values):7.1f}")


if __name__ == "__main__":
    asyncio.run(measure())
