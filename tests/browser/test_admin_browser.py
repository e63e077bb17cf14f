"""The admin app in a real Chromium, against gunicorn with two workers on PostgreSQL."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.service import PASSWORD, Service, log_in, take_screenshot

PHONE = ViewportSize(width=390, height=844)
DESKTOP = ViewportSize(width=1280, height=850)
WIDE = ViewportSize(width=1920, height=1080)
PAGES = {
    "home": "",
    "users": "user/list",
    "users found": "user/list?search={email}&disabled=false&sortBy=email&sort=asc",
    "nothing found": "user/list?search=nobody@nowhere",
    "items": "item/list",
    "sessions": "session/list",
    "audit log": "audit-entry/list",
    "user": "user/details/{user}",
    "item": "item/details/{item}",
    "new user": "user/create",
    "edit user": "user/edit/{user}",
    "edit item": "item/edit/{item}",
    "history": "user/history/{user}",
    "disable": "user/action/disable?pks={user}",
    "delete": "user/action/delete?pks={user}",
    "not found": "nothing",
}
EXPECTED_STATUS = re.compile("status of 40[04]")
STANDARDS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@dataclass(frozen=True)
class User:
    id: str
    email: str
    headers: dict[str, str]


@pytest.fixture
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Every error in the console counts: a violation of the Content-Security-Policy is one."""
    # Colours that are still fading would be measured on a busy machine.
    context = browser.new_context(base_url=f"{service.url}/admin/", reduced_motion="reduce")
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    take_screenshot(page, request.node.name)
    context.close()
    # A wrong password and a page that is missing: Chromium always writes these to the console.
    assert [error for error in errors if not EXPECTED_STATUS.search(error)] == []


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
    expect(page.get_by_label("Email")).to_have_value(service.admin_email)
    expect(page.get_by_label("Password")).to_be_focused()


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
    admin.get_by_role("button", name="Disable").click()
    expect(admin.get_by_role("row", name="Disabled").locator("time")).to_be_visible()
    assert httpx2.get(me, headers=user.headers).status_code == 401
    admin.goto(f"audit-entry/list?search={user.id}")
    expect(admin.locator("tbody tr")).to_contain_text(["disable"])


def test_action_of_a_list_changes_the_rows_that_are_selected(admin: Page, user: User) -> None:
    admin.goto(f"user/list?search={user.email}")
    expect(admin.get_by_role("button", name="Actions")).to_be_disabled()
    admin.get_by_label(f"Select {user.email}").check()
    admin.get_by_role("button", name="Actions (1)").click()
    admin.get_by_role("button", name="End sessions").click()
    expect(admin.get_by_role("link", name=user.email)).to_be_visible()
    admin.get_by_role("button", name="End sessions").click()
    expect(admin.get_by_role("status")).to_have_text("1 user logged out.")


def test_open_menu_of_actions_is_good_for_everybody(admin: Page, user: User) -> None:
    admin.goto(f"user/list?search={user.email}")
    admin.get_by_label(f"Select {user.email}").check()
    admin.get_by_role("button", name="Actions (1)").click()
    expect(admin.get_by_role("button", name="Delete")).to_be_visible()
    # The menu covers controls of the list, which are too small only meanwhile.
    assert_good_for_everybody(admin, "actions", within="#selection")


def test_item_is_deleted_after_a_question(admin: Page, service: Service, user: User) -> None:
    items = f"{service.url}/api/v1/items"
    item = httpx2.post(items, json={"title": "Old"}, headers=user.headers).json()
    admin.goto(f"item/details/{item['id']}")
    admin.get_by_role("link", name="Delete").click()
    admin.get_by_role("button", name="Delete").click()
    expect(admin.get_by_role("heading", name="Items")).to_be_visible()
    assert httpx2.get(f"{items}/{item['id']}", headers=user.headers).status_code == 404


