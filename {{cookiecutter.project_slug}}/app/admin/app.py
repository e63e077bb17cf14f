"""Mounts the admin app, made with sqladmin, at `/admin`; the next hop is `views.py`."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import new_class

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from sqladmin import Admin
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.admin.authentication import AdminAuthentication
from app.admin.database import session_maker
from app.admin.middleware import SECURITY_HEADERS, GuardMiddleware
from app.admin.views import VIEWS
from app.settings import Settings

ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]

_FOLDER = Path(__file__).parent
# sqladmin changes data on GET here, which a link on any page could do.
_POST_ONLY = ("action-", "logout")
# What nobody uses here cannot be misused.
_UNUSED = ("import", "export", "file_download", "file_preview")


def mount_admin(app: FastAPI, settings: Settings) -> None:
    admin = Admin(
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
