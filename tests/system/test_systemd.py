"""deploy/systemd: the units are valid and tight; test_systemd_machine.py runs them."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SERVICE

DEPLOY = REPOSITORY / SERVICE / "deploy/systemd"
UNITS = {
    "app@.service": "shop@1.service",
    "jobs@.service": "shop-jobs@1.service",
    "app.socket": "shop.socket",
    "app@.socket": "shop@1.socket",
    "nginx.service": "shop-nginx.service",
}
EXPOSURE_MAX = 2.0


@pytest.fixture
def units(tmp_path: Path) -> Path:
    for shipped, installed in UNITS.items():
        text = (DEPLOY / shipped).read_text().replace("NAME", "shop").replace("RELEASE", "1")
        # The only things that are missing here are the programs themselves.
        programs = r"/opt/\S+/bin/(gunicorn|manage work)|/usr/sbin/nginx [^\n]+"
        (tmp_path / installed).write_text(re.sub(programs, "/bin/true", text))
    return tmp_path


def test_units_are_valid(units: Path, require: Callable[[str], str]) -> None:
    files = [str(units / name) for name in UNITS.values()]
    command = [require("systemd-analyze"), "verify", "--man=no", *files]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["app@.service", "jobs@.service"])
def test_unit_is_tight(units: Path, require: Callable[[str], str], unit: str) -> None:
    analyze = [require("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    command = [*analyze, str(units / UNITS[unit])]
    rated = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert float(re.findall(r"Overall exposure level .*: ([\d.]+)", rated)[0]) < EXPOSURE_MAX
