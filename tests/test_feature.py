"""A feature in one command, in the service of each deployment; a service without the example."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Bake, own_environment

FILES_MAX, LINES_MAX = 12, 350
# What knows of all tables, routes and packages.
TESTS = ("tests/test_architecture.py", "tests/test_migrations.py", "tests/accounts/test_roles.py")

Run = Callable[..., str]

pytestmark = pytest.mark.slow(2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def run(shared: Path, uv: str) -> Run:
    """In one environment for all services of this module."""
    environment = own_environment() | {
        "UV_PROJECT_ENVIRONMENT": str(shared / "venv"),
        "MYPY_CACHE_DIR": str(shared / "mypy"),
    }

    def run(project: Path, *command: str) -> str:
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def new_service(bake: Bake, run: Run, deployment: str) -> Path:
    """In a repository, which then tells what has changed."""
    project = bake(deployment=deployment, project_slug="the-shop")
    run(project, "git", "init", "--quiet")
    commit(project, run)
    return project


def commit(project: Path, run: Run) -> None:
    run(project, "git", "add", "--all")
    author = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    run(project, "git", *author, "commit", "--quiet", "--message", "next")


@pytest.mark.parametrize("deployment", ["compose", "kubernetes", "systemd"])
def test_feature_is_small_and_passes_checks_and_tests(
    bake: Bake, run: Run, uv: str, deployment: str
) -> None:
    project = new_service(bake, run, deployment)
    run(project, "make", "feature", "NAME=parcels")
    run(project, "git", "add", "--all")
    changed = run(project, "git", "diff", "--cached", "--numstat").splitlines()
    assert len(changed) <= FILES_MAX
    assert sum(int(line.split()[0]) for line in changed) <= LINES_MAX
    run(project, "make", "check")
    arguments = ("--quiet", "-m", "not system", "tests/test_parcels.py", *TESTS)
    try:
        run(project, uv, "run", "--quiet", "pytest", *arguments)
        # The cases of nginx and gunicorn are the same in each: test_generated_service.py.
        cases = ("tests/doctor/test_campaign.py", "-k", deployment)
        run(project, uv, "run", "--quiet", "pytest", "--quiet", *cases)
    finally:
        run(project, uv, "run", "--quiet", "manage", "database", "stop")


def test_service_is_green_without_the_example(bake: Bake, run: Run, uv: str) -> None:
    project = new_service(bake, run, "compose")
    run(project, "make", "feature", "NAME=delivery_slots")
    run(project, "make", "remove-example")
    run(project, "make", "feature", "NAME=categories", "SINGULAR=category")
    sources = [*(project / "app").rglob("*.py"), *(project / "tests").rglob("*.py")]
    assert [path for path in sources if "app.items" in path.read_text()] == []
    try:
        run(project, "make", "check", "test")
    finally:
        run(project, uv, "run", "--quiet", "manage", "database", "stop")
