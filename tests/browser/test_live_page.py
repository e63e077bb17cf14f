"""/live and the samples of docs/events.md in Chromium, through nginx and two workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.service import PASSWORD, take_screenshot
from tests.conftest import Bake
from tests.pages import SERVICE_FOLDER
from tests.pages import Page as Document
from tests.system.load import sign_up
from tests.system.processes import reload_all
from tests.system.stack import Stack
from tests.system.trial import serve_all


@pytest.fixture(scope="module")
def stack(bake_once: Bake, uv: str, require: Callable[[str], str]) -> Iterator[Stack]:
    require("nginx")
    if not Path("/proc/self/task").is_dir():
        pytest.skip("it finds gunicorn's workers in /proc")
    with serve_all(bake_once("live"), uv, ENVIRONMENT="development") as running:
        yield running


def open_window(browser: Browser, stack: Stack, email: str, door: str) -> tuple[Page, list[str]]:
    """With what its console complains of, such as a script that the policy forbids."""
    page, complaints = browser.new_page(base_url=stack.url), list[str]()
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/live")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name=door).click()
    expect(page.locator("#state")).to_have_text("open")
    return page, complaints


def create(page: Page, title: str) -> None:
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Create item").click()


def test_windows_agree_when_workers_are_replaced_in_between(
    browser: Browser, stack: Stack, request: pytest.FixtureRequest
) -> None:
    email = f"{uuid4().hex}@example.com"
    one, complaints = open_window(browser, stack, email, "Sign up")
    two, others = open_window(browser, stack, email, "Log in")
    assert [*complaints, *others] == []
    create(one, "Buy milk")
    expect(two.get_by_text("Buy milk (open)")).to_be_visible()
    reload_all(stack)
    for window in (one, two):
        expect(window.locator("#state")).to_have_text("open", timeout=20_000)
    two.get_by_role("button", name="done").click()
    create(two, "Buy bread")
    for window in (one, two):
        expect(window.get_by_text("Buy milk (done)")).to_be_visible()
        expect(window.get_by_text("Buy bread (open)")).to_be_visible()
        expect(window.locator("#events li")).to_have_count(3)
    take_screenshot(one, request.node.name)


def test_window_says_that_it_reconnects_when_the_service_is_away(
    browser: Browser, stack: Stack
) -> None:
    page, _ = open_window(browser, stack, f"{uuid4().hex}@example.com", "Sign up")
    page.route("**/api/v1/events", lambda route: route.fulfill(status=503))
    reload_all(stack)
    expect(page.locator("#state")).to_have_text("reconnecting", timeout=20_000)
    page.unroute("**/api/v1/events")
    expect(page.locator("#state")).to_have_text("open", timeout=20_000)


# What the script of a page knows already: the second token is bad, until it is renewed.
GIVEN = {
    "const socket": 'const token = "TOKEN";',
    "import { follow }": 'let token = "x"; const renew = async () => { token = "TOKEN"; };',
}


@pytest.mark.parametrize(("beginning", "given"), GIVEN.items())
def test_sample_of_the_page_shows_events(
    browser: Browser, stack: Stack, beginning: str, given: str
) -> None:
    samples = Document(SERVICE_FOLDER / "docs/events.md").samples
    [sample] = [one.text for one in samples if one.text.startswith(beginning)]
    sample = sample.replace("wss://api.example.com", stack.url.replace("http", "ws", 1))
    page, token = browser.new_page(base_url=stack.url), sign_up(stack.url)
    script = f"{given.replace('TOKEN', token)}\n{sample}"
    page.route(
        "**/live/sample.js",
        lambda route: route.fulfill(body=script, content_type="text/javascript"),
    )
    page.goto("/live")
    with page.expect_console_message(lambda line: "ready" in line.text):
        page.add_script_tag(url="/live/sample.js", type="module")
    with page.expect_console_message(lambda line: "item.created" in line.text):
        headers = {"Authorization": f"Bearer {token}"}
        httpx2.post(f"{stack.url}/api/v1/items", json={"title": "Buy milk"}, headers=headers)


def test_eventsource_of_the_browser_is_refused_with_401(browser: Browser, stack: Stack) -> None:
    page = browser.new_page(base_url=stack.url)
    page.goto("/live")
    with page.expect_response("**/api/v1/events") as refusal:
        gives_up = page.evaluate(
            """() => new Promise((resolve) => {
                const source = new EventSource("/api/v1/events");
                source.onerror = () => resolve(source.readyState === EventSource.CLOSED);
            })"""
        )
    assert (refusal.value.status, gives_up) == (401, True)
