"""How fast a service starts and how large it is when it idles, with a budget for each figure."""

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from development import bench
from doctor.settings import AllSettings
from server.capacity import GENERATIONS, MASTER_MEMORY_MIB

# Two, as in `compare.py`, which sets WEB_CONCURRENCY.
WORKERS = 2
# Memory of the smallest container: deploy/kubernetes/base/deployment.yaml.
CONTAINER_MIB = 512
IMPORT = "import of app.main, s"
ANSWER = "from the start to the first answer, s"
PSS, RSS = "idle worker, PSS, MiB", "idle worker, RSS, MiB"
ALL = f"idle master and {WORKERS} workers, PSS, MiB"
PRELOADED = "preload_app: "


@dataclass(frozen=True)
class Budget:
    most: float
    reason: str


def default_of(setting: str) -> float:
    return float(AllSettings.model_fields[setting].default)


POOL_WAIT_SECONDS = default_of("database_pool_timeout_seconds")
WORKER_MIB = default_of("worker_memory_mib")
BUDGETS = {
    IMPORT: Budget(
        POOL_WAIT_SECONDS / 2,
        "half of what a worker may take to be replaced, see the next; the other half is for Python,"
        " gunicorn and the lifespan.",
    ),
    ANSWER: Budget(
        POOL_WAIT_SECONDS + 1,
        f"while a worker is replaced the others have its requests, and one that waits"
        f" {POOL_WAIT_SECONDS:g} s for a connection gets a 503; the master has 1 s before that.",
    ),
    PSS: Budget(
        0.8 * WORKER_MIB,
        f"the plan counts {WORKER_MIB:g} MiB for each (WORKER_MEMORY_MIB); a fifth is left for"
        " caches that fill, and for your own code.",
    ),
    RSS: Budget(
        (CONTAINER_MIB - MASTER_MEMORY_MIB - default_of("worker_peak_memory_mib")) / GENERATIONS,
        f"in a container of {CONTAINER_MIB} MiB a worker and its successor fit beside the master"
        " and two password hashes, even if they share no page.",
    ),
    ALL: Budget(
        MASTER_MEMORY_MIB + WORKERS * 0.8 * WORKER_MIB,
        "what the plan counts for the master, and the workers' own budgets.",
    ),
}
BUDGETS |= {
    PRELOADED + name: replace(BUDGETS[name], reason="the same as without it.")
    for name in (ANSWER, ALL)
}


def measure(environment: Mapping[str, str], rounds: int) -> dict[str, list[float]]:
    """Each figure of all rounds."""
    figures: dict[str, list[float]] = {name: [] for name in BUDGETS}
    # Without the process of the metrics, the master's children are its workers.
    alone = {**environment, "METRICS_PORT": "0", "WEB_CONCURRENCY": str(WORKERS)}
    for _ in range(rounds):
        figures[IMPORT].append(seconds_of("import app.main") - seconds_of("pass"))
        for prefix, options in (("", ()), (PRELOADED, ("--preload",))):
            began = time.perf_counter()
            with bench.serving(alone, None, *options) as (_, master):
                figures[prefix + ANSWER].append(time.perf_counter() - began)
                wait_until_idle(master)
                workers = bench.children_of(master)
                pss = [memory_mib(pid, "Pss") for pid in workers]
                figures[prefix + ALL].append(memory_mib(master, "Pss") + sum(pss))
                if not prefix:
                    figures[PSS] += pss
                    figures[RSS] += [memory_mib(pid, "Rss") for pid in workers]
    return figures


def seconds_of(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=bench.ROOT, check=True)
    return time.perf_counter() - began


def wait_until_idle(master: int) -> None:
    """The first worker answers while the others still start."""
    before = -1.0
    while bench.cpu_seconds(master) - before > 0.02:  # noqa: PLR2004 (heartbeats go on)
        before = bench.cpu_seconds(master)
        time.sleep(1)


def memory_mib(pid: int, name: str) -> float:
    """Of /proc/PID/smaps_rollup: PSS counts a page that is shared only in part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kib) / 1024


def report(figures: Mapping[str, list[float]]) -> None:
    print(f"\n{'':51}{'median':>8}{'(spread)':>16}  budget")
    for name, values in figures.items():
        if not values:
            continue
        median, budget = statistics.median(values), BUDGETS[name].most
        spread = f"({min(values):.2f}-{max(values):.2f})"
        verdict = "kept" if median <= budget else "exceeded"
        print(f"{name:51}{median:8.2f}{spread:>16}  {budget:g} {verdict}")
    print("\nWhy these budgets:")
    for name, one in BUDGETS.items():
        print(f"- {name.rpartition(',')[0]}: {one.reason}")
