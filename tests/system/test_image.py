"""The image is really built and run, on a base made from Debian packages, without a registry."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from development.ports import free_port
from tests.system.conftest import BUILD, REVISION
from tests.system.image import Buildah, Container, Image, files_below, inspect

pytestmark = pytest.mark.slow(2)

# psycopg for the jobs, and 13 MB for traces and error reports, are part of it.
ADDED_BYTES_MAX = 115_000_000
STOPPED_WITHIN_SECONDS = 40  # stop_grace_period in deploy/compose


@pytest.fixture(scope="module")
def container(image: Image, secrets: Path, migrated: str) -> Iterator[Container]:
    settings = {"APP_PORT": str(free_port()), "WEB_CONCURRENCY": "1"}
    log = secrets.with_name("gunicorn.log")
    container = image.start(secrets, log, *image.list_of("Cmd"), **settings)
    try:
        container.wait_until_ready()
        yield container
    finally:
        container.kill()


def test_image_adds_at_most_115_mb(
    image: Image, record_property: Callable[[str, object], None]
) -> None:
    added = sum(path.lstat().st_size for path in image.added_files().values())
    record_property("image: MB on top of its base", added // 1_000_000)
    assert added <= ADDED_BYTES_MAX


def test_image_holds_packages_and_what_the_service_reads(image: Image) -> None:
    places = {"/".join(name.split("/")[:2]) for name in image.added_files()}
    # useradd keeps backups of what it changes in /etc.
    assert {place for place in places if not place.startswith("etc/")} == {
        "opt/venv",
        "srv/alembic.ini",
        "srv/gunicorn.conf.py",
        "srv/migrations",
    }


def test_image_brings_the_bytecode_of_all_modules(image: Image) -> None:
    names = set(image.added_files())
    modules = [name for name in names if "/site-packages/app/" in name and name.endswith(".py")]
    assert len(modules) > 20
    for name in modules:
        folder, _, stem = name.removesuffix(".py").rpartition("/")
        assert any(other.startswith(f"{folder}/__pycache__/{stem}.") for other in names), name


def test_image_holds_no_secret(image: Image, image_project: Path) -> None:
    lines = (image_project / ".env").read_text().splitlines()
    [secret] = [line.partition("=")[2].encode() for line in lines if line.startswith("SECRET_KEY=")]
    assert len(secret) > 30
    assert secret.decode() not in json.dumps(image.config)
    for name, path in image.added_files().items():
        assert path.is_symlink() or secret not in path.read_bytes(), name


def test_two_builds_of_the_same_tree_are_alike(
    buildah: Buildah, image: Image, image_project: Path, tmp_path: Path
) -> None:
    """Of another clone at another time: layer by layer, so file by file as well."""
    clone = Path(shutil.copytree(image_project, tmp_path / "clone", copy_function=shutil.copyfile))
    again = buildah.build(clone, *BUILD)
    second = inspect(buildah, again, image.base_name)
    assert fingerprints(second) == fingerprints(image)
    assert second.layers == image.layers
    # The day of the build, unless SOURCE_DATE_EPOCH says another one.
    assert "\napp:!:19675:" in (image.root / "etc/shadow").read_text()


def fingerprints(image: Image) -> dict[str, str]:
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files_below(image.root).items()
        if path.is_file() and not path.is_symlink()
    }


def test_image_migrates_the_database(migrated: str) -> None:
    assert "Running upgrade" in migrated
    assert "newest revision" in migrated


def test_image_answers_as_user_10001_when_its_root_is_read_only(container: Container) -> None:
    process = Path(f"/proc/{container.first_process()}")
    assert "Uid:\t10001\t10001\t10001\t10001" in (process / "status").read_text()
    assert f"GIT_REVISION={REVISION}" in (process / "environ").read_text().split("\0")
    # ENVIRONMENT=production tells strangers neither the revision nor the routes.
    assert '"git_revision":null' in container.get("/version")[1]
    assert container.get("/docs")[0] == 404


def test_health_check_passes_only_when_the_service_answers(
    image: Image, container: Container, secrets: Path, tmp_path: Path
) -> None:
    check = image.config["Healthcheck"]
    assert isinstance(check, dict)
    for port, code in ((container.port, 0), (str(free_port()), 1)):
        done = image.start(secrets, tmp_path / port, *check["Test"][1:], APP_PORT=port)
        assert done.end() == code


def test_image_stops_in_order_when_told_so(container: Container) -> None:
    began = time.monotonic()
    os.kill(container.first_process(), signal.SIGTERM)
    assert container.end() == 0
    assert time.monotonic() - began < STOPPED_WITHIN_SECONDS
    assert "Application shutdown complete" in container.log.read_text()
