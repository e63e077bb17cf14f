"""Counts of dead processes are kept once each, whatever happens to the one that adds them up."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import values

from server.metric_files import MetricFiles, make_directory, retire
from server.metrics import METRICS_VARIABLE, Counter, Histogram, use_own_files

REQUESTS = 7


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(METRICS_VARIABLE, str(tmp_path))
    return tmp_path


def in_child(work: Callable[[], object]) -> int:
    """In a process of its own; its id, once it has ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def count_requests() -> None:
    use_own_files()
    for _ in range(REQUESTS):
        Counter("served_total", "", "route").add(1, "/items")
        Histogram("took_seconds", "", edges=(0.1, 1.0)).observe(0.5)


def dead_workers(directory: Path, number: int) -> None:
    for _ in range(number):
        retire(directory, in_child(count_requests))


def read(directory: Path) -> dict[str, float]:
    return {
        sample.name: sample.value
        for metric in MetricFiles(directory).collect()
        for sample in metric.samples
        if sample.labels.get("le", "+Inf") == "+Inf"
    }


def test_counts_stay_when_files_of_dead_workers_are_folded(directory: Path) -> None:
    dead_workers(directory, 3)
    MetricFiles(directory).fold()
    dead_workers(directory, 1)
    MetricFiles(directory).fold()
    assert sorted(os.listdir(directory)) == ["counter_0.db", "histogram_0.db"]
    assert read(directory)["served_total"] == 4 * REQUESTS
    assert read(directory)["took_seconds_count"] == 4 * REQUESTS


@pytest.mark.parametrize("steps", range(12))
def test_nothing_counts_twice_when_folding_is_killed(
    directory: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    dead_workers(directory, 2)
    MetricFiles(directory).fold()
    dead_workers(directory, 2)

    def fold_some_steps() -> None:
        left = iter(range(steps))
        for name in ("unlink", "rename"):
            original = getattr(Path, name)

            def step(*arguments: object, original: Callable[..., object] = original) -> object:
                if next(left, None) is None:
                    os._exit(9)
                return original(*arguments)

            monkeypatch.setattr(Path, name, lambda *a, step=step, **_: step(*a))
        MetricFiles(directory).fold()

    in_child(fold_some_steps)
    MetricFiles(directory).fold()
    assert read(directory)["served_total"] == 4 * REQUESTS
    assert read(directory)["took_seconds_count"] == 4 * REQUESTS


@pytest.mark.parametrize("content", [b"", b"\x7f" * 100, b"\x40\0\0\0\0\0\0\0\x08\0\0\0{garbage"])
@pytest.mark.parametrize("name", ["counter_81.db", "histogram_81-5.db", "gauge_livesum_81.db"])
def test_damaged_file_is_passed_over_and_reported(
    directory: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    dead_workers(directory, 1)
    (directory / name).write_bytes(content)
    files = MetricFiles(directory)
    list(files.collect())
    files.fold()
    list(files.collect())
    assert files.damaged == {name}
    assert "is damaged" in caplog.text
    assert read(directory)["served_total"] == REQUESTS


def test_count_is_lost_alone_when_the_directory_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(METRICS_VARIABLE, "/nowhere")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # put back at the end
    use_own_files()
    Counter("served_total", "", "route").add(1, "/items")
    assert "served_total is not counted any more" in caplog.text


def test_file_grows_when_it_is_full(directory: Path) -> None:
    def count_many() -> None:
        use_own_files()
        counter = Counter("served_total", "", "route")
        for number in range(900):
            counter.add(1, f"/{number:0200}")

    pid = in_child(count_many)
    assert (directory / f"counter_{pid}.db").stat().st_size > 2**17
    assert (
        sum(
            sample.value for metric in MetricFiles(directory).collect() for sample in metric.samples
        )
        == 900
    )


def test_directory_of_a_dead_master_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = in_child(lambda: None)
    (tmp_path / f"metrics-{dead}-abc").mkdir()
    alive = tmp_path / f"metrics-{os.getppid()}-abc"
    alive.mkdir()
    new = make_directory(tmp_path, 2)
    assert set(tmp_path.iterdir()) == {alive, new}


def test_too_small_a_place_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_directory(tmp_path, 10**9)
    assert "The metrics need" in caplog.text
