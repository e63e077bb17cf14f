"""The second factor of administrators in a real Chromium: set up, log in, replay, lost phone."""

import base64
import hashlib
import hmac
import struct
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.service import (
    PASSWORD,
    Service,
    log_in,
    running_service,
    take_screenshot,
)
from tests.browser.test_admin_browser import assert_good_for_everybody


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("totp") / "service"
    with running_service(folder, ADMIN_TOTP_REQUIRED="true") as service:
        yield service


@pytest.fixture
def page(browser: Browser, service: Service, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A violation of the Content-Security-Policy would be an error in the console."""
    context = browser.new_context(base_url=f"{service.url}/admin/", reduced_motion="reduce")
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    yield page
    take_screenshot(page, request.node.name)
    context.close()
    assert [error for error in errors if "status of 400" not in error] == []


def read_secret(page: Page) -> str:
    """As an app gets it: from the address that the QR code says, which is the key in the text."""
    uri = str(page.locator("#uri").text_content())
    parameters = parse_qs(urlsplit(uri).query)
    assert urlsplit(uri)[:2] == ("otpauth", "totp")
    shown = str(page.locator("#secret").text_content()).replace(" ", "")
    assert parameters["secret"] == [shown]
    return shown


def code(secret: str, step: int) -> str:
    """RFC 6238 once more, so that no library is asked whether it agrees with itself."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), hashlib.sha1)
    offset = digest[-1] & 15
    (number,) = struct.unpack(">I", digest[offset : offset + 4])
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"


def now() -> int:
    return int(time.time()) // 30


def type_code(page: Page, typed: str, button: str = "Log in") -> None:
    page.get_by_label("Code from your authenticator app").fill(typed)
    page.get_by_role("button", name=button).click()


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()


def test_second_factor_is_set_up_used_once_and_recovered(page: Page, service: Service) -> None:
    log_in(page, service.admin_email, PASSWORD)
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    assert_good_for_everybody(page, "set up second factor")
    secret, step = read_secret(page), now()
    type_code(page, code(secret, step - 1), "Set up and log in")
    expect(page.get_by_role("heading", name="Your recovery codes")).to_be_visible()
    recovery_codes = page.locator(".recovery-codes code").all_text_contents()
    assert len(recovery_codes) == 10
    assert_good_for_everybody(page, "recovery codes")
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("heading", name="Newest changes")).to_be_visible()

    log_out(page)
    log_in(page, service.admin_email, PASSWORD)
    type_code(page, code(secret, step - 1))
    expect(page.get_by_role("alert")).to_contain_text("wrong or was used")
    assert_good_for_everybody(page, "code refused")
    type_code(page, code(secret, now() + 1))
    expect(page.get_by_role("heading", name="Newest changes")).to_be_visible()

    for is_spent in (False, True):
        log_out(page)
        log_in(page, service.admin_email, PASSWORD)
        type_code(page, recovery_codes[0])
        seen = page.get_by_role("alert") if is_spent else page.get_by_text("Newest changes")
        expect(seen).to_be_visible()
        if is_spent:
            type_code(page, recovery_codes[1])

    page.get_by_role("link", name="Second factor").click()
    expect(page.get_by_text("8 recovery codes are left")).to_be_visible()
    assert_good_for_everybody(page, "second factor on")
    page.get_by_label("Your password").fill(PASSWORD)
    type_code(page, recovery_codes[2], "Turn it off")
    expect(page.get_by_role("status")).to_contain_text("Your second factor is off.")
    assert_good_for_everybody(page, "second factor off")
