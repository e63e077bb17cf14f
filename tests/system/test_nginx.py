"""The configuration of each deployment on this machine's nginx, Debian 13's and a current one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.edge import LAYOUTS, NEW_SINCE, WITHOUT_NEW, Nginx, lay_out

RELEASES = ("installed", "trixie", "forky")


@pytest.mark.parametrize("deployment", LAYOUTS)
@pytest.mark.parametrize("release", RELEASES)
def test_nginx_accepts_the_configuration(
    nginx_of: Callable[[str], Nginx], release: str, deployment: str, tmp_path: Path
) -> None:
    nginx = nginx_of(release)
    changes = {} if nginx.version() >= NEW_SINCE else WITHOUT_NEW
    assert nginx.check(lay_out(deployment, tmp_path / "nginx", changes)) == ""
