"""The admin pages of a feature that `make feature` has just written."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.browser.service import PASSWORD, Service, log_in, running_service, take_screenshot
from tests.conftest import find_uv, own_environment


def add_feature(folder: Path) -> None:
    command = (find_uv(), "run", "--quiet", "python", "-m", "development.feature", "parcels")
    subprocess.run(command, cwd=folder, env=own_environment(), check=True, capture_output=True)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("feature") / "service", add_feature) as service:
        yield service


def add_parcel(service: Service, name: str) -> str:
    """The email of its owner."""
    email = f"user-{uuid4().hex}@example.com"
    with httpx2.Client(base_url=f"{service.url}/api/v1", timeout=30) as client:
        client.post("/users", json={"email": email, "password": PASSWORD}).raise_for_status()
        form = {"username": email, "password": PASSWORD}
        token = client.post("/auth/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        client.post("/parcels", json={"name": name}, headers=headers).raise_for_status()
    return email


def test_row_of_a_feature_is_found_and_renamed(
    browser: Browser, service: Service, request: pytest.FixtureRequest
) -> None:
    owner = add_parcel(service, "Books")
    size = ViewportSize(width=1280, height=850)
    page = browser.new_context(base_url=f"{service.url}/admin/", viewport=size).new_page()
    log_in(page, service.admin_email, PASSWORD)
    page.get_by_role("link", name="Parcels").first.click()
    expect(page.get_by_role("row", name="Books")).to_contain_text(owner)
    take_screenshot(page, request.node.name)
    page.locator("a[href*='/parcel/edit/']").first.click()
    page.get_by_label("Name").fill("Toys")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("row", name="Toys")).to_be_visible()
    page.context.close()
