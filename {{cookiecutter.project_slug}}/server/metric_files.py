"""The files behind the metrics: one set a process; those of dead workers are added up into one.

counter_81.db           of the living process 81
counter_75-1069.db      of one that has ended; still counted, and a new 75 has its own
counter_0.db            the sum of earlier ones
folding                 names of files that the sum has, while they are being removed
"""

import contextlib
import json
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from server.metrics import FILE_BYTES, ReservedFile

log = logging.getLogger(__name__)

KINDS = ("counter", "histogram")
# Histogram, counters, two kinds of gauges: half of it was measured, with 40 routes.
PROCESS_BYTES = 8 * FILE_BYTES
PREFIX = "metrics-"
# What reading a damaged file raises.
DAMAGE = (struct.error, RuntimeError, ValueError, TypeError, KeyError)


def make_directory(parent: Path | None, processes: int) -> Path:
    """A new one for this master, so that those of two services never mix."""
    parent = parent or Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())  # noqa: S108
    for left in parent.glob(f"{PREFIX}*"):
        if not _is_alive(left.name.split("-")[1]):
            shutil.rmtree(left, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    free, needed = shutil.disk_usage(directory).free, processes * PROCESS_BYTES
    if free < needed:
        log.error("The metrics need %d bytes in %s and find %d", needed, parent, free)
    return directory


def _is_alive(pid: str) -> bool:
    # The master of an earlier container had the same number, and this one has made nothing yet.
    if not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def retire(directory: Path, pid: int) -> None:
    """In the master, before it forks again: what the worker has counted stays, its gauges go."""
    for gauge in directory.glob(f"gauge_live*_{pid}.db"):
        gauge.unlink(missing_ok=True)
    for kind in KINDS:
        with contextlib.suppress(FileNotFoundError):
            name = f"{kind}_{pid}-{time.monotonic_ns()}.db"
            (directory / f"{kind}_{pid}.db").rename(directory / name)


class MetricFiles(Collector):
    """Only the exporter folds and reads, one thread at a time: so nothing is seen twice."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = directory / "folding"
        self._lock = Lock()
        # Names of files that were passed over.
        self.damaged: set[str] = set()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            return self._merge()

    def fold(self) -> None:
        """Adds the files of dead workers to the sum; killed anywhere, the next one finishes it."""
        with self._lock:
            self._finish_fold()
            dead = sorted(self._directory.glob("*_*-*.db"))
            if not dead:
                return
            for kind in KINDS:
                total = self._directory / f"{kind}_0.db"
                self._write_sum(kind, [total, *(file for file in dead if _is(kind, file))])
            draft = self._journal.with_suffix(".new")
            draft.write_text(json.dumps([file.name for file in dead]))
            draft.rename(self._journal)  # from here on the new sum counts, and the files do not
            self._finish_fold()

    def _finish_fold(self) -> None:
        if self._journal.exists():
            for name in json.loads(self._journal.read_text()):
                (self._directory / name).unlink(missing_ok=True)
            for kind in KINDS:
                new = self._directory / f"{kind}_0.new"
                if new.exists():
                    new.rename(new.with_suffix(".db"))
            self._journal.unlink()

    def _write_sum(self, kind: str, files: list[Path]) -> None:
        sums: dict[str, float] = {}
        for file in files:
            for key, value in self._read(file):
                sums[key] = sums.get(key, 0) + value
        new = self._directory / f"{kind}_0.new"
        new.unlink(missing_ok=True)
        written = ReservedFile(str(new))
        with contextlib.closing(written):
            for key, value in sums.items():
                written.write_value(key, value, 0)  # type: ignore[no-untyped-call]

    def _read(self, file: Path) -> list[tuple[str, float]]:
        try:
            read = ReservedFile.read_all_values_from_file(file)  # type: ignore[no-untyped-call]
            return [(key, value) for key, value, _, _ in read if json.loads(key)]
        except FileNotFoundError:
            return []
        except DAMAGE as error:
            self._pass_over(file, error)
            return []

    def _merge(self) -> list[Metric]:
        while True:
            files = [str(file) for file in self._sound_files()]
            try:
                return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                continue  # it was renamed by the master just now
            except DAMAGE:
                if not any([self._find_damage(file) for file in files]):
                    raise

    def _sound_files(self) -> Iterator[Path]:
        for file in self._directory.glob("*.db"):
            if file.name not in self.damaged:
                yield file

    def _find_damage(self, file: str) -> bool:
        try:
            MultiProcessCollector.merge([file])  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            return True  # so that they are read again
        except DAMAGE as error:
            self._pass_over(Path(file), error)
            return True
        return False

    def _pass_over(self, file: Path, error: Exception) -> None:
        self.damaged.add(file.name)
        log.error("%s is damaged, what it has counted is lost: %s", file.name, error)


def _is(kind: str, file: Path) -> bool:
    return file.name.startswith(f"{kind}_")
