"""The pages of the API at /docs and /redoc, used by a person in a real Chromium."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.service import PASSWORD, Service, take_screenshot

# ReDoc asks for the picture in its last line; without it, only the words are there.
REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"


@pytest.fixture
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that notes what it sent to other hosts, and what its policy kept from running."""
    context = browser.new_context(base_url=service.url)
    page = context.new_page()
    sent: list[Request] = []
    refused: list[str] = []
    page.on("request", lambda one: sent.append(one))  # noqa: PLW0108 (playwright takes no builtin)
    page.on("console", lambda line: refused.append(line.text) if line.type == "error" else None)
    yield page
    take_screenshot(page, request.node.name)
    own = (service.url, "data:", f"blob:{service.url}")
    others = [one for one in sent if not one.url.startswith(own)]
    # The policy stops a request before it leaves the browser.
    assert [one.url for one in others if one.failure != "csp"] == []
    assert [text for text in refused if REDOC_LOGO not in text] == []
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


def test_redoc_shows_and_finds_routes(page: Page) -> None:
    page.goto("/redoc")
    page.get_by_placeholder("Search").fill("password")
    expect(page.get_by_role("search")).to_contain_text("password", ignore_case=True)