def test_list_is_saved_as_a_file(admin: Page, user: User) -> None:
    admin.goto(f"user/list?search={user.email}")
    with admin.expect_download() as download:
        admin.get_by_role("link", name="Export CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert (lines[0][:8], user.email in lines[1], len(lines)) == ("id,email", True, 2)


def test_time_is_shown_in_the_zone_of_the_reader(browser: Browser, service: Service) -> None:
    context = browser.new_context(base_url=f"{service.url}/admin/", timezone_id="Asia/Kathmandu")
    page = context.new_page()
    log_in(page, service.admin_email, PASSWORD)
    time = page.locator("time").first
    shown = "new Intl.DateTimeFormat(undefined, {dateStyle: 'medium', timeStyle: 'short',"
    shown += " timeZone: 'Asia/Kathmandu'}).format(new Date(time.dateTime))"
    expect(time).to_have_text(str(time.evaluate(f"(time) => {shown}")))
    assert str(time.get_attribute("title")).endswith(" UTC")
    context.close()


def test_cookie_is_worthless_after_logout(admin: Page, service: Service) -> None:
    cookies = {
        cookie.get("name", ""): cookie.get("value", "") for cookie in admin.context.cookies()
    }
    admin.get_by_role("button", name="Log out").click()
    expect(admin.get_by_role("button", name="Log in")).to_be_visible()
    with httpx2.Client(cookies=cookies) as thief:
        assert thief.get(f"{service.url}/admin/user/list").status_code == 302


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_every_screen_and_can_be_read_by_everybody(
    admin: Page, service: Service, user: User, name: str
) -> None:
    item = {"title": "Title without a space to break at " + "x" * 150, "description": "y" * 500}
    items = f"{service.url}/api/v1/items"
    item_id = httpx2.post(items, json=item, headers=user.headers).json()["id"]
    for action in ("disable", "enable"):
        admin.goto(f"user/action/{action}?pks={user.id}")
        admin.get_by_role("button", name=action.capitalize()).click()
    admin.goto(PAGES[name].format(user=user.id, item=item_id, email=user.email))
    assert_good_for_everybody(admin, name)


def test_pages_of_a_long_list_are_good_for_everybody(
    admin: Page, service: Service, user: User
) -> None:
    with httpx2.Client(base_url=f"{service.url}/api/v1", headers=user.headers) as client:
        for number in range(51):
            client.post("/items", json={"title": f"Item {number}"}).raise_for_status()
    admin.goto(f"item/list?search={user.email}&page=2")
    expect(admin.get_by_label("Page 2", exact=True)).to_have_attribute("aria-current", "page")
    chosen = admin.get_by_role("link", name="25 a page")
    expect(chosen).to_have_attribute("aria-current", "true")
    assert_good_for_everybody(admin, "long list")


def test_login_and_menu_fit_a_phone(page: Page, service: Service) -> None:
    log_in(page, service.admin_email, "wrong password")
    expect(page.get_by_role("alert")).to_be_visible()
    assert_good_for_everybody(page, "login")
    page.set_viewport_size(PHONE)
    log_in(page, service.admin_email, PASSWORD)
    page.get_by_label("Menu").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert_fits(page, PHONE)


def test_audit_entry_is_good_for_everybody(admin: Page) -> None:
    admin.goto("audit-entry/list")
    admin.locator("a[href*='/audit-entry/details/']").first.click()
    expect(admin.get_by_role("row", name="When")).to_be_visible()
    assert_good_for_everybody(admin, "audit entry")


def test_first_key_skips_the_menu(admin: Page) -> None:
    admin.goto("user/list")
    admin.keyboard.press("Tab")
    skip = admin.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    admin.keyboard.press("Enter")
    expect(admin.get_by_role("main")).to_be_focused()


def test_user_is_created(admin: Page) -> None:
    email = f"new-{uuid4().hex}@example.com"
    admin.goto("user/list")
    admin.get_by_role("link", name="New user").click()
    admin.get_by_label("Email").fill(email)
    admin.get_by_role("button", name="Save").click()
    expect(admin.get_by_role("link", name=email, exact=True)).to_be_visible()


def assert_good_for_everybody(page: Page, name: str, within: str = "html") -> None:
    """At each size and in both modes: nothing runs out, and axe finds nothing."""
    modes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for mode in modes:
        page.emulate_media(color_scheme=mode)
        for size in (PHONE, DESKTOP, WIDE):
            page.set_viewport_size(size)
            expect(page.locator("html")).to_have_attribute("data-bs-theme", mode)
            assert_fits(page, size)
            take_screenshot(page, f"admin {name} {size['width']} {mode}")
            if size != WIDE:  # the same page as at 1280, only wider
                options = {"runOnly": list(STANDARDS), "resultTypes": ["violations"]}
                assert [
                    (found["id"], [node["html"] for node in found["nodes"]])
                    for found in Axe().run(page, within, options).response["violations"]
                ] == []


def assert_fits(page: Page, size: ViewportSize) -> None:
    """Nothing has to be scrolled sideways, and nothing is cut off at the side of its card."""
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    widths = "(cards) => cards.filter((card) => card.scrollWidth > card.clientWidth).length"
    assert page.locator(".card, .cell").evaluate_all(widths) == 0
