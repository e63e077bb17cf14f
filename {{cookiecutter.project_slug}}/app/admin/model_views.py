"""What the pages of all tables have in common."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, NamedTuple, cast
from uuid import UUID

from sqladmin import Flash, ModelView
from sqladmin.filters import OperationColumnFilter
from sqladmin.pagination import Pagination
from sqlalchemy import Column, ColumnElement, inspect, true
from sqlalchemy.orm import selectinload
from starlette.requests import Request

from app.admin import audit, repository, service
from app.admin.audit import Actor
from app.admin.formatters import FORMATTERS, label_of, link_to_user
from app.admin.repository import Rows
from app.database import Database, Model
from app.errors import AppError, InvalidInputError, NotFoundError

Values = Mapping[str, object]

ROWS_SELECTED_MAX = 100
EXPORT_ROWS_MAX = 10_000


class _RefusedError(Exception):
    """Its text is shown above the form."""


class Action(NamedTuple):
    """What can be done with one row or with selected rows, after a page that asks."""

    label: str
    # As in "3 users disabled."
    done: str
    # What it means, for the page that asks.
    explanation: str
    # Writes the audit entries too.
    run: Callable[[Database, Actor, Sequence[UUID]], Awaitable[None]]
    is_offered: Callable[[Model], bool] = lambda _row: True
    deletes: bool = False
    # As in "Make {} admin?"; empty: the label and the rows.
    question: str = ""


class AuditedView(ModelView):
    """Writes through the service; reads through sqladmin, newest rows first."""

    model: ClassVar[type[Model]]
    can_create = False
    can_edit = False
    can_delete = False
    page_size = 25
    page_size_options = (25, 50, ROWS_SELECTED_MAX)
    column_default_sort = ("id", True)
    column_type_formatters = FORMATTERS
    create_template = edit_template = "sqladmin/form.html"
    # Shown above the form of a new row.
    create_hint: ClassVar[str] = ""
    # What a row is called: at the top of its page, in questions and messages.
    title_column: ClassVar[str] = "id"
    # The label of the number of rows on the home page, and which rows count; empty: not there.
    figure: ClassVar[str] = ""
    figure_condition: ClassVar[ColumnElement[bool]] = true()
    # By their names in addresses.
    actions: ClassVar[Mapping[str, Action]] = {}

    def title_of(self, row: Model) -> str:
        return str(getattr(row, self.title_column))

    def label_of(self, column: str) -> str:
        return cast("str", self._column_labels.get(column) or label_of(column))

    def search_placeholder(self) -> str:
        return ", ".join(self.label_of(name) for name in self._search_fields)

    def counted(self, count: int) -> str:
        name = self.name if count == 1 else self.name_plural
        return f"{count} {name.lower()}"

    def get_actions(self, row: Model | None = None) -> Mapping[str, Action]:
        """Those of a list, or those that change something about this row."""
        actions = dict(self.actions)
        if self.can_delete:
            delete = partial(service.delete_rows, table=self.model)
            explanation = "This cannot be undone."
            actions["delete"] = Action("Delete", "deleted", explanation, delete, deletes=True)
        return {
            name: action
            for name, action in actions.items()
            if row is None or action.is_offered(row)
        }

    def get_details_columns(self) -> list[str]:
        return [name for name in super().get_details_columns() if not audit.is_secret(name)]

    def get_form_columns(self) -> list[str]:
        return [field.name for field in self.form()] if self.form else []

    def export_columns(self) -> Mapping[str, ColumnElement[object]]:
        """By their names in the first line of the file."""
        names = inspect(self.model).column_attrs.keys()
        return {name: getattr(self.model, name) for name in names if not audit.is_secret(name)}

    async def filtered_rows(self, request: Request) -> Rows:
        """What the search, the filters and the order in the address ask for."""
        parameters, rows = request.query_params, self.list_query(request)
        for chosen in self.get_filters():
            name, value = chosen.parameter_name, parameters.get(chosen.parameter_name)
            has_operator = isinstance(chosen, OperationColumnFilter)
            operation = [parameters.get(f"{name}_op", "")] if has_operator else []
            if value:
                apply = cast("Callable[..., Awaitable[Rows]]", chosen.get_filtered_query)
                rows = await apply(rows, *operation, value, self.model)
        rows = self.sort_query(rows, request)
        search = parameters.get("search")
        return self.search_query(rows, search) if search else rows

    async def list(self, request: Request) -> Pagination:
        rows, parameters = await self.filtered_rows(request), request.query_params
        wanted = self.validate_page_number(parameters.get("pageSize"), self.page_size)
        page_size = min(max(wanted, 1), ROWS_SELECTED_MAX)
        (count,) = await self._run_query(repository.count_rows(rows))
        page = self.validate_page_number(parameters.get("page"), 1)
        page = min(max(page, 1), Pagination.max_page(count, page_size))
        rows = rows.options(*map(selectinload, self._list_relations))
        found = await self._run_query(rows.limit(page_size).offset((page - 1) * page_size))
        return Pagination(found, page, page_size, count)

    async def insert_model(self, request: Request, data: dict[str, object]) -> Model:
        with _refusals():
            row = await self.add(request, _without_empty_texts(data))
        Flash.success(request, f"{self.title_of(row)} was created.")
        return row

    async def update_model(self, request: Request, pk: str, data: dict[str, object]) -> Model:
        with _refusals():
            row = await self.change(request, UUID(pk), _without_empty_texts(data))
        Flash.success(request, f"{self.title_of(row)} was saved.")
        return row

    async def add(self, request: Request, values: Values) -> Model:
        row = self.model(**values)
        return await service.add_row(database_of(request), actor_of(request), row)

    async def change(self, request: Request, row_id: UUID, values: Values) -> Model:
        database, actor = database_of(request), actor_of(request)
        return await service.change_row(database, actor, self.model, row_id, values)

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
        raise _RefusedError(error.detail) from error
    except Exception as error:
        raise _RefusedError("Something went wrong; the log tells what.") from error


def _without_empty_texts(data: Values) -> Values:
    # An empty field of a form is nothing, not an empty text.
    return {name: None if value == "" else value for name, value in data.items()}


class OwnedView(AuditedView):
    """Rows that belong to a user: shown with, and found by, the email of their `owner`."""

    column_formatters: ClassVar = {"owner": link_to_user}
    column_formatters_detail: ClassVar = {"owner": link_to_user}

    @property
    def _owner_id(self) -> Column[UUID]:
        (owner_id,) = inspect(self.model).relationships["owner"].local_columns
        return cast("Column[UUID]", owner_id)

    def get_details_columns(self) -> list[str]:
        return [name for name in super().get_details_columns() if name != self._owner_id.name]

    def export_columns(self) -> Mapping[str, ColumnElement[object]]:
        return {**super().export_columns(), "owner_email": repository.email_of(self._owner_id)}

    def search_placeholder(self) -> str:
        return f"{super().search_placeholder()}, email of the {self.label_of('owner')}"

    def search_query(self, stmt: Rows, term: str) -> Rows:
        if "@" in term:
            return repository.of_user(stmt, self._owner_id, term.strip().lower())
        return super().search_query(stmt, term)


def database_of(request: Request) -> Database:
    return cast("Database", request.state.database)


def actor_of(request: Request) -> Actor:
    return cast("Actor", request.state.actor)


async def selected_ids(request: Request) -> Sequence[UUID]:
    """From the address of the page that asks, or from its form."""
    source = request.query_params if request.method == "GET" else await request.form()
    try:
        row_ids = [UUID(str(value)) for value in source.getlist("pks")]
    except ValueError as error:
        raise NotFoundError("There is no such row.") from error
    if not 0 < len(row_ids) <= ROWS_SELECTED_MAX:
        raise InvalidInputError(f"Select at least one row and {ROWS_SELECTED_MAX} at most.")
    return row_ids
