"""Tests here run real programs; what a machine lacks is skipped, or fails where it must not."""

import os
import shutil
from collections.abc import Callable

import pytest

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
