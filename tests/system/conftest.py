"""Tests here run real programs; what a machine lacks is skipped, or fails where it must not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.system.trial_routes import add_trial_routes

# Debian keeps servers in sbin, which is not on a user's PATH.
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    def find(binary: str) -> str:
        found = shutil.which(binary, path=SEARCHED)
        if found is None:
            reason = f"{binary} is not installed"
            if os.environ.get("REQUIRE_SYSTEM") == "1":
                pytest.fail(f"{reason}, and REQUIRE_SYSTEM=1 asks for it")
            pytest.skip(reason)
        return found

    return find


@pytest.fixture(scope="session")
def trial_project(bake_once: Bake, require: Callable[[str], str]) -> Path:
    """A service with routes that sleep, stream and stall; one for all, started by each module."""
    require("nginx")
    if not Path("/proc/self/task").is_dir():
        pytest.skip("it finds gunicorn's workers in /proc")
    return add_trial_routes(bake_once("trial"))
