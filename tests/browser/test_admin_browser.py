"""The admin app in a real Chromium, against gunicorn with two workers on PostgreSQL."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

try:
    from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright
except ImportError:
    if os.environ.get("REQUIRE_SYSTEM") == "1":
        raise
    pytest.skip("playwright is not installed", allow_module_level=True)

SERVICE = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}"
NOT_COPIED = shutil.ignore_patterns(".env", ".local", ".venv", ".*_cache", "__pycache__")
PASSWORD = "correct horse battery staple"
READY_WITHIN_SECONDS = 60
STOP_WITHIN_SECONDS = 40
PHONE = ViewportSize(width=390, height=844)
# A browser that talks to nobody but the service, in a container that has no sandbox of its own.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES = ("", "user/list", "item/list", "session/list", "audit-entry/list")

pytestmark = pytest.mark.xdist_group("admin_browser")


@dataclass(frozen=True)
class Service:
    url: str
    admin_email: str


@dataclass(frozen=True)
class User:
    id: str
    email: str
    headers: dict[str, str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    binary = shutil.which("chromium")
    if binary is None:
        if os.environ.get("REQUIRE_SYSTEM") == "1":
            pytest.fail("chromium is not installed, and REQUIRE_SYSTEM=1 asks for it")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A copy of the service folder, so that nothing is left behind in the template."""
    folder = tmp_path_factory.mktemp("browser") / "service"
    shutil.copytree(SERVICE, folder, ignore=NOT_COPIED)
    port, admin_email = free_port(), f"admin-{uuid4().hex}@example.com"
    environment = environment_of(port)
    started = start_database(folder, environment)
    run(folder, environment, "manage", "migrate")
    create_admin = ("manage", "create-admin", "--email", admin_email, "--password-stdin")
    run(folder, environment, *create_admin, text=PASSWORD)
    with (folder / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(
            command("gunicorn"), cwd=folder, env=environment, stdout=log, stderr=log
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield Service(f"http://127.0.0.1:{port}", admin_email)
    finally:
        process.terminate()
        process.wait(STOP_WITHIN_SECONDS)
        if started:
            run(folder, environment, "manage", "database", "stop")


@pytest.fixture
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Every error in the console counts: a violation of the Content-Security-Policy is one."""
    context = browser.new_context(base_url=f"{service.url}/admin/")
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    take_screenshot(page, request.node.name)
    context.close()
    # The answer to a wrong password is a 400, which Chromium always writes to the console.
    assert [error for error in errors if "status of 400" not in error] == []


@pytest.fixture
def admin(page: Page, service: Service) -> Page:
    log_in(page, service.admin_email, PASSWORD)
    expect(page.get_by_role("heading", name="Newest changes")).to_be_visible()
    return page


@pytest.fixture
def user(service: Service) -> User:
    email = f"user-{uuid4().hex}@example.com"
    with httpx2.Client(base_url=f"{service.url}/api/v1") as client:
        created = client.post("/users", json={"email": email, "password": PASSWORD})
        form = {"username": email, "password": PASSWORD}
        token = client.post("/auth/token", data=form).json()["access_token"]
    return User(created.json()["id"], email, {"Authorization": f"Bearer {token}"})


def test_wrong_password_is_refused(page: Page, service: Service) -> None:
    log_in(page, service.admin_email, "wrong password")
    expect(page.get_by_role("alert")).to_contain_text("password is wrong")


def test_user_is_found_and_renamed(admin: Page, user: User) -> None:
    admin.goto("user/list")
    admin.locator("#search-input").fill(user.email)
    admin.get_by_role("button", name="Search").click()
    expect(admin.locator("tbody tr")).to_have_count(1)
    admin.locator("a[href*='/user/edit/']").click()
    admin.get_by_label("Full name").fill("Grace Hopper")
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.get_by_role("cell", name="Grace Hopper")).to_be_visible()


def test_token_fails_and_log_tells_when_user_is_disabled(
    admin: Page, service: Service, user: User
) -> None:
    me = f"{service.url}/api/v1/users/me"
    assert httpx2.get(me, headers=user.headers).status_code == 200
    admin.goto(f"user/details/{user.id}")
    admin.get_by_role("link", name="Disable", exact=True).click()
    admin.locator("#modal-confirmation-disable").get_by_role("button", name="Yes").click()
    expect(admin.get_by_role("row", name="Disabled")).to_contain_text("UTC")
    assert httpx2.get(me, headers=user.headers).status_code == 401
    admin.goto(f"audit-entry/list?search={user.id}")
    expect(admin.locator("tbody tr")).to_contain_text(["disable"])


def test_action_of_a_list_changes_the_rows_that_are_ticked(admin: Page, user: User) -> None:
    admin.goto(f"user/list?search={user.email}")
    admin.locator("tbody .select-box").check()
    admin.get_by_role("button", name="Actions").click()
    admin.get_by_role("link", name="Make admin").click()
    admin.locator("#modal-confirmation-make-admin").get_by_role("button", name="Yes").click()
    expect(admin.get_by_role("row", name="Admin").locator(".fa-check")).to_be_visible()


def test_item_is_deleted_after_a_question(admin: Page, service: Service, user: User) -> None:
    items = f"{service.url}/api/v1/items"
    item = httpx2.post(items, json={"title": "Old"}, headers=user.headers).json()
    admin.goto(f"item/details/{item['id']}")
    admin.get_by_role("link", name="Delete").click()
    admin.locator("#modal-delete-button").click()
    expect(admin.get_by_role("heading", name="Items")).to_be_visible()
    assert httpx2.get(f"{items}/{item['id']}", headers=user.headers).status_code == 404


def test_cookie_is_worthless_after_logout(admin: Page, service: Service) -> None:
    cookies = {
        cookie.get("name", ""): cookie.get("value", "") for cookie in admin.context.cookies()
    }
    admin.get_by_role("button", name="Log out").click()
    expect(admin.get_by_role("button", name="Log in")).to_be_visible()
    with httpx2.Client(cookies=cookies) as thief:
        assert thief.get(f"{service.url}/admin/user/list").status_code == 302


@pytest.mark.parametrize("path", PAGES)
def test_page_fits_a_phone(admin: Page, user: User, path: str) -> None:
    admin.set_viewport_size(PHONE)
    admin.goto(path)
    assert admin.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def log_in(page: Page, email: str, password: str) -> None:
    page.goto("")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def take_screenshot(page: Page, test_name: str) -> None:
    folder = os.environ.get("ARTIFACTS_DIR")
    if folder:
        name = "".join(c if c.isalnum() else "-" for c in test_name).strip("-")
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_of(port: int) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV")
    }
    return inherited | {
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
    uv = os.environ.get("UV") or shutil.which("uv") or pytest.fail("uv is not installed")
    return [uv, "run", "--quiet", "--no-dev", *arguments]


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


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx2.HTTPError):
            if httpx2.get(f"{url}/readyz").status_code == httpx2.codes.OK:
                return
        time.sleep(0.1)
    raise AssertionError("the service did not become ready")
