"""The generated workflow on two releases: old code runs on a schema that grew, not on one cut."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import Bake, own_environment
from tests.system.database import running_postgres

WORKFLOW = ".github/workflows/compatibility.yml"
MIGRATION = '''"""Next."""

from alembic import op

revision = "next"
down_revision = "{head}"


def upgrade() -> None:
    op.execute("{statement}")
'''
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
# Of the tests that the workflow runs.
ENOUGH = "-q -x -k 'items and test_router'"


@pytest.fixture(scope="module")
def project(bake_once: Bake) -> Path:
    """Released once, on the branch that pull requests go to."""
    project = bake_once("compatibility")
    git(project, "init", "--quiet", "--initial-branch", "main")
    git(project, "add", "--all")
    git(project, *IDENTITY, "commit", "--quiet", "--message", "Release")
    git(project, "update-ref", "refs/remotes/origin/main", "HEAD")
    return project


@pytest.fixture(scope="module")
def database_url(project: Path, uv: str) -> Iterator[str]:
    with running_postgres(project, uv) as url:
        yield url


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("ALTER TABLE item ADD COLUMN note text", 0),
        ("ALTER TABLE item DROP COLUMN description", 1),
    ],
)
def test_old_code_passes_only_when_the_new_schema_keeps_what_it_uses(
    project: Path, database_url: str, statement: str, code: int
) -> None:
    versions = project / "migrations/versions"
    [head] = [path.stem.split("_")[3] for path in sorted(versions.glob("*.py"))[-1:]]
    migration = versions / "9999_next.py"
    migration.write_text(MIGRATION.format(head=head, statement=statement))
    try:
        done = run_workflow(project, database_url)
    finally:
        migration.unlink()
        git(project, "worktree", "remove", "--force", "../before")
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("UndefinedColumnError" in done.stdout) == (code == 1)


def run_workflow(project: Path, database_url: str) -> subprocess.CompletedProcess[str]:
    """Its last step, as GitHub runs it."""
    job = yaml.safe_load((project / WORKFLOW).read_text())["jobs"]["old-code-new-schema"]
    settings = {
        "BEFORE": "main",
        "ALEMBIC_CONFIG": str(project / "alembic.ini"),
        "DATABASE_URL": database_url,
        "PYTEST_ADDOPTS": ENOUGH,
        "UV_PROJECT_ENVIRONMENT": str(project.with_name("venv")),
    }
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", job["steps"][-1]["run"]],
        cwd=project,
        env=own_environment() | settings,
        capture_output=True,
        text=True,
        check=False,
    )


def git(project: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True)
