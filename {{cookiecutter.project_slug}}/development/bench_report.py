"""What `make bench` makes of its rounds: a table, a recommendation with its reason, a plot."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from development.bench import Choice, Measured

# Differences smaller than this are noise on most machines.
_EQUAL_SHARE = 0.05
# The same work took so much longer in one round than in another: nothing can be told.
_NOISY_RATIO = 1.3
_LATE_MS_MAX = 20
_WIDTH, _HEIGHT, _MARGIN = 640, 360, 56
_COLOURS = ("#2f6fde", "#d9622b", "#2a9d63", "#a34fd0", "#c23b5a")


@dataclass(frozen=True)
class Row:
    """The medians of one choice; the spread is that of its rounds."""

    choice: "Choice"
    requests_per_second: float
    spread: tuple[float, float]
    cpu_us_per_request: float | None
    p50_ms: float
    p99_ms: float
    p99_spread: tuple[float, float]
    failures: int


def summarise(measured: Sequence["Measured"]) -> list[Row]:
    by_choice: dict[Choice, list[Measured]] = {}
    for one in measured:
        by_choice.setdefault(one.choice, []).append(one)
    return [_row(choice, by_choice[choice]) for choice in sorted(by_choice, key=_order)]


def _order(choice: "Choice") -> tuple[int, int, int]:
    return choice.connections, choice.workers, choice.pool_size


def _row(choice: "Choice", rounds: Sequence["Measured"]) -> Row:
    rates = [one.requests_per_second for one in rounds]
    tails = [one.p99_ms for one in rounds]
    cpu = [one.cpu_us_per_request for one in rounds if one.cpu_us_per_request is not None]
    return Row(
        choice,
        statistics.median(rates),
        (min(rates), max(rates)),
        statistics.median(cpu) if cpu else None,
        statistics.median(one.p50_ms for one in rounds),
        statistics.median(tails),
        (min(tails), max(tails)),
        sum(sum(one.failures.values()) for one in rounds),
    )


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'connections':>11} {'workers':>7} {'pool':>4} {'requests/s':>10} {'(spread)':>13}"
        f" {'CPU us':>6} {'p50 ms':>6} {'p99 ms':>6} {'(spread)':>11} {'failed':>6}"
    ]
    for row in rows:
        choice, (low, high), (best, worst) = row.choice, row.spread, row.p99_spread
        cpu = f"{row.cpu_us_per_request:.0f}" if row.cpu_us_per_request is not None else "-"
        lines.append(
            f"{choice.connections:>11} {choice.workers:>7} {choice.pool_size:>4}"
            f" {row.requests_per_second:>10.0f} {f'({low:.0f}-{high:.0f})':>13}"
            f" {cpu:>6} {row.p50_ms:>6.1f} {row.p99_ms:>6.1f}"
            f" {f'({best:.0f}-{worst:.0f})':>11} {row.failures:>6}"
        )
    return "\n".join(lines)


def advice(rows: Sequence[Row], measured: Sequence["Measured"]) -> str:
    """What to set and why; a machine that is too noisy to tell is named first."""
    connections = max(row.choice.connections for row in rows)
    busiest = [row for row in rows if row.choice.connections == connections]
    chosen = choose(busiest)
    most = max(row.requests_per_second for row in busiest)
    return "\n".join(
        (
            *_doubts(measured),
            f"WEB_CONCURRENCY={chosen.choice.workers} DATABASE_POOL_SIZE={chosen.choice.pool_size}",
            f"because with {connections} connections it reaches"
            f" {chosen.requests_per_second / most:.0%} of the most requests per second, and of"
            f" those that do it has the shortest p99 ({chosen.p99_ms:.0f} ms) with the fewest"
            " connections to PostgreSQL.",
        )
    )


def choose(rows: Sequence[Row]) -> Row:
    most = max(row.requests_per_second for row in rows)
    fast = [row for row in rows if row.requests_per_second >= most * (1 - _EQUAL_SHARE)]
    shortest = min(row.p99_ms for row in fast)
    # A quarter more is within what two runs of the same thing differ by.
    good = [row for row in fast if row.p99_ms <= shortest * 1.25]
    return min(good, key=lambda row: (row.choice.workers * row.choice.pool_size, row.p99_ms))


def _doubts(measured: Sequence["Measured"]) -> list[str]:
    spins = [one.spin_ms for one in measured]
    late = statistics.median(one.generator_late_p99_ms for one in measured)
    doubts = []
    if max(spins) > min(spins) * _NOISY_RATIO:
        ratio = max(spins) / min(spins)
        doubts.append(f"The machine is too noisy to tell: the same work took {ratio:.1f} x as long")
        doubts.append("in one round as in another. End what else runs, or take this as a hint.")
    if late > _LATE_MS_MAX:
        doubts.append(f"This program sent requests {late:.0f} ms late (p99): it needs more cores.")
    return doubts


def plot(rows: Sequence[Row]) -> str:
    """p99 over the size of the pool, a line for each number of workers; readable in the dark."""
    connections = max(row.choice.connections for row in rows)
    busiest = [row for row in rows if row.choice.connections == connections]
    pools = sorted({row.choice.pool_size for row in busiest})
    highest = max(row.p99_ms for row in busiest) or 1
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(pools) - 1)

    def place(row: Row) -> tuple[float, float]:
        x = _MARGIN + pools.index(row.choice.pool_size) * step
        return x, _HEIGHT - _MARGIN - row.p99_ms / highest * (_HEIGHT - 2 * _MARGIN)

    parts = [_text(_MARGIN, 28, f"p99 at {connections} connections, ms, over the size of the pool")]
    for size in pools:
        parts.append(_text(_MARGIN + pools.index(size) * step, _HEIGHT - _MARGIN + 22, str(size)))
    parts += [_text(4, _MARGIN, f"{highest:.0f}"), _text(4, _HEIGHT - _MARGIN, "0")]
    workers = sorted({row.choice.workers for row in busiest})
    for number, count in enumerate(workers):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [place(row) for row in busiest if row.choice.workers == count]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"{count} workers" if count > 1 else "1 worker"
        parts.append(_text(_WIDTH - 150, 48 + 18 * number, label, colour))
    described = "; ".join(
        f"{row.choice.workers} workers, pool {row.choice.pool_size}: {row.p99_ms:.0f} ms"
        for row in busiest
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        "<title>p99 by workers and pool</title>"
        f"<desc>{escape(described)}</desc>"
        "<style>text{font:13px sans-serif;fill:#222}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>" + "".join(parts) + "</svg>\n"
    )


def _text(x: float, y: float, text: str, colour: str = "") -> str:
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{style}>{escape(text)}</text>'
