"""Builds the application; nothing happens before `create_app` is called.

The next hop of a request is `middleware.py`, then a router.
"""

from fastapi import FastAPI

from app import health
from app.accounts import router as accounts
from app.admin.app import mount_admin
from app.errors import add_error_handlers, problem_responses
from app.items import router as items
from app.lifespan import build_lifespan
from app.middleware import BodyLimitMiddleware, DeadlineMiddleware, RequestMiddleware
from app.openapi import DocumentedFastAPI
from app.settings import Settings

# One level of routers: each one more costs 30 us for every request.
ROUTERS = (accounts.users, items.router, accounts.auth)


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings.load()
    docs = settings.docs_are_on
    app = DocumentedFastAPI(
        title=settings.service_name,
        version=settings.service_version,
        docs_url="/docs" if docs else None,
        redoc_url="/redoc" if docs else None,
        openapi_url="/openapi.json" if docs else None,
        lifespan=build_lifespan(settings),
    )
    # As an argument it is deprecated; the server cannot know it, for gunicorn has no such setting.
    app.root_path = settings.root_path
    add_error_handlers(app)
    app.include_router(health.router)
    errors = problem_responses(400, 413, 422, 503, 504)
    for router in ROUTERS:
        app.include_router(router, prefix="/api/v1", responses=errors)
    app.include_router(accounts.well_known)
    if settings.admin_enabled:
        mount_admin(app, settings)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimitMiddleware, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(DeadlineMiddleware, seconds=settings.request_deadline_seconds)
    app.add_middleware(RequestMiddleware)
    return app


def __getattr__(name: str) -> FastAPI:
    # `uvicorn app.main:app` works, and importing this module still does nothing.
    if name == "app":
        return create_app()
    raise AttributeError(name)
