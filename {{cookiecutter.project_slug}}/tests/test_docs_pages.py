"""/docs and /redoc name no other host, and are absent where they are off."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from app.lifespan import State
from app.main import create_app
from app.settings import Settings
from tests.conftest import connect

LOADED = re.compile(r'(?:src|href|spec-url)="([^"]+)"')


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_page_loads_all_it_names_from_this_service(client: AsyncClient, path: str) -> None:
    page = await client.get(path)
    named = LOADED.findall(page.text)
    assert len(named) >= 3
    assert "://" not in page.text
    assert {(await client.get(url)).status_code for url in named} == {200}
    assert (
        "'unsafe-inline'" not in page.headers["content-security-policy"].partition("style-src")[0]
    )


async def test_page_works_below_a_root_path(settings: Settings, state: State) -> None:
    app = create_app(settings.model_copy(update={"root_path": "/shop"}))
    async with connect(app, state) as client:
        page = await client.get("/docs")
        assert "/shop/openapi.json" in page.text
        for url in LOADED.findall(page.text):
            assert (await client.get(url.removeprefix("/shop"))).status_code == 200


async def test_title_is_no_markup(settings: Settings, state: State) -> None:
    app = create_app(settings.model_copy(update={"service_title": "<script>alert(1)</script>"}))
    async with connect(app, state) as client:
        assert "<script>alert" not in (await client.get("/docs")).text


async def test_pages_are_404_when_they_are_off(settings: Settings, state: State) -> None:
    app = create_app(settings.model_copy(update={"docs_enabled": False}))
    async with connect(app, state) as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/swagger-ui.css"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.system
def test_scripts_are_not_imported_when_the_pages_are_off() -> None:
    code = (
        "import sys; from app.main import create_app; from app.settings import Settings;"
        "from tests.test_settings import GOOD; create_app(Settings.model_validate(GOOD));"
        "sys.exit('fastapi_offline' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_document_has_the_title_and_the_description(settings: Settings) -> None:
    document = create_app(
        settings.model_copy(update={"service_title": "Shop", "service_description": "Sells."})
    ).openapi()
    assert {"title": "Shop", "description": "Sells."}.items() <= dict(document["info"]).items()
