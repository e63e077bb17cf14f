"""Measures a generated service and `reference.py` in turns, in the environment of that service."""

import argparse
import json
import random
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import start
from development import bench, load, postgres, serve
from development.load import Load

CONNECTIONS, WORKERS = 64, 2
# Of the bare route's CPU per request: what the service promises.
GOALS = {
    "GET /users/me": 4.0,
    "GET /items/{id}": 6.0,
    "GET /items, 20 of them": 6.0,
    "POST /items": 9.0,
}
BARE = "bare FastAPI route"


@dataclass
class Target:
    name: str
    request: bytes
    status: bytes = b"200"
    cpu_us: list[float] = field(default_factory=list)
    requests_per_second: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    options = parser.parse_args()
    environment = {
        "DATABASE_URL": postgres.start(),
        "WEB_CONCURRENCY": str(WORKERS),
        "DATABASE_POOL_SIZE": "2",
    }
    with ExitStack() as stack:
        service = stack.enter_context(bench.serving(environment))
        reference = stack.enter_context(bench.serving(environment, None, "reference:create_app()"))
        targets: dict[tuple[int, int], list[Target]] = {
            service: of_the_service(service[0]),
            reference: of_the_reference(service[0]),
        }
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            turns = [(server, target) for server, list_ in targets.items() for target in list_]
            for server, target in random.sample(turns, len(turns)):
                measure(*server, target, options.seconds)
    report([target for list_ in targets.values() for target in list_])
    start.report(start.measure(environment, options.rounds))


def of_the_service(port: int) -> list[Target]:
    authorization = authorization_of(bench.authenticated_read(port))
    create = create_item(authorization, tags=["one", "two"])
    drive_once = Load(port, create, 1, 1, rate=20, status=b"201")
    if bench.drive(drive_once).failures:
        raise SystemExit("No items could be created.")
    headers = {"Authorization": authorization.removeprefix("Authorization: ").strip()}
    item_id = json.loads(serve.call(port, "GET", "/api/v1/items", headers=headers)[1])["items"][0][
        "id"
    ]
    return [
        Target("GET /users/me", get("/api/v1/users/me", authorization)),
        Target("GET /items/{id}", get(f"/api/v1/items/{item_id}", authorization)),
        Target("GET /items, 20 of them", get("/api/v1/items", authorization)),
        Target("POST /items", create, b"201"),
    ]


def of_the_reference(service_port: int) -> list[Target]:
    authorization = authorization_of(bench.authenticated_read(service_port))
    return [Target(BARE, get("/bare")), Target("JWT, raw asyncpg", get("/read", authorization))]


def authorization_of(request: bytes) -> str:
    return next(
        f"{line}\r\n" for line in request.decode().split("\r\n") if line.startswith("Authorization")
    )


def get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


def create_item(authorization: str, **fields: object) -> bytes:
    body = json.dumps({"title": "A thing", **fields})
    return (
        f"POST /api/v1/items HTTP/1.1\r\nHost: localhost\r\n{authorization}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def measure(port: int, pid: int, target: Target, seconds: float) -> None:
    bench.drive(Load(port, target.request, CONNECTIONS, 0.5, status=target.status))
    before = bench.cpu_seconds(pid)
    outcome = bench.drive(Load(port, target.request, CONNECTIONS, seconds, status=target.status))
    if outcome.failures:
        raise SystemExit(f"{target.name}: {dict(outcome.failures)}")
    count = len(outcome.latencies_ms)
    target.cpu_us.append((bench.cpu_seconds(pid) - before) / count * 1e6)
    target.requests_per_second.append(outcome.requests_per_second)
    target.p99_ms.append(load.percentile(outcome.latencies_ms, 0.99))


def report(targets: list[Target]) -> None:
    bare = next(target for target in targets if target.name == BARE)
    base = statistics.median(bare.cpu_us)
    base_rate = statistics.median(bare.requests_per_second)
    print(
        f"{'':26}{'CPU us':>7}{'(spread)':>13}{'ratio':>7}{'req/s ratio':>12}{'p99 ms':>13}  goal"
    )
    for target in sorted(targets, key=lambda one: statistics.median(one.cpu_us)):
        cpu, goal = statistics.median(target.cpu_us), GOALS.get(target.name)
        verdict = f"{goal:.1f} {'missed' if cpu > goal * base else 'met'}" if goal else ""
        spread = f"({min(target.cpu_us):.0f}-{max(target.cpu_us):.0f})"
        rate = statistics.median(target.requests_per_second) / base_rate
        tail = f"{min(target.p99_ms):.0f} to {max(target.p99_ms):.0f}"
        print(
            f"{target.name:26}{cpu:7.0f}{spread:>13}{cpu / base:7.2f}{rate:12.3f}{tail:>13}"
            f"  {verdict}"
        )
    rounds = len(bare.cpu_us)
    print(f"{rounds} rounds in turns, {CONNECTIONS} connections, {WORKERS} workers, without nginx.")


if __name__ == "__main__":
    main()
