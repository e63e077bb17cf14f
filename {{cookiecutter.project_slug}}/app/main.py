"""Builds the application; nothing happens before `create_app` is called."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import health
from app.accounts import router as accounts
from app.admin.app import mount_admin
from app.errors import add_error_handlers, problem_responses
from app.events import router as events
from app.events.live_page import add_live_page
from app.items import router as items
from app.lifespan import build_lifespan
from app.middleware import FailureMiddleware, LimitMiddleware, RequestMiddleware
from app.openapi import API_PREFIX, DocumentedFastAPI, add_docs_pages
from app.settings import Settings
from app.telemetry import fastapi_telemetry

# One level of routers: each one more costs 30 us for every request.
ROUTERS = (accounts.users, items.router, accounts.auth, events.router)

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Those that browsers do not let every page send, and those that they do not show to every page.
_REQUEST_HEADERS = ("Authorization", "Content-Type", "Last-Event-ID")
_RESPONSE_HEADERS = ("Allow", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings.load()
    docs = settings.docs_are_on
    app = DocumentedFastAPI(
        title=settings.service_title,
        description=settings.service_description,
        version=settings.service_version,
        # FastAPI's own pages load their scripts from the internet.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        lifespan=build_lifespan(settings),
        # The redirect has no ROOT_PATH: it would send a password to the neighbour's address.
        # Default: True.
        redirect_slashes=False,
        telemetry=fastapi_telemetry(settings),
    )
    # As an argument it is deprecated; the server cannot know it, for gunicorn has no such setting.
    app.root_path = settings.root_path
    if docs:
        add_docs_pages(app)
    add_error_handlers(app)
    errors = problem_responses(400, 413, 422, 503, 504)
    for router in ROUTERS:
        app.include_router(router, prefix=API_PREFIX, responses=errors)
    # FastAPI tries routers in this order, and asking one costs 4 us: what is asked rarely is last.
    app.include_router(accounts.well_known)
    app.include_router(health.router)
    if settings.environment == "development":
        add_live_page(app)
    if settings.admin_enabled:
        mount_admin(app, settings)
    # The last one added is the first to see a request.
    app.add_middleware(LimitMiddleware, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(FailureMiddleware, deadline_seconds=settings.request_deadline_seconds)
    if settings.cors_origins:
        _add_cors(app, settings.cors_origins)
    app.add_middleware(RequestMiddleware)
    return app


def _add_cors(app: FastAPI, origins: tuple[str, ...]) -> None:
    # Outside of what answers 413, 500 and 504, so that pages can read those as well. Tokens come
    # in a header: no page elsewhere may use the cookie of the admin app (no credentials).
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_RESPONSE_HEADERS,
    )


def __getattr__(name: str) -> FastAPI:
    # `uvicorn app.main:app` works, and importing this module still does nothing.
    if name == "app":
        return create_app()
    raise AttributeError(name)
