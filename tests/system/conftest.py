"""Tests here run real programs; what takes long to make is made once for all of them."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.system import debian
from tests.system.database import running_postgres
from tests.system.edge import Nginx
from tests.system.image import Buildah, Image, inspect
from tests.system.trial_routes import add_trial_routes

REVISION = "0123abc"
# As release.yml says it: the time of the commit.
BUILD = ("--build-arg", f"GIT_REVISION={REVISION}", "--build-arg", "SOURCE_DATE_EPOCH=1700000000")


@pytest.fixture(scope="session")
def nginx_of(
    require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Nginx]:
    """This machine's, or that of a Debian release."""

    @cache
    def find(release: str) -> Nginx:
        if release == "installed":
            return Nginx((require("nginx"),))
        require("apt-get")
        root = debian.unpack(release, "nginx", tmp_path_factory.mktemp(release))
        return Nginx(debian.program(root, "usr/sbin/nginx"))

    return find


@pytest.fixture(scope="session")
def image_project(default_bake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image") / default_bake.name
    return Path(shutil.copytree(default_bake, folder))


@pytest.fixture(scope="session")
def buildah(
    root: None, require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Buildah]:
    buildah = Buildah(require("buildah"), tmp_path_factory.mktemp("buildah") / "storage")
    yield buildah
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


@pytest.fixture(scope="session")
def image(image_project: Path, buildah: Buildah, require: Callable[[str], str]) -> Image:
    base = buildah.make_base(require("debootstrap"), image_project / "Dockerfile")
    tag = buildah.build(image_project, *BUILD)
    return inspect(buildah, tag, base)


@pytest.fixture(scope="session")
def secrets(image_project: Path, uv: str) -> Iterator[Path]:
    """A folder such as an engine mounts, with the address of a database for these tests."""
    folder = image_project.with_name("secrets")
    folder.mkdir()
    script = image_project / "deploy/compose/credentials.py"
    subprocess.run([sys.executable, script], check=True)
    shutil.copy(script.with_name("secrets") / "secret_key", folder)
    with running_postgres(image_project, uv) as url:
        (folder / "database_url").write_text(url)
        yield folder


@pytest.fixture(scope="session")
def migrated(image: Image, secrets: Path) -> str:
    log = secrets.with_name("migrate.log")
    assert image.start(secrets, log, "manage", "migrate").end() == 0, log.read_text()
    return log.read_text()


@pytest.fixture(scope="session")
def trial_project(bake_once: Bake, require: Callable[[str], str]) -> Path:
    """A service with routes that sleep, stream and stall; one for all, started by each module."""
    require("nginx")
    if not Path("/proc/self/task").is_dir():
        pytest.skip("it finds gunicorn's workers in /proc")
    return add_trial_routes(bake_once("trial"))
