"""Wrong configurations, one at a time: which check of the doctor says so, or that none does.

The tables are in `campaign/`. A line is `check: pattern => text`, one change to the file above it,
or to an environment variable; `nothing` is let through, and the page says why. Below `--- new ---`
stands what was tried after the rules had been written.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from doctor.finding import Finding
from tests.doctor.conftest import DEPLOYMENTS, ROOT, edit, find_mistakes, keep_deployment

FOLDER = Path(__file__).with_name("campaign")
KINDS = ("nginx", "gunicorn", "compose", "kubernetes", "systemd", "settings")
NEW = "--- new ---"
LET_THROUGH = "nothing"


@dataclass(frozen=True)
class Case:
    kind: str
    is_new: bool
    file: str
    # The check, and the first words of what it says where a check has several to say.
    expected: str
    pattern: str
    text: str

    def is_said_by(self, finding: Finding) -> bool:
        return f"{finding.check} {finding.what}".startswith(f"{self.expected} ")


def read_cases(kind: str) -> Iterator[Case]:
    file, is_new = "", False
    for line in (FOLDER / f"{kind}.txt").read_text(encoding="utf-8").splitlines():
        if line == NEW:
            is_new = True
        elif line.startswith("["):
            file = line.strip("[]")
        elif line and not line.startswith("#"):
            expected, _, change = line.partition(": ")
            pattern, _, text = change.partition(" =>")
            yield Case(kind, is_new, file, expected, pattern, text[1:])


CASES = [case for kind in KINDS for case in read_cases(kind)]


def applies(case: Case) -> bool:
    """A generated service has the files of one deployment."""
    deployments = {kind for kind in DEPLOYMENTS if (ROOT / "deploy" / kind).is_dir()}
    if case.kind == "settings":
        # Behind systemd's socket there is no port, and whoever is heard may be trusted.
        return deployments != {"systemd"}
    return case.kind not in DEPLOYMENTS or case.kind in deployments


@pytest.mark.system  # nginx itself is asked about its files
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.kind}-{number}")
        for number, case in enumerate(CASES)
        if applies(case)
    ],
)
def test_wrong_configuration_is_caught_or_let_through_as_the_table_says(
    service: Path, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    keep_deployment(service, case.kind)
    if case.file == "environment":
        monkeypatch.setenv(case.pattern, case.text)
    else:
        edit(service, case.file, case.pattern, case.text)
    found = find_mistakes(service)
    is_caught = any(case.is_said_by(one) for one in found)
    assert found == [] if case.expected == LET_THROUGH else is_caught, [*map(str, found)]


@pytest.mark.parametrize("kind", DEPLOYMENTS)
def test_shipped_deployment_is_not_found_wrong(service: Path, kind: str) -> None:
    if (service / "deploy" / kind).is_dir():
        keep_deployment(service, kind)
    assert find_mistakes(service) == []


def test_page_counts_what_was_tried() -> None:
    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    expected = {kind: [*count(kind, is_new=False), *count(kind, is_new=True)] for kind in KINDS}
    together = [sum(numbers) for numbers in zip(*expected.values(), strict=True)]
    found = {kind: [int(number) for number in numbers] for kind, *numbers in rows}
    assert found == expected | {"together": together}


def count(kind: str, *, is_new: bool) -> tuple[int, int]:
    """Tried, and caught."""
    cases = [case for case in CASES if (case.kind, case.is_new) == (kind, is_new)]
    return len(cases), sum(case.expected != LET_THROUGH for case in cases)
