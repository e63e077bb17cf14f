"""Reads the deployment files, and runs checkers that are no package of the service."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.conftest import REPOSITORY, SERVICE, own_environment
from tests.system import debian

DEPLOY = REPOSITORY / SERVICE / "deploy"
GRACEFUL_SECONDS = 30  # gunicorn's graceful_timeout, server/settings.py

Tool = Callable[..., None]
Kustomize = Callable[..., list[object]]


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


def kustomizer(require: Callable[[str], str], folder: Path) -> Kustomize:
    if shutil.which("kubectl"):
        kubectl: tuple[str, ...] = ("kubectl",)
    else:
        # That of Debian 12 is too old for these files.
        require("apt-get")
        root = debian.unpack("trixie", "kubectl", folder)
        kubectl = debian.program(root, "usr/bin/kubectl")

    def build(project: Path, overlay: str = "production") -> list[object]:
        text = run(*kubectl, "kustomize", project / "deploy/kubernetes" / overlay)
        return list(yaml.safe_load_all(text))

    return build


def of_kind(objects: list[object], kind: str, name: str | None = None) -> object:
    found = [item for item in objects if look(item, "kind") == kind]
    [one] = [item for item in found if name in (None, look(item, "metadata.name"))]
    return one


def first_commands(page: Path) -> str:
    """Of a guide, as a reader would paste them."""
    return page.read_text().split("```sh\n")[1].split("```")[0]
