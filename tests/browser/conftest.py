"""One Chromium and one service for the tests of the browser."""

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.service import Service, running_service

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


# Not for the session: while playwright runs, no other test can run an event loop.
@pytest.fixture(scope="package")
def browser(require: Callable[[str], str]) -> Iterator[Browser]:
    # GitHub's machines have the other one.
    binary = shutil.which("google-chrome") or require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("browser") / "service") as service:
        yield service
