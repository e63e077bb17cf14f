"""How fast a service starts and how large it is when it idles, with a budget for each figure."""

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from development import bench

# On two cores of a virtual machine, with room for a busy hour and for code of your own.
BUDGETS = {
    "import of app.main, s": 1.5,
    "from the start to the first answer, s": 4.0,
    "idle worker, PSS, MiB": 90.0,
    "idle worker, RSS, MiB": 130.0,
}


def measure(environment: Mapping[str, str], rounds: int) -> dict[str, list[float]]:
    """Each figure of all rounds."""
    figures: dict[str, list[float]] = {name: [] for name in BUDGETS}
    imported, answered, pss, rss = figures.values()
    # Without the process of the metrics, the master's children are its workers.
    alone = {**environment, "METRICS_PORT": "0"}
    for _ in range(rounds):
        imported.append(seconds_of("import app.main") - seconds_of("pass"))
        began = time.perf_counter()
        with bench.serving(alone) as (_, master):
            answered.append(time.perf_counter() - began)
            for worker in bench.children_of(master):
                pss.append(memory_mib(worker, "Pss"))
                rss.append(memory_mib(worker, "Rss"))
    return figures


def seconds_of(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=bench.ROOT, check=True)
    return time.perf_counter() - began


def memory_mib(pid: int, name: str) -> float:
    """Of /proc/PID/smaps_rollup: PSS counts a page that is shared only in part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kib) / 1024


def report(figures: Mapping[str, list[float]]) -> None:
    print(f"\n{'':40}{'median':>8}{'(spread)':>16}  budget")
    for name, values in figures.items():
        if not values:
            continue
        median, budget = statistics.median(values), BUDGETS[name]
        spread = f"({min(values):.2f}-{max(values):.2f})"
        verdict = "kept" if median <= budget else "exceeded"
        print(f"{name:40}{median:8.2f}{spread:>16}  {budget:g} {verdict}")
