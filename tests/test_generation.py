"""What every combination of answers generates."""

import fnmatch
import itertools
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, SERVICE, Bake, own_environment

DEPLOYMENTS = ("compose", "kubernetes", "systemd")
LICENSES = {"MIT": "MIT License", "Apache-2.0": "Apache License", "Proprietary": "proprietary"}
# The closed list: everything else reaches the user byte for byte.
RENDERED = {".env.example", "LICENSE", "README.md", "deploy/nginx/site/server_name.conf"}
# The hook writes the service's own name there.
NAMED = {"app/about.toml", "pyproject.toml", "uv.lock", "deploy/compose/compose.yaml"}
# Rendered as well, each for one deployment.
KUBERNETES_NAMES = "deploy/kubernetes/base/names.env"
COMPOSE_SETTINGS = "deploy/compose/.env.example"
# What only some deployments have, besides the folder of each.
IMAGE = {"Dockerfile", ".dockerignore", ".github/workflows/release.yml"}
WINDOWS_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)
UNFINISHED = re.compile(r"cookiecutter|\{\{|\{%|\bTODO\b")


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def service_files(template: Path) -> set[str]:
    return files_below(template / SERVICE)


def belongs_to_another(name: str, deployment: str) -> bool:
    if name in IMAGE or name.startswith("deploy/image/"):
        return deployment == "systemd"
    if name == "deploy/nginx/kustomization.yaml":
        return deployment != "kubernetes"
    return any(name.startswith(f"deploy/{other}/") for other in DEPLOYMENTS if other != deployment)


@pytest.mark.parametrize(("deployment", "licence"), list(itertools.product(DEPLOYMENTS, LICENSES)))
def test_bake_holds_only_what_was_chosen(
    bake: Bake, service_files: set[str], deployment: str, licence: str
) -> None:
    project = bake(deployment=deployment, license=licence)
    expected = {name for name in service_files if not belongs_to_another(name, deployment)}
    assert files_below(project) == expected | {".env"}
    assert LICENSES[licence] in (project / "LICENSE").read_text()
    for name in RENDERED:
        assert re.search(r"\S\n\Z", (project / name).read_text()), f"{name} ends with one newline"


def test_bake_differs_from_template_only_in_closed_list(
    template: Path, service_files: set[str], default_bake: Path
) -> None:
    before, after = template / SERVICE, default_bake
    shared = files_below(after) & service_files
    different = {n for n in shared if (before / n).read_bytes() != (after / n).read_bytes()}
    assert different == RENDERED | NAMED | {COMPOSE_SETTINGS}


def test_every_file_but_the_closed_list_is_copied_without_rendering(
    service_files: set[str],
) -> None:
    patterns = json.loads((REPOSITORY / "cookiecutter.json").read_text())["_copy_without_render"]
    rendered = {
        name
        for name in service_files
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    expected = RENDERED | {KUBERNETES_NAMES, COMPOSE_SETTINGS}
    assert rendered == expected, "add the new kind of file to _copy_without_render"


def test_copied_folders_are_leftovers_only(service_files: set[str]) -> None:
    # Cookiecutter deletes a folder it copies whole before it overwrites it: a person's files too.
    patterns = json.loads((REPOSITORY / "cookiecutter.json").read_text())["_copy_without_render"]
    folders = {parent.as_posix() for name in service_files for parent in Path(name).parents}
    matched = {f for f in folders if any(fnmatch.fnmatchcase(f, pattern) for pattern in patterns)}
    assert matched == set()


def test_bake_leaves_nothing_unrendered(default_bake: Path) -> None:
    left = {
        name
        for name in files_below(default_bake) - {"uv.lock"}
        if UNFINISHED.search((default_bake / name).read_text(encoding="utf-8"))
    }
    # Pages of the admin are templates of the running service; so are rules and dashboards.
    own_braces = (
        ".github/", "app/admin/templates/", "deploy/observability/", "deploy/kubernetes/monitoring/"
    )  # fmt: skip
    assert {name for name in left if not name.startswith(own_braces)} == set()


def test_service_code_holds_no_jinja(template: Path, service_files: set[str]) -> None:
    python = [name for name in service_files if name.endswith(".py")]
    marked = [n for n in python if re.search(r"\{\{|\{%", (template / SERVICE / n).read_text())]
    assert marked == []


def test_bake_holds_valid_data_files(default_bake: Path) -> None:
    for path in default_bake.rglob("*"):
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".toml" | ".lock":
                tomllib.loads(path.read_text())
            case ".yml" | ".yaml":
                list(yaml.safe_load_all(path.read_text()))


def test_names_are_legal_on_windows_and_macos(template: Path) -> None:
    names = files_below(template)
    for part in {part for name in names for part in Path(name).parts}:
        assert not re.search(r'[<>:"|?*\\]|[ .]$', part), part
        assert not WINDOWS_RESERVED.fullmatch(part), part
    assert len({name.lower() for name in names}) == len(names)


def test_two_bakes_are_equal_but_for_secrets(bake: Bake) -> None:
    one, two = bake("one"), bake("two")
    names = files_below(one)
    assert names == files_below(two)
    different = {name for name in names if (one / name).read_bytes() != (two / name).read_bytes()}
    assert different == {".env"}


# In front of all packages, between them, after them, and with a name that is normalised.
@pytest.mark.parametrize("slug", ["service", "aaa", "my_shop-2", "zzz"])
def test_lock_is_current_when_named(bake: Bake, uv: str, slug: str) -> None:
    project = bake(project_slug=slug)
    before = (project / "uv.lock").read_bytes()
    for options in (["--check"], []):
        command = [uv, "lock", "--offline", *options]
        subprocess.run(command, cwd=project, env=own_environment(), check=True)
    assert (project / "uv.lock").read_bytes() == before
