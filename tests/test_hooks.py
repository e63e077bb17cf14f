"""The hooks beside the answers: secrets, leftovers of a used template folder, running again."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException

from tests.conftest import REPOSITORY, SERVICE, Bake, copy_template

LINES_MAX = {"pre_gen_project.py": 125, "post_gen_project.py": 95}
LEFTOVERS = [
    ".env",
    ".local/database.env",
    ".local/postgres/PG_VERSION",
    ".venv/lib/site.py",
    ".uv/uv",
    ".mypy_cache/cache.json",
    ".pytest_cache/README.md",
    ".ruff_cache/x",
    "app/__pycache__/main.pyc",
    "app/items/__pycache__/router.pyc",
    "dist/service.whl",
    "service.egg-info/PKG-INFO",
]


def secret_of(project: Path) -> str:
    lines = (project / ".env").read_text().splitlines()
    return next(line.removeprefix("SECRET_KEY=") for line in lines if "SECRET_KEY=" in line)


@pytest.fixture
def used_template(tmp_path: Path) -> Path:
    """A template folder in which somebody ran the service's own commands."""
    copy = copy_template(tmp_path / "used")
    for name in LEFTOVERS:
        path = copy / SERVICE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{{ left.over }} {% end %}")
    return copy


def test_secret_is_new_in_every_bake(bake: Bake) -> None:
    secrets = {secret_of(bake("one")), secret_of(bake("two"))}
    assert len(secrets) == 2
    assert min(len(secret) for secret in secrets) >= 32


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_secret_is_readable_by_owner_only(bake: Bake) -> None:
    assert (bake() / ".env").stat().st_mode & 0o777 == 0o600


def test_secret_stays_out_of_replay_file(bake: Bake, user_config: Path) -> None:
    secret = secret_of(bake())
    replays = list(user_config.parent.glob("*.json"))
    assert replays
    assert all(secret not in replay.read_text() for replay in replays)


def test_overwriting_keeps_what_people_wrote(bake: Bake) -> None:
    project = bake()
    own = {".env": "SECRET_KEY=mine", ".local/data": "rows", "app/items/own.py": "", "notes": ""}
    for name, text in own.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    bake(overwrite=True)
    assert {name: (project / name).read_text() for name in own} == own


def test_overwriting_changes_nothing_when_nothing_changed(bake: Bake) -> None:
    project = bake(deployment="systemd", project_slug="shop")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    bake(overwrite=True, deployment="systemd", project_slug="shop")
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_leftovers_stay_behind_when_template_folder_was_used(
    bake: Bake, used_template: Path
) -> None:
    project = bake(source=used_template)
    assert [name for name in LEFTOVERS if name != ".env" and (project / name).exists()] == []
    assert "left.over" not in (project / ".env").read_text()
    assert all((used_template / SERVICE / name).exists() for name in LEFTOVERS)


def test_leftovers_stay_behind_when_template_path_is_relative(
    used_template: Path, tmp_path: Path, scratch: Path
) -> None:
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PWD": str(used_template),
        "TMPDIR": str(scratch),
    }
    output = ["--output-dir", "../bakes"]
    subprocess.run([*command, ".", *output], cwd=used_template, env=environment, check=True)
    assert not (tmp_path / "bakes/my-service/.venv").exists()


@pytest.mark.parametrize("precious", [".env", ".local"])
def test_overwriting_is_refused_when_leftovers_would_replace_own_data(
    bake: Bake, used_template: Path, capfd: pytest.CaptureFixture[str], precious: str
) -> None:
    project = bake()
    (project / ".env").unlink()
    own = project / precious / "rows" if precious == ".local" else project / precious
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    with pytest.raises(FailedHookException):
        bake(source=used_template, overwrite=True)
    assert own.read_text() == "mine"
    assert f"Delete {used_template / SERVICE / precious} first" in capfd.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such sockets in the file system")
def test_bake_is_refused_when_template_folder_is_running(
    bake: Bake, used_template: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # A socket path has 108 characters at most, so it is made here and moved.
        listening.bind(short := f"/tmp/{os.getpid()}.sock")  # noqa: S108
        Path(short).rename(used_template / SERVICE / ".local/server.sock")
        with pytest.raises(FailedHookException):
            bake(source=used_template)
    assert "Stop the service" in capfd.readouterr().err


def test_leftovers_are_known_to_git_cookiecutter_and_the_hook() -> None:
    ignored = (REPOSITORY / SERVICE / ".gitignore").read_text().split()
    copied = json.loads((REPOSITORY / "cookiecutter.json").read_text())["_copy_without_render"]
    hook = (REPOSITORY / "hooks/pre_gen_project.py").read_text()
    for name in (pattern.rstrip("/") for pattern in ignored):
        assert name in copied or f"*{name}" in copied
        assert name in hook or name.endswith("_cache")


def cruft(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "cruft", *arguments]
    environment = os.environ | {"TMPDIR": tempfile.gettempdir()}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "init", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--message=state")


@pytest.fixture
def crufted(tmp_path: Path) -> tuple[Path, Path]:
    """A template in git, and a service that `cruft create` made from it."""
    source = copy_template(tmp_path / "template")
    commit(source)
    cruft(tmp_path, "create", "--default-config", "--no-input", str(source))
    project = tmp_path / "my-service"
    commit(project)
    return source, project


def test_cruft_records_no_secret(crufted: tuple[Path, Path]) -> None:
    _, project = crufted
    assert secret_of(project) not in (project / ".cruft.json").read_text()
    assert cruft(project, "diff") == ""


def test_cruft_update_brings_changes_and_keeps_secret(crufted: tuple[Path, Path]) -> None:
    source, project = crufted
    secret = secret_of(project)
    readme = source / SERVICE / "README.md"
    readme.write_text(readme.read_text() + "\nA new sentence.\n")
    commit(source)
    cruft(project, "update", "--skip-apply-ask")
    assert "A new sentence." in (project / "README.md").read_text()
    assert secret_of(project) == secret
    assert not list(project.rglob("*.rej"))


def test_hooks_stay_small() -> None:
    for hook in (REPOSITORY / "hooks").glob("*.py"):
        assert len(hook.read_text().splitlines()) <= LINES_MAX[hook.name]


def test_generation_takes_under_two_seconds(
    template: Path,
    user_config: Path,
    tmp_path: Path,
    scratch: Path,
    record_property: Callable[[str, object], None],
) -> None:
    command = [sys.executable, "-m", "cookiecutter", "--no-input", f"--config-file={user_config}"]
    environment = os.environ | {"TMPDIR": str(scratch)}
    start = time.monotonic()
    subprocess.run(
        [*command, f"--output-dir={tmp_path}", str(template)], env=environment, check=True
    )
    seconds = time.monotonic() - start
    # Goal: 2 s. Not asserted, a busy machine would fail it.
    record_property("cookiecutter --no-input, seconds", round(seconds, 2))
