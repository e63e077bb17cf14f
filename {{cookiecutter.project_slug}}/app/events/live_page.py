"""/live: a page that follows events, in development alone; its script is there to copy from."""

from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse

_FOLDER = Path(__file__).with_name("live")
_FILES = {"/live": "index.html"} | {
    f"/live/{name}": name for name in ("live.js", "follow.js", "live.css")
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}


def add_live_page(app: FastAPI) -> None:
    for path, name in _FILES.items():
        app.add_route(path, partial(_send_file, name), include_in_schema=False)


async def _send_file(name: str, _request: Request) -> FileResponse:
    return FileResponse(_FOLDER / name, headers=_HEADERS)
