"""Guards every request to the admin app, and gives sqladmin its sessions."""

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.database import Database
from app.errors import problem_response

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# sqladmin needs no inline script and no other host. The images in data: are the ticks and arrows
# of its style sheet. https://developer.mozilla.org/docs/Web/HTTP/Guides/CSP
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CACHE_CONTROL = {
    # What sqladmin brings, 0.9 MB a page; the names do not change with the content.
    "/statics/": "private, max-age=3600",
    # Ours: small, and a page with yesterday's style sheet is broken. Asked for by its ETag.
    "/assets/": "private, no-cache",
}


# sqladmin opens sessions without saying for which request.
_request_database: ContextVar[Database] = ContextVar("request_database")


class RequestSessions(async_sessionmaker[AsyncSession]):
    """Sessions of the request's own `Database`: they wait in the queue of the API."""

    def __call__(  # type: ignore[override]
        self, **_options: object
    ) -> AbstractAsyncContextManager[AsyncSession]:
        return _request_database.get().transaction()


class GuardMiddleware:
    """Refuses what another site sends, and adds the headers that keep the pages to themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = _with_full_path(scope)
        _request_database.set(scope["state"]["database"])
        headers = dict(SECURITY_HEADERS)
        path = scope["path"].removeprefix(scope["root_path"])
        for folder, cache_control in _CACHE_CONTROL.items():
            if path.startswith(folder):
                headers["Cache-Control"] = cache_control

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        if scope["method"] in _SAFE_METHODS or _is_same_origin(scope):
            await self.app(scope, receive, send_with_headers)
            return
        detail = "This request does not come from a page of the admin app."
        refusal = problem_response(scope, 403, detail)
        await refusal(scope, receive, send_with_headers)


def _with_full_path(scope: Scope) -> Scope:
    # A proxy may have cut off ROOT_PATH; the mounted app would not find its routes then, and
    # sqladmin would build links without it.
    if scope["path"].startswith(scope["root_path"]):
        return scope
    return {**scope, "path": scope["app_root_path"] + scope["path"]}


def _is_same_origin(scope: Scope) -> bool:
    """Every browser sends one of the two with a POST; scripts cannot set either."""
    headers = Headers(scope=scope)
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    return headers.get("origin") == f"{scope['scheme']}://{headers.get('host')}"
