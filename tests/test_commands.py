"""The commands that pages and messages print: one spelling, and it works without uv."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SERVICE, Bake, git_known_files, own_environment

PAGES = [REPOSITORY / name for name in git_known_files(REPOSITORY) if name.endswith(".md")]
PACKAGES = ("app", "server", "doctor", "manage", "development")
CODE = [path for package in PACKAGES for path in (REPOSITORY / SERVICE / package).rglob("*.py")]
# A command as it is typed: in a fenced or an indented block, at the beginning of a line.
TYPED = re.compile(r"^(?: {4,}|\$ )?manage [a-z-]+", re.MULTILINE)
PRINTED = re.compile(r"\.venv/bin/manage ([a-z-]+(?: [a-z]+)?)")


@pytest.mark.parametrize("path", [*PAGES, *CODE], ids=lambda path: path.name)
def test_command_needs_neither_uv_nor_a_changed_path(path: Path) -> None:
    text = path.read_text()
    assert "uv run" not in text, "write `.venv/bin/manage …`, or the make target"
    assert path in CODE or not TYPED.search(text), "write `.venv/bin/manage …`"


@pytest.mark.slow(1)
def test_printed_commands_run_when_there_is_no_uv(bake: Bake) -> None:
    project = bake()
    subprocess.run(["make", "setup"], cwd=project, env=own_environment(), check=True)
    printed = {words for path in PAGES for words in PRINTED.findall(path.read_text())}
    assert printed
    for words in printed:
        command = [project / ".venv/bin/manage", *words.split(), "--help"]
        environment = {"PATH": os.defpath, "HOME": str(project)}
        subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
