"""/docs and /redoc without the internet: scripts and styles come with a package."""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png")
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def add_docs_pages(app: FastAPI) -> None:
    """Not called where the pages are off, so the package is not imported there."""
    folder = Path(str(files("fastapi_offline"))) / "static"
    for name in _FILES:
        _add_file(app, f"/docs/{name}", folder / name)
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
    _add_page(app, "/docs", bytes(swagger.body).decode())
    _add_page(app, "/redoc", bytes(redoc.body).decode())


def _add_file(app: FastAPI, path: str, file: Path) -> None:
    async def send_file(_request: Request) -> Response:
        return FileResponse(file)

    app.add_route(path, send_file, include_in_schema=False)


def _add_page(app: FastAPI, path: str, html: str) -> None:
    headers = {"Content-Security-Policy": _content_security_policy(html)}

    async def send_page(_request: Request) -> Response:
        return HTMLResponse(html, headers=headers)

    app.add_route(path, send_page, include_in_schema=False)


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
