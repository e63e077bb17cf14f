"""Mounts the admin app, made with sqladmin, at `/admin`; the next hop is `views.py`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import new_class
from typing import cast

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from sqladmin import Admin
from sqladmin.authentication import login_required
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.admin import repository
from app.admin.authentication import AdminAuthentication
from app.admin.database import session_maker
from app.admin.middleware import SECURITY_HEADERS, GuardMiddleware
from app.admin.rows import database_of
from app.admin.views import VIEWS
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
        context = {
            "settings": settings,
            "figures": await repository.get_figures(database, settings.service_name),
            "entries": await repository.list_newest_entries(database),
            "rows_counted_max": repository.ROWS_COUNTED_MAX,
        }
        return await self.templates.TemplateResponse(request, "sqladmin/index.html", context)


def mount_admin(app: FastAPI, settings: Settings) -> None:
    admin = ServiceAdmin(
        app,
        session_maker=session_maker(),
        title=settings.service_name,
        templates_dir=str(_FOLDER / "templates"),
        authentication_backend=AdminAuthentication(settings),
        middlewares=[Middleware(GuardMiddleware)],
    )
    for view in VIEWS:
        # sqladmin keeps its state on the class, so every app gets classes of its own.
        admin.add_view(new_class(view.__name__, (view,)))
    _change_routes(admin)
    admin.admin.add_exception_handler(Exception, _answer_unknown_error(admin))
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


def _answer_unknown_error(admin: Admin) -> ExceptionHandler:
    async def answer(request: Request, _error: Exception) -> Response:
        context = {"status_code": 500, "message": "Something went wrong."}
        response = await admin.templates.TemplateResponse(
            request, "sqladmin/error.html", context, status_code=500
        )
        response.headers.update(SECURITY_HEADERS)
        return response

    return answer


async def _redirect_to_index(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("admin:index"))
