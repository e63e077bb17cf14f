"""Reads the deployment files, and runs checkers that are no package of the service."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPOSITORY, SERVICE, own_environment

DEPLOY = REPOSITORY / SERVICE / "deploy"
GRACEFUL_SECONDS = 30  # gunicorn's graceful_timeout, server/settings.py

Tool = Callable[..., None]


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=own_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def look(tree: object, path: str) -> object:
    """What stands at a path such as `spec.containers.0.name`; None when nothing does."""
    for part in path.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)]
        elif isinstance(tree, dict):
            tree = tree.get(part)
        else:
            return None
    return tree


def number(tree: object, path: str) -> int:
    return int(re.findall(r"\d+", str(look(tree, path)))[0])


def mapping(tree: object, path: str) -> dict[str, object]:
    found = look(tree, path)
    assert isinstance(found, dict), path
    return found


def checker(uv: str) -> Tool:
    """Runs a command of a package, in an environment of its own."""

    def use(package: str, *command: str | Path) -> None:
        run(uv, "tool", "run", "--quiet", "--from", package, *command)

    return use


def first_commands(page: Path) -> str:
    """Of a guide, as a reader would paste them."""
    return page.read_text().split("```sh\n")[1].split("```")[0]
