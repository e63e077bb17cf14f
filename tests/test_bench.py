"""`make bench` of the template: the service and what it is compared with, in one run."""

import re
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, own_environment

TARGETS = ("bare FastAPI route", "JWT, raw asyncpg", "GET /users/me", "POST /items")


@pytest.mark.slow(1)
def test_cost_of_a_request_is_compared_with_a_bare_route(uv: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "bench", "--rounds", "1", "--seconds", "0.3"],
        cwd=REPOSITORY,
        env=own_environment() | {"UV": uv},
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    rows = {name: row for row in printed.stdout.splitlines() for name in TARGETS if name in row}
    assert set(rows) == set(TARGETS)
    assert rows["bare FastAPI route"].split()[5] == "1.00"
    assert rows["GET /users/me"].split()[-2] == "4.0"
    for figure in ("import of app.main", "from the start to the first answer", "idle worker, PSS"):
        assert re.search(rf"^{figure}, \S+ +\d+\.\d+ .* (kept|exceeded)$", printed.stdout, re.M)
