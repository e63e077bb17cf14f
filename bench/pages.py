"""What the pages show of docs/data: a table with its machine, and a plot that fits both themes.

`python -m bench.pages` writes them all again; a test compares them with the data.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"
DATA, PLOTS, PAGES = DOCS / "data", DOCS / "plots", DOCS / "measurements"
BEGIN, END = "<!-- begin of what `make bench-compare` writes -->", "<!-- end of it -->"
COLUMNS = {
    "requests_per_second": "requests/s, all connections busy",
    "cpu_us": "CPU µs per request",
    "p99_full_ms": "p99 ms, all busy",
    "p50_ms": "p50 ms at 60 %",
    "p99_ms": "p99 ms at 60 %",
}
# The same work took so much longer in one round than in another: nothing can be told.
NOISY_RATIO = 1.3
LATE_MS_MAX = 20
ROUNDS_MIN = 3
COLOURS = ("#2f6fde", "#d9622b", "#2a9d63", "#a34fd0", "#c23b5a")
WIDTH, ROW, LABELS, VALUES = 640, 28, 250, 70
HEIGHT, MARGIN, LEGEND = 320, 48, 150
STYLE = (
    "text{font:13px sans-serif;fill:#222}.axis{stroke:#888}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)


@dataclass(frozen=True)
class Figure:
    """The median of the rounds, with the least and the most of them."""

    median: float
    least: float
    most: float


Document = dict[str, Any]
Summary = dict[str, dict[str, Figure]]


def summarise(document: Document) -> Summary:
    return {
        variant["name"]: {name: figure(variant["rounds"], name) for name in COLUMNS}
        for variant in document["variants"]
    }


def figure(rounds: Sequence[dict[str, float]], name: str) -> Figure:
    values = [one[name] for one in rounds]
    return Figure(statistics.median(values), min(values), max(values))


def written(value: float) -> str:
    """With as many digits as can be told apart."""
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"  # noqa: PLR2004


def block(name: str, document: Document) -> str:
    """The plot, the table and where they come from."""
    if "results" in document:
        return conformance(document)
    lines = [
        BEGIN,
        f"![{alternative(document)}](../plots/{name}.svg)",
        "",
        "| variant | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for variant, figures in summarise(document).items():
        cells = [
            f"{written(one.median)} ({written(one.least)} to {written(one.most)})"
            for one in figures.values()
        ]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *provenance(name, document), END])


def conformance(document: Document) -> str:
    """Who does what: a row for each trial, a column for each server."""
    results = document["results"]
    trials = next(iter(results.values()))
    lines = [BEGIN, "| trial | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for trial in trials:
        lines.append(f"| {trial} | " + " | ".join(said[trial] for said in results.values()) + " |")
    return "\n".join([*lines, "", measured_on(document), END])


def provenance(name: str, document: Document) -> list[str]:
    options = document["options"]
    return [
        f"Medians of {options['rounds']} rounds in turns, {options['seconds']:g} s for each load,"
        f" with the least and the most; [all rounds](../data/{name}.json).",
        measured_on(document),
        *doubts(document),
    ]


def measured_on(document: Document) -> str:
    machine = document["machine"]
    packages = ", ".join(f"{one} {number}" for one, number in document["packages"].items())
    return (
        f"Measured on {document['measured_at']}: {machine['cores']} cores that the load shares,"
        f" {machine['system']}, Python {document['python']}, {packages}."
    )


def doubts(document: Document) -> list[str]:
    rounds = [one for variant in document["variants"] for one in variant["rounds"]]
    spins = [one["spin_ms"] for one in rounds]
    late = statistics.median(one["late_p99_ms"] for one in rounds)
    found = []
    if document["options"]["rounds"] < ROUNDS_MIN:
        found.append("A first look: too few rounds to tell.")
    if (ratio := max(spins) / min(spins)) > NOISY_RATIO:
        found.append(
            f"The machine was too noisy to tell: the same work took {ratio:.1f} x as long in one"
            " round as in another."
        )
    if late > LATE_MS_MAX:
        found.append(f"Requests were sent {late:.0f} ms late (p99): too much for this machine.")
    return found


def alternative(document: Document) -> str:
    """What somebody hears who cannot see the plot."""
    metric = document["metric"]
    figures = "; ".join(
        f"{variant}: {written(figures[metric].median)}"
        for variant, figures in summarise(document).items()
    )
    return f"{COLUMNS[metric]}: {figures}"


def plot(document: Document) -> str:
    parts, height = lines(document) if document["over"] else bars(document)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(document['question'])}</title><desc>{escape(alternative(document))}</desc>"
        f"<style>{STYLE}</style>" + "".join(parts) + "</svg>\n"
    )


def bars(document: Document) -> tuple[list[str], int]:
    metric = document["metric"]
    figures = {name: all_[metric] for name, all_ in summarise(document).items()}
    highest = max(one.most for one in figures.values()) or 1
    scale = (WIDTH - LABELS - VALUES) / highest
    parts = [text(0, 18, f"{COLUMNS[metric]}; the thin line is the spread")]
    for place, (name, one) in enumerate(figures.items()):
        y = 36 + place * ROW
        parts += [
            text(0, y + 13, name),
            f'<rect x="{LABELS}" y="{y}" width="{one.median * scale:.1f}" height="18"'
            f' fill="{COLOURS[0]}"/>',
            f'<line class="axis" x1="{LABELS + one.least * scale:.1f}" y1="{y + 9}"'
            f' x2="{LABELS + one.most * scale:.1f}" y2="{y + 9}" stroke-width="2"/>',
            text(WIDTH - VALUES + 8, y + 13, written(one.median)),
        ]
    return parts, 44 + len(figures) * ROW


def lines(document: Document) -> tuple[list[str], int]:
    """Over the number that each name ends with; a line for what stands before it."""
    metric = document["metric"]
    series: dict[str, dict[int, float]] = {}
    for variant, figures in summarise(document).items():
        name, _, number = variant.rpartition(", ")
        series.setdefault(name, {})[int(number)] = figures[metric].median
    numbers = sorted({number for points in series.values() for number in points})
    highest = max(max(points.values()) for points in series.values()) or 1
    step = (WIDTH - 2 * MARGIN - (LEGEND if len(series) > 1 else 0)) / max(1, len(numbers) - 1)
    bottom = HEIGHT - MARGIN
    parts = [
        text(0, 18, f"{COLUMNS[metric]}, over {document['over']}"),
        text(0, MARGIN + 4, written(highest)),
        text(0, bottom + 4, "0"),
    ]
    places = {number: MARGIN + place * step for place, number in enumerate(numbers)}
    ends = f'x1="{MARGIN}" x2="{places[numbers[-1]]:.0f}"'
    parts.append(f'<line class="axis" {ends} y1="{bottom}" y2="{bottom}"/>')
    parts += [text(x - 4, bottom + 20, str(number)) for number, x in places.items()]
    for (name, points), colour in zip(series.items(), COLOURS, strict=False):
        coordinates = [
            (places[number], bottom - value / highest * (bottom - MARGIN))
            for number, value in points.items()
        ]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in coordinates)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>' for x, y in coordinates
        ]
        if len(series) > 1:
            y = MARGIN + 20 * list(series).index(name)
            parts.append(
                f'<rect x="{WIDTH - LEGEND}" y="{y - 9}" width="12" height="9" fill="{colour}"/>'
            )
            parts.append(text(WIDTH - LEGEND + 18, y, name))
    return parts, HEIGHT


def text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}">{escape(words)}</text>'


def read_all() -> dict[str, Document]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}


def write_all() -> None:
    PLOTS.mkdir(exist_ok=True)
    for name, document in read_all().items():
        if "variants" in document:
            (PLOTS / f"{name}.svg").write_text(plot(document), encoding="utf-8")
        page = PAGES / f"{name}.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(before + block(name, document) + after, encoding="utf-8")


if __name__ == "__main__":
    write_all()
