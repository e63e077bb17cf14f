"""What logs, metrics and ids cost the signed-in read, and traces on top of them: in turns."""

import argparse
import random
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from bench import compare
from bench.compare import Target
from development import bench, ports, postgres

BARE, USUAL, TRACED = "without any", "logs, metrics, ids", "and 10 % traced"
# Of the CPU of what stands before it.
GOALS = {USUAL: 1.10, TRACED: 1.05}


class Collector(BaseHTTPRequestHandler):
    """Takes traces and forgets them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None: ...


@contextmanager
def running_collector() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    options = parser.parse_args()
    with ExitStack() as stack:
        servers = start(stack, stack.enter_context(running_collector()))
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for server, target in random.sample(servers, len(servers)):
                compare.measure(*server, target, options.seconds)
    report([target for _, target in servers])


def start(stack: ExitStack, collector: str) -> list[tuple[tuple[int, int], Target]]:
    common = {
        "DATABASE_URL": postgres.start(),
        "WEB_CONCURRENCY": str(compare.WORKERS),
        "DATABASE_POOL_SIZE": "2",
    }
    traces = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
    }
    servers = []
    for name, app, settings in (
        (BARE, ["unobserved:create_app()"], {"METRICS_PORT": "0"}),
        (USUAL, [], {"METRICS_PORT": str(ports.free_port())}),
        (TRACED, [], {"METRICS_PORT": str(ports.free_port()), **traces}),
    ):
        server = stack.enter_context(bench.serving(common | settings, None, *app))
        servers.append((server, Target(name, bench.authenticated_read(server[0]))))
    return servers


def report(targets: list[Target]) -> None:
    before = targets[0]
    for target in targets:
        cpu, goal = statistics.median(target.cpu_us), GOALS.get(target.name)
        # Of each round: an hour in which the machine is busy hits both.
        pairs = zip(target.cpu_us, before.cpu_us, strict=True)
        ratio = statistics.median(one / other for one, other in pairs)
        verdict = f"goal {goal:.2f} {'missed' if ratio > goal else 'met'}" if goal else ""
        spread = f"({min(target.cpu_us):.0f}-{max(target.cpu_us):.0f})"
        print(f"{target.name:20}{cpu:6.0f} us {spread:>11} {ratio:5.2f}  {verdict}")
        before = target
    rounds = len(targets[0].cpu_us)
    print(f"CPU a request, each to the one above; {rounds} rounds in turns, without nginx.")


if __name__ == "__main__":
    main()
