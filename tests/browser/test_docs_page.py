"""The page of the API at /docs, used by a person in a real Chromium."""

from collections.abc import Iterator
from importlib.resources import as_file, files

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.service import PASSWORD, Service, take_screenshot


def give_asset(route: Route) -> None:
    """What the page loads from a content delivery network, from a package instead."""
    name = route.request.url.rpartition("/")[2]
    with as_file(files("swagger_ui") / "static" / name) as path:
        route.fulfill(path=path)


@pytest.fixture
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(base_url=service.url)
    page = context.new_page()
    page.route("https://**", lambda route: route.abort())
    page.route("https://cdn.jsdelivr.net/**", give_asset)
    yield page
    take_screenshot(page, request.node.name)
    context.close()


def test_authorize_button_logs_in_for_the_routes_below(page: Page, service: Service) -> None:
    page.goto("/docs")
    page.get_by_role("button", name="Authorize").first.click()
    page.locator("#oauth_username").fill(service.admin_email)
    page.locator("#oauth_password").fill(PASSWORD)
    page.locator(".auth-btn-wrapper .authorize").click()
    expect(page.locator(".auth-container")).to_contain_text("Authorized")
    page.locator(".auth-btn-wrapper .btn-done").click()
    route = page.locator(".opblock", has_text="/api/v1/users/me").filter(has_text="GET").first
    route.locator(".opblock-summary-control").click()
    route.get_by_role("button", name="Try it out").click()
    route.get_by_role("button", name="Execute").click()
    expect(route.locator(".live-responses-table")).to_contain_text(service.admin_email)
