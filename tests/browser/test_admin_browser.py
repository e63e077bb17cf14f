"""The admin app in a real Chromium, against gunicorn with two workers on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import httpx2
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.service import PASSWORD, Service, log_in, take_screenshot

PHONE = ViewportSize(width=390, height=844)
DESKTOP = ViewportSize(width=1280, height=850)
PAGES = (
    "",
    "user/list",
    "user/create",
    "user/details/{user}",
    "user/edit/{user}",
    "item/list",
    "item/details/{item}",
    "item/edit/{item}",
    "session/list",
    "audit-entry/list",
)

pytestmark = pytest.mark.xdist_group("admin_browser")


@dataclass(frozen=True)
class User:
    id: str
    email: str
    headers: dict[str, str]


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
    expect(admin.get_by_role("row", name="Role")).to_contain_text("admin")


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
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_page_fits_the_screen(
    admin: Page, service: Service, user: User, path: str, size: ViewportSize
) -> None:
    item = {"title": "Title without a space to break at " + "x" * 150, "description": "y" * 500}
    items = f"{service.url}/api/v1/items"
    item_id = httpx2.post(items, json=item, headers=user.headers).json()["id"]
    admin.set_viewport_size(size)
    admin.goto(path.format(user=user.id, item=item_id))
    assert_fits(admin, size)


def test_login_and_menu_fit_a_phone(page: Page, service: Service) -> None:
    page.set_viewport_size(PHONE)
    log_in(page, service.admin_email, "wrong password")
    expect(page.get_by_role("alert")).to_be_visible()
    assert_fits(page, PHONE)
    log_in(page, service.admin_email, PASSWORD)
    page.get_by_label("Menu").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert_fits(page, PHONE)


def test_audit_entry_fits_a_phone(admin: Page) -> None:
    admin.set_viewport_size(PHONE)
    admin.goto("audit-entry/list")
    admin.locator("a[href*='/audit-entry/details/']").first.click()
    expect(admin.get_by_role("row", name="When")).to_be_visible()
    assert_fits(admin, PHONE)


def test_user_is_created(admin: Page) -> None:
    email = f"new-{uuid4().hex}@example.com"
    admin.goto("user/list")
    admin.get_by_role("link", name="New User").click()
    admin.get_by_label("Email").fill(email)
    admin.get_by_role("button", name="Save").click()
    expect(admin.get_by_role("cell", name=email)).to_be_visible()


def assert_fits(page: Page, size: ViewportSize) -> None:
    """Nothing has to be scrolled sideways; wide tables scroll within their card."""
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
