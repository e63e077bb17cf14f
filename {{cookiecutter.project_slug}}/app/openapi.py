"""The OpenAPI document, and /docs and /redoc, which show it without the internet."""

import re
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import cast
from uuid import UUID

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from app.errors import Problem

API_PREFIX = "/api/v1"
TOKEN_PATH = f"{API_PREFIX}/auth/token"
_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def path_of(request: Request, router: APIRouter, row_id: UUID) -> str:
    """Of a new row, for the header Location; `request.url_for` costs 94 us."""
    return f"{request.scope['root_path']}{API_PREFIX}{router.prefix}/{row_id}"


class DocumentedFastAPI(FastAPI):
    """FastAPI, with the schema of problems and an Authorize button that works below a root path."""

    def openapi(self) -> dict[str, object]:
        document = cast("dict[str, dict[str, dict[str, object]]]", super().openapi())
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(problem.pop("$defs") | {"Problem": problem})
        for scheme in components.get("securitySchemes", {}).values():
            # Clients resolve it against the host, not against the root path.
            flows = cast("dict[str, dict[str, dict[str, str]]]", scheme)["flows"]
            url = self.root_path + TOKEN_PATH
            flows["password"] |= {"tokenUrl": url, "refreshUrl": url}
        return cast("dict[str, object]", document)


def add_docs_pages(app: FastAPI) -> None:
    """Not called where the pages are off, so the package is not imported there."""
    folder = Path(str(files("fastapi_offline"))) / "static"
    for name in _FILES:
        _add_route(app, f"/docs/{name}", partial(FileResponse, folder / name))
    # Clients resolve addresses against the host, not against the root path.
    root = f"{app.root_path}/docs"
    document, title = f"{app.root_path}{app.openapi_url}", escape(app.title)
    swagger = get_swagger_ui_html(
        openapi_url=document,
        title=title,
        swagger_js_url=f"{root}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/swagger-ui.css",
        swagger_favicon_url=f"{root}/favicon.png",
    )
    redoc = get_redoc_html(
        openapi_url=document,
        title=title,
        redoc_js_url=f"{root}/redoc.standalone.js",
        redoc_favicon_url=f"{root}/favicon.png",
        with_google_fonts=False,
    )
    for path, page in (("/docs", swagger), ("/redoc", redoc)):
        html = bytes(page.body).decode()
        headers = {"Content-Security-Policy": _content_security_policy(html)}
        _add_route(app, path, partial(HTMLResponse, html, headers=headers))


def _add_route(app: FastAPI, path: str, respond: Callable[[], Response]) -> None:
    async def endpoint(_request: Request) -> Response:
        return respond()

    app.add_route(path, endpoint, include_in_schema=False)


def _content_security_policy(html: str) -> str:
    hashes = [
        f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
        for script in _INLINE_SCRIPT.findall(html)
    ]
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *hashes)),
            # Both pages write styles while they run.
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            # ReDoc searches in a worker that it makes from a blob.
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
