"""What the pages show of a measurement is what docs/data has, drawn and written anew."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.pages import (
    BEGIN,
    PAGES,
    PLOTS,
    Document,
    Summary,
    block,
    plot,
    read_all,
    summarise,
)
from bench.variants import COMPARISONS, TRIALS
from tests.browser.service import NOT_COPIED
from tests.conftest import REPOSITORY, SERVICE, own_environment

PUBLISHED = read_all()
MEASURED = {name: document for name, document in PUBLISHED.items() if "variants" in document}


def test_every_comparison_is_measured_and_has_a_page() -> None:
    assert set(MEASURED) == set(COMPARISONS)
    pages = {page.stem: page.read_text() for page in PAGES.glob("*.md")}
    assert {name for name, text in pages.items() if BEGIN in text} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_of_a_page_is_that_of_the_data(name: str) -> None:
    assert block(name, PUBLISHED[name]) in (PAGES / f"{name}.md").read_text()


def test_every_server_was_put_to_every_trial() -> None:
    results = PUBLISHED["conformance"]["results"]
    assert set(results) == {server.name for server in TRIALS}
    assert len({frozenset(said) for said in results.values()}) == 1
    assert all(answer for said in results.values() for answer in said.values())


@pytest.mark.parametrize("name", MEASURED)
def test_plot_is_that_of_the_data(name: str) -> None:
    document: Document = MEASURED[name]
    drawn = (PLOTS / f"{name}.svg").read_text()
    assert drawn == plot(document)
    described = ElementTree.fromstring(drawn).findtext("{http://www.w3.org/2000/svg}desc")  # noqa: S314 (our own file)
    assert described is not None
    for variant in summarise(document):
        assert f"{variant}: " in described


@pytest.mark.parametrize("name", MEASURED)
def test_rounds_are_complete_and_were_taken_of_what_is_compared_now(name: str) -> None:
    document, comparison = MEASURED[name], COMPARISONS[name]
    assert document["question"] == comparison.question
    assert set(document["packages"]) == set(comparison.packages)
    rounds = [variant["rounds"] for variant in document["variants"]]
    assert {len(one) for one in rounds} == {document["options"]["rounds"]}
    assert all(one["requests_per_second"] > 0 for variant in rounds for one in variant)


@pytest.fixture
def compare(uv: str, tmp_path: Path) -> Iterator[Callable[[str], Summary]]:
    """Measures a comparison for a moment, in a service of its own."""
    folder, bench, venv = tmp_path / "service", REPOSITORY / "bench", REPOSITORY / ".cache/venv"
    shutil.copytree(REPOSITORY / SERVICE, folder, ignore=NOT_COPIED)
    in_venv = [uv, "run", "--quiet", "--locked", "--project", str(REPOSITORY / SERVICE)]
    environment = own_environment() | {
        "PYTHONPATH": f"{folder}:{REPOSITORY}:{bench}",
        "SECRET_KEY": "x1" * 16,
        "UV_PROJECT_ENVIRONMENT": str(venv),
    }

    def run(*command: str) -> None:
        done = subprocess.run(
            [*in_venv, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def measure(name: str) -> Summary:
        output = tmp_path / f"{name}.json"
        script = ["python", str(bench / "interleave.py"), str(output), str(venv / "bin/python")]
        run(*script, "--rounds", "1", "--seconds", "0.3")
        return summarise(json.loads(output.read_text()))

    try:
        run("manage", "database", "start")
        run("manage", "migrate")
        yield measure
    finally:
        run("manage", "database", "stop")


@pytest.mark.slow(1)
@pytest.mark.parametrize("name", ["tls", "pgbouncer", "remote"])
def test_comparison_is_measured_in_turns(compare: Callable[[str], Summary], name: str) -> None:
    summary = compare(name)
    assert set(summary) == {variant.name for variant in COMPARISONS[name].variants}
    assert all(figures["cpu_us"].median > 0 for figures in summary.values())
