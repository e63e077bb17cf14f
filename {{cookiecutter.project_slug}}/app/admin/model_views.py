"""What all views of a table have in common; the next hop is `service.py`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, cast
from uuid import UUID

from sqladmin import ModelView
from sqladmin.pagination import Pagination
from sqlalchemy import Select
from starlette.requests import Request

from app.admin import audit, repository, service
from app.admin.audit import Actor
from app.admin.formatters import FORMATTERS
from app.database import Database, Model
from app.errors import AppError, NotFoundError

Rows = Select[*tuple[object, ...]]
Values = Mapping[str, object]


class RefusedError(Exception):
    """Its text is shown above the form."""


class AuditedView(ModelView):
    """Writes through the service; reads through sqladmin, newest rows first."""

    model: ClassVar[type[Model]]
    can_create = False
    can_edit = False
    can_delete = False
    can_export = False
    page_size = 25
    rows_counted_max = repository.ROWS_COUNTED_MAX
    column_default_sort = ("id", True)
    column_type_formatters = FORMATTERS
    # Shown above the form of a new row.
    create_hint: ClassVar[str] = ""
    # What a row is called at the top of its page.
    title_column: ClassVar[str] = "id"

    def title_of(self, row: Model) -> str:
        return f"{self.name}: {getattr(row, self.title_column)}"

    def actions_of(self, request: Request, row: Model) -> Mapping[str, str]:
        """By their names in addresses, with their labels."""
        return self._visible_custom_actions(request, in_detail=True)

    async def count(self, request: Request, stmt: Rows | None = None) -> int:
        if stmt is not None:
            stmt = repository.count_at_most(stmt, self.rows_counted_max)
        return await super().count(request, stmt)

    def get_details_columns(self) -> list[str]:
        return [name for name in super().get_details_columns() if not audit.is_secret(name)]

    async def insert_model(self, request: Request, data: dict[str, object]) -> Model:
        with _refusals():
            return await self.add(request, _without_empty_texts(data))

    async def update_model(self, request: Request, pk: str, data: dict[str, object]) -> Model:
        with _refusals():
            return await self.change(request, UUID(pk), _without_empty_texts(data))

    async def add(self, request: Request, values: Values) -> Model:
        row = self.model(**values)
        return await service.add_row(database_of(request), actor_of(request), row)

    async def change(self, request: Request, row_id: UUID, values: Values) -> Model:
        database, actor = database_of(request), actor_of(request)
        return await service.change_row(database, actor, self.model, row_id, values)

    async def delete_model(self, request: Request, pk: str) -> None:
        await service.delete_row(database_of(request), actor_of(request), self.model, UUID(pk))

    def _stmt_by_identifier(self, identifier: str) -> Rows:
        try:
            UUID(identifier)
        except ValueError as error:
            raise NotFoundError("There is no such row.") from error
        return super()._stmt_by_identifier(identifier)


@contextmanager
def _refusals() -> Iterator[None]:
    # sqladmin shows the text of any exception: that of the driver has the SQL and its values.
    try:
        yield
    except AppError as error:
        raise RefusedError(error.detail) from error
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError("Something went wrong; the log tells what.") from error


def _without_empty_texts(data: Values) -> Values:
    # An empty field of a form is nothing, not an empty text.
    return {name: None if value == "" else value for name, value in data.items()}


class OwnedView(AuditedView):
    """Rows that belong to a user: shown with, and found by, the email of the owner."""

    owner_column: ClassVar[str]

    async def list(self, request: Request) -> Pagination:
        page = await super().list(request)
        await self._read_emails(request, page.rows)
        return page

    async def _read_emails(self, request: Request, rows: Sequence[Model]) -> None:
        owner_ids = [getattr(row, self.owner_column) for row in rows]
        async with database_of(request).transaction() as session:
            request.state.emails = await repository.list_emails(session, owner_ids)

    async def get_object_for_details(self, request: Request) -> Model | None:
        row = cast("Model | None", await super().get_object_for_details(request))
        if row is not None:
            await self._read_emails(request, [row])
        return row

    def search_placeholder(self) -> str:
        return f"{super().search_placeholder()}, email"

    def search_query(self, stmt: Rows, term: str) -> Rows:
        if "@" in term:
            owner = getattr(self.model, self.owner_column)
            return repository.of_user(stmt, owner, term.strip().lower())
        return super().search_query(stmt, term)


def database_of(request: Request) -> Database:
    return cast("Database", request.state.database)


def actor_of(request: Request) -> Actor:
    return cast("Actor", request.state.actor)


async def selected_ids(request: Request) -> Sequence[UUID]:
    """From the form of a list, or from the address of the form on the page of one row."""
    form = await request.form()
    pks = str(form.get("pks") or request.query_params.get("pks", ""))
    try:
        return [UUID(pk) for pk in pks.split(",") if pk]
    except ValueError as error:
        raise NotFoundError("There is no such row.") from error
