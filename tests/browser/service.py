"""The service under gunicorn for the browser, and what a test does with a page of it."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from playwright.sync_api import Page

from development.ports import free_port
from tests.conftest import find_uv, own_environment
from tests.servers import answers, running

SERVICE = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}"
SCREENSHOTS = Path(__file__).parents[2] / ".cache" / "screenshots"
NOT_COPIED = shutil.ignore_patterns(".env", ".local", ".venv", ".*_cache", "__pycache__")
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Service:
    folder: Path
    port: int
    admin_email: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running_service(
    folder: Path, change: Callable[[Path], None] = lambda _folder: None, **settings: str
) -> Iterator[Service]:
    """A copy of the service folder, so that nothing is left behind in the template."""
    shutil.copytree(SERVICE, folder, ignore=NOT_COPIED)
    change(folder)
    service = Service(folder, free_port(), f"admin-{uuid4().hex}@example.com")
    environment = environment_of(service.port) | settings
    started = start_database(folder, environment)
    run(folder, environment, "manage", "migrate")
    create_admin = ("manage", "create-admin", "--email", service.admin_email, "--password-stdin")
    run(folder, environment, *create_admin, text=PASSWORD)
    log, ready = folder / "gunicorn.log", f"{service.url}/readyz"
    gunicorn = command("gunicorn")
    try:
        with running(gunicorn, log, lambda: answers(ready), environment=environment):
            yield service
    finally:
        if started:
            run(folder, environment, "manage", "database", "stop")


def log_in(page: Page, email: str, password: str) -> None:
    page.goto("")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def take_screenshot(page: Page, test_name: str) -> None:
    """Kept for a person to look at, in a folder that git ignores."""
    folder = Path(os.environ.get("ARTIFACTS_DIR") or SCREENSHOTS)
    name = "".join(c if c.isalnum() else "-" for c in test_name).strip("-")
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def environment_of(port: int) -> dict[str, str]:
    return own_environment() | {
        "APP_PORT": str(port),
        "WEB_CONCURRENCY": "2",
        "ENVIRONMENT": "development",
        "SECRET_KEY": secrets.token_urlsafe(48),
    }


def start_database(folder: Path, environment: dict[str, str]) -> bool:
    """Only when nobody has named one."""
    if "DATABASE_URL" in environment:
        return False
    run(folder, environment, "manage", "database", "start")
    return True


def command(*arguments: str) -> list[str]:
    return [find_uv(), "run", "--quiet", "--no-dev", *arguments]


def run(folder: Path, environment: dict[str, str], *arguments: str, text: str = "") -> None:
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
