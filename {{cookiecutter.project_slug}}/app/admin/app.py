"""Mounts the admin app, made with sqladmin, at `/admin`."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import new_class
from typing import cast
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from sqladmin import Flash
from sqladmin.authentication import login_required
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.admin import repository, service
from app.admin.authentication import AdminAuthentication
from app.admin.formatters import format_time, list_changes, write_csv
from app.admin.middleware import SECURITY_HEADERS, GuardMiddleware, RequestSessions
from app.admin.model_views import (
    EXPORT_ROWS_MAX,
    Action,
    AuditedView,
    actor_of,
    database_of,
    selected_ids,
)
from app.admin.second_factor import SecondFactorAdmin
from app.admin.views import VIEWS
from app.errors import AppError, ForbiddenError, NotFoundError, TryAgainError
from app.settings import Settings

_FOLDER = Path(__file__).parent
_NEWEST_ENTRIES = 8
_HISTORY_ENTRIES_MAX = 100
# Replaced here, or used by nobody: what nobody uses cannot be misused.
_REMOVED = ("delete", "import", "export", "ajax_lookup", "file_download", "file_preview")


class ServiceAdmin(SecondFactorAdmin):
    """sqladmin with a home page, a history of each row, and a question before every action."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.authentication = AdminAuthentication(settings)
        super().__init__(
            app,
            session_maker=RequestSessions(),
            title=settings.service_title,
            templates_dir=str(_FOLDER / "templates"),
            authentication_backend=self.authentication,
            middlewares=[Middleware(GuardMiddleware)],
        )
        for view in VIEWS:
            # sqladmin keeps its state on the class, so every app gets classes of its own.
            self.add_view(new_class(view.__name__, (view,)))
        self._model_views = cast("list[AuditedView]", self.views)
        self._counted = [view for view in self._model_views if view.figure]
        self.templates.env.globals.update(
            export_rows_max=EXPORT_ROWS_MAX,
            format_time=format_time,
            list_changes=list_changes,
            rows_counted_max=repository.ROWS_COUNTED_MAX,
        )
        self._change_routes()
        for error in (HTTPException, UnicodeEncodeError, Exception):
            self.admin.add_exception_handler(error, self.answer_error)

    def _change_routes(self) -> None:
        router = self.admin.router
        router.routes = [
            Mount("/assets", StaticFiles(directory=_FOLDER / "static"), name="assets"),
            *self.second_factor_routes(),
            *(route for route in router.routes if getattr(route, "name", "") not in _REMOVED),
            Route("/{identity}/export/csv", self.export, name="export"),
            Route("/{identity}/history/{pk:uuid}", self.history, name="history"),
            Route("/{identity}/action/{name}", self.act, name="action", methods=["GET", "POST"]),
        ]
        for route in router.routes:
            # sqladmin logs out on GET, which a link on any page could do.
            if isinstance(route, Route) and route.name == "logout":
                route.methods = {"POST"}

    def _view_of(self, request: Request) -> AuditedView:
        view = cast("AuditedView", self._find_model_view(request.path_params["identity"]))
        if not view.is_accessible(request):
            raise ForbiddenError("You may not see this table.")
        return view

    @login_required
    async def index(self, request: Request) -> Response:
        settings = cast("Settings", request.state.settings)
        counted = [(view.model, view.figure_condition) for view in self._counted]
        async with database_of(request).transaction() as session:
            counts = await repository.count_tables(session, counted)
            server = await repository.get_server_figures(session, settings.service_name)
            entries = await repository.list_entries(session, _NEWEST_ENTRIES)
        return await self.show(
            request,
            "index",
            settings=settings,
            figures=list(zip(self._counted, counts, strict=True)),
            server=server,
            newest_revision=await asyncio.to_thread(_newest_revision),
            entries=entries,
        )

    async def login(self, request: Request) -> Response:
        try:
            return await super().login(request)
        except TryAgainError as busy:
            return await self.show_wait(request, "login", busy)

    @login_required
    async def export(self, request: Request) -> Response:
        view = self._view_of(request)
        columns, rows = view.export_columns(), await view.filtered_rows(request)
        rows = repository.only_columns(rows, list(columns.values()), EXPORT_ROWS_MAX)
        database, actor = database_of(request), actor_of(request)
        found = await service.export_rows(database, actor, view.model, rows, request.url.query)
        text = await asyncio.to_thread(write_csv, columns, found)
        headers = {"Content-Disposition": f'attachment; filename="{view.identity}.csv"'}
        return Response(text, headers=headers, media_type="text/csv")

    @login_required
    async def history(self, request: Request) -> Response:
        view, row_id = self._view_of(request), cast("UUID", request.path_params["pk"])
        async with database_of(request).transaction() as session:
            rows = await repository.list_rows(session, view.model, [row_id])
            of = (view.model, row_id)
            entries = await repository.list_entries(session, _HISTORY_ENTRIES_MAX, of)
        if not rows and not entries:
            raise NotFoundError("There is no such row.")
        return await self.show(
            request,
            "history",
            model_view=view,
            row_id=row_id,
            row_title=view.title_of(rows[0]) if rows else f"{row_id} (deleted)",
            row_exists=bool(rows),
            entries=entries,
            entries_max=_HISTORY_ENTRIES_MAX,
        )

    @login_required
    async def act(self, request: Request) -> Response:
        """GET asks, POST does."""
        view, row_ids = self._view_of(request), await selected_ids(request)
        action = view.get_actions().get(request.path_params["name"])
        if action is None:
            raise NotFoundError("There is no such action.")
        if request.method == "GET":
            return await self._ask(request, view, action, row_ids)
        await action.run(database_of(request), actor_of(request), row_ids)
        Flash.success(request, f"{view.counted(len(row_ids))} {action.done}.")
        url = request.url_for("admin:list", identity=view.identity)
        if len(row_ids) == 1 and not action.deletes:
            url = request.url_for("admin:details", identity=view.identity, pk=row_ids[0])
        return RedirectResponse(url, HTTPStatus.SEE_OTHER)

    async def _ask(
        self, request: Request, view: AuditedView, action: Action, row_ids: Sequence[UUID]
    ) -> Response:
        async with database_of(request).transaction() as session:
            rows = await repository.list_rows(session, view.model, row_ids)
            dependents: Mapping[str, int] = {}
            if action.deletes:
                dependents = await repository.count_dependents(session, view.model, row_ids)
        if not rows:
            raise NotFoundError("These rows do not exist any more.")
        counted = [self._counted_rows(*dependent) for dependent in dependents.items()]
        return await self.show(
            request, "confirm", model_view=view, action=action, rows=rows, dependents=counted
        )

    async def answer_error(self, request: Request, error: Exception) -> Response:
        """With the menu when somebody is logged in; without what the error tells."""
        status, message, headers = 500, "Something went wrong.", dict(SECURITY_HEADERS)
        if isinstance(error, HTTPException):
            # sqladmin's own handler leaves the headers out: Retry-After, Allow.
            status, message = error.status_code, error.detail
            headers |= error.headers or {}
        elif isinstance(error, UnicodeEncodeError):
            # A form in an odd charset may hold what no page can show again.
            status, message = 400, "This is no text."
        if "session" in request.scope and not hasattr(request.state, "actor"):
            # No page was found, so nobody has asked yet who this is.
            with suppress(AppError):
                await self.authentication.authenticate(request)
        if message == HTTPStatus.NOT_FOUND.phrase:
            message = "There is no such page."
        page = await self.show(request, "error", status=status, status_code=status, message=message)
        page.headers.update(headers)
        return page

    def _counted_rows(self, table: str, count: int) -> str:
        for view in self._model_views:
            if view.model.__tablename__ == table:
                return view.counted(count)
        return f"{count} {table.replace('_', ' ')}{'' if count == 1 else 's'}"


@cache
def _newest_revision() -> str | None:
    """Of the migrations of this code; Alembic would import all of them."""
    # Relative to where the service starts, as alembic.ini has it; the names begin with the date.
    newest = max(Path("migrations/versions").glob("*.py"), default=None)
    found = newest and re.search(r'^revision = "(\w+)"', newest.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else None


def mount_admin(app: FastAPI, settings: Settings) -> None:
    ServiceAdmin(app, settings)
    app.add_api_route("/admin", _redirect_to_index, include_in_schema=False)


async def _redirect_to_index(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("admin:index"))
