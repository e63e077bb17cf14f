"""Mounts the admin app, made with sqladmin, at `/admin`; the next hop is `views.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import new_class
from typing import cast

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from sqladmin import Admin
from sqladmin.authentication import login_required
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.admin import repository
from app.admin.authentication import AdminAuthentication
from app.admin.database import session_maker
from app.admin.middleware import SECURITY_HEADERS, GuardMiddleware
from app.admin.migrations import list_migrations
from app.admin.model_views import database_of
from app.admin.views import VIEWS
from app.errors import NotFoundError, TooManyRequestsError, UnavailableError
from app.settings import Settings

ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]

_FOLDER = Path(__file__).parent
# sqladmin changes data on GET here, which a link on any page could do.
_POST_ONLY = ("action-", "logout")
# What nobody uses here cannot be misused.
_UNUSED = ("import", "export", "file_download", "file_preview")


class ServiceAdmin(Admin):
    """sqladmin, with a home page that says how the service is."""

    @login_required
    async def index(self, request: Request) -> Response:
        database, settings = database_of(request), cast("Settings", request.state.settings)
        figures = await repository.get_figures(database, settings.service_name)
        context = {
            "settings": settings,
            "figures": figures,
            "migrations": await asyncio.to_thread(list_migrations, figures.revision),
            "entries": await repository.list_newest_entries(database),
            "rows_counted_max": repository.ROWS_COUNTED_MAX,
        }
        return await self.templates.TemplateResponse(request, "sqladmin/index.html", context)

    async def login(self, request: Request) -> Response:
        try:
            return await super().login(request)
        except (TooManyRequestsError, UnavailableError) as error:
            headers = error.headers or {}
            context = {"error": f"{error.detail} Try again in {headers['Retry-After']} s."}
            response = await self.templates.TemplateResponse(
                request, "sqladmin/login.html", context, status_code=error.status_code
            )
            response.headers.update(headers)
            return response

    async def delete(self, request: Request) -> Response:
        # sqladmin answers this with a 500.
        if not request.query_params.get("pks"):
            raise NotFoundError("There is no such row.")
        return cast("Response", await super().delete(request))


def mount_admin(app: FastAPI, settings: Settings) -> None:
    admin = ServiceAdmin(
        app,
        session_maker=session_maker(),
        title=settings.service_title,
        templates_dir=str(_FOLDER / "templates"),
        authentication_backend=AdminAuthentication(settings),
        middlewares=[Middleware(GuardMiddleware)],
    )
    for view in VIEWS:
        # sqladmin keeps its state on the class, so every app gets classes of its own.
        admin.add_view(new_class(view.__name__, (view,)))
    _change_routes(admin)
    for error, handler in _error_handlers(admin).items():
        admin.admin.add_exception_handler(error, handler)
    app.add_api_route("/admin", _redirect_to_index, include_in_schema=False)


def _change_routes(admin: Admin) -> None:
    router = admin.admin.router
    router.routes = [
        Mount("/assets", StaticFiles(directory=_FOLDER / "static"), name="assets"),
        *(route for route in router.routes if getattr(route, "name", "") not in _UNUSED),
    ]
    for route in router.routes:
        if isinstance(route, Route) and route.name.startswith(_POST_ONLY):
            route.methods = {"POST"}


def _error_handlers(admin: Admin) -> Mapping[type[Exception], ExceptionHandler]:
    async def answer(
        request: Request, status: int, message: str, headers: Mapping[str, str]
    ) -> Response:
        context = {"status_code": status, "message": message}
        response = await admin.templates.TemplateResponse(
            request, "sqladmin/error.html", context, status_code=status
        )
        response.headers.update(headers)
        return response

    async def answer_http_error(request: Request, error: Exception) -> Response:
        # sqladmin's own handler leaves the headers out: Retry-After, Allow.
        error = cast("HTTPException", error)
        return await answer(request, error.status_code, error.detail, error.headers or {})

    async def answer_broken_text(request: Request, _error: Exception) -> Response:
        # A form in an odd charset may hold what no page can show again.
        return await answer(request, 400, "This is no text.", {})

    async def answer_unknown_error(request: Request, _error: Exception) -> Response:
        return await answer(request, 500, "Something went wrong.", SECURITY_HEADERS)

    return {
        HTTPException: answer_http_error,
        UnicodeEncodeError: answer_broken_text,
        Exception: answer_unknown_error,
    }


async def _redirect_to_index(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("admin:index"))
