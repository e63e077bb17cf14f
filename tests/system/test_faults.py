"""A campaign: one fault after another under load, each survived with no more seen than it says."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import REPOSITORY, SERVICE
from tests.servers import answers, wait_until
from tests.system.faults import FAULTS, Fault
from tests.system.load import Outcome, Plan, Target, run_load, sign_up
from tests.system.other_faults import OTHER_FAULTS
from tests.system.pressure.parts import run_sql
from tests.system.processes import master_pid, worker_pids
from tests.system.stack import Stack
from tests.system.trial import assert_created_once, serve_all

pytestmark = pytest.mark.slow(3)

LOAD = Plan(seconds=900, per_second=100)
SERVES_AGAIN_WITHIN_SECONDS = 60
# So many answers in a row, with nothing wrong among them.
ENOUGH = 100
CASES = [
    pytest.param(fault, id=f"{kind}: {fault.name}")
    for kind, faults in FAULTS.items()
    for fault in faults
]


@dataclass(frozen=True)
class Campaign:
    stack: Stack
    target: Target
    outcome: Outcome
    load: Thread
    master: int

    def live_through(self, fault: Fault) -> Counter[str]:
        """What clients saw that was no answer of 2xx."""
        before = self.outcome.failures.copy()
        fault.happens(self.stack)
        self.wait_until_it_serves()
        return self.outcome.failures - before

    def wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + SERVES_AGAIN_WITHIN_SECONDS
        answered, failed = self.outcome.answers, self.outcome.failures.total()
        while self.outcome.answers < answered + ENOUGH or not self.is_whole():
            if self.outcome.failures.total() > failed:
                answered, failed = self.outcome.answers, self.outcome.failures.total()
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.05)

    def story(self) -> str:
        workers, processes = worker_pids(self.stack), gunicorns(self.stack.project)
        return f"{self.outcome}; master {self.master}, workers {workers}, of {processes}"

    def is_whole(self) -> bool:
        """Two workers, of the same master, and nobody else."""
        workers = worker_pids(self.stack)
        return len(workers) == 2 and gunicorns(self.stack.project) == {self.master, *workers}


@pytest.fixture(scope="module")
def campaign(trial_project: Path, uv: str) -> Iterator[Campaign]:
    with serve_all(trial_project, uv, SERVER_GRACEFUL_TIMEOUT_SECONDS="10") as stack:
        # As in production; the development database may lose the last moment in a crash.
        run_sql(stack, "ALTER SYSTEM SET synchronous_commit = on")
        run_sql(stack, "SELECT pg_reload_conf()")
        target, outcome = Target(stack.http_port, sign_up(stack.url)), Outcome()
        thread = Thread(target=lambda: asyncio.run(run_load(target, LOAD, outcome)).answers)
        thread.start()
        try:
            campaign = Campaign(stack, target, outcome, thread, master_pid(stack))
            campaign.wait_until_it_serves()
            yield campaign
        finally:
            outcome.is_enough = True
            thread.join()


def gunicorns(project: Path) -> set[int]:
    """Of this service, whoever their parents are now."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and (folder / "cwd").resolve().is_relative_to(project):
                command = (folder / "cmdline").read_bytes()
                if b"gunicorn" in command and b"uv\0" not in command:
                    found.add(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("fault", CASES)
def test_service_survives_a_fault_when_under_load(
    campaign: Campaign, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    seen = campaign.live_through(fault)
    record_property(f"clients saw: {fault.name}", dict(seen) or "nothing")
    assert set(seen) <= fault.seen
    # A worker that leaves says 503 for 3 s.
    url = f"{campaign.stack.url}/readyz"
    wait_until(lambda: answers(url), url, SERVES_AGAIN_WITHIN_SECONDS)


def test_no_acknowledged_write_is_lost_in_the_campaign(campaign: Campaign) -> None:
    campaign.outcome.is_enough = True
    campaign.load.join()
    assert_created_once(campaign.stack, campaign.target, campaign.outcome)


def test_page_counts_what_was_tried() -> None:
    tried = Counter({kind: len(faults) for kind, faults in FAULTS.items()})
    for kind, files in OTHER_FAULTS.items():
        for file, tests in files.items():
            text = (REPOSITORY / file).read_text()
            assert [test for test in tests if f"def {test}(" not in text] == []
            tried[kind] += len(tests)
    page = (REPOSITORY / SERVICE / "docs/operations.md").read_text()
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    found = {kind: (int(number), int(survived)) for kind, number, survived in rows}
    # Whatever is tried here and not survived is red.
    assert found == {kind: (number, number) for kind, number in tried.items()} | {
        "together": (tried.total(), tried.total())
    }
