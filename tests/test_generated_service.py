"""What the README promises of a new service: its own checks and tests pass at once."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Bake, own_environment


def run(project: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=project, env=own_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Its system tests start servers and wait for them, two at a time.
@pytest.mark.alone
@pytest.mark.slow(6)
def test_new_service_passes_its_checks_and_tests(
    bake: Bake, uv: str, record_property: Callable[[str, object], None]
) -> None:
    """Its checks in each deployment: test_feature.py."""
    began = time.monotonic()
    project = bake()
    try:
        run(project, "make", "test")
        seconds = round(time.monotonic() - began, 1)
        record_property("from no folder to a tested service, seconds", seconds)
        run(project, "make", "check", "test-system")
    finally:
        # The tests leave it running for the next time.
        run(project, uv, "run", "--quiet", "manage", "database", "stop")
