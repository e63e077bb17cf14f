"""The pages of the admin app, one class a table; the next hop is `rows.py` or `service.py`."""

from collections.abc import Mapping, Sequence
from typing import cast
from uuid import UUID

from sqladmin import action
from sqladmin.filters import BooleanFilter
from sqlalchemy.orm import InstrumentedAttribute
from starlette.requests import Request
from starlette.responses import RedirectResponse

from app.accounts.models import Session, User
from app.accounts.passwords import PasswordHasher
from app.admin import repository, service
from app.admin.formatters import link_to_user
from app.admin.forms import ItemForm, UserForm
from app.admin.model_views import (
    AuditedView,
    OwnedView,
    RefusedError,
    Rows,
    Values,
    actor_of,
    database_of,
    selected_ids,
)
from app.admin.models import AuditEntry
from app.database import Model
from app.items.models import Item

_IS_DISABLED = cast("InstrumentedAttribute[bool]", User.disabled_at.is_not(None))


class UserView(AuditedView, model=User):
    icon = "fa-solid fa-user"
    can_create = True
    can_edit = True
    create_hint = "They choose a password through the link of a password reset."
    title_column = "email"
    column_list = [User.email, User.full_name, User.is_admin, User.disabled_at, User.created_at]
    column_labels = {
        User.id: "Id",
        User.email: "Email",
        User.email_verified_at: "Email verified",
        User.full_name: "Full name",
        User.is_admin: "Admin",
        User.disabled_at: "Disabled",
        User.created_at: "Created",
    }
    column_searchable_list = [User.email, User.full_name]
    column_sortable_list = [User.email]
    column_filters = [
        BooleanFilter(User.is_admin, "Admin"),
        BooleanFilter(_IS_DISABLED, "Disabled", "disabled"),
    ]
    form = UserForm
    form_columns = [User.email, User.full_name, User.is_admin]

    async def add(self, request: Request, values: Values) -> Model:
        hasher = cast("PasswordHasher", request.state.password_hasher)
        return await service.add_user(database_of(request), hasher, actor_of(request), values)

    async def change(self, request: Request, row_id: UUID, values: Values) -> Model:
        actor = actor_of(request)
        if not values["is_admin"] and row_id == actor.id:
            raise RefusedError("You cannot take away your own admin rights.")
        return await service.change_user(database_of(request), actor, row_id, values)

    def actions_of(self, request: Request, row: Model) -> Mapping[str, str]:
        user = cast("User", row)
        useless = {
            "enable" if user.disabled_at is None else "disable",
            "make-admin" if user.is_admin else "revoke-admin",
        }
        actions = super().actions_of(request, row)
        return {name: label for name, label in actions.items() if name not in useless}

    # sqladmin shows actions from the last to the first.
    @action("revoke-admin", "Revoke admin", "Take the rights of an admin from these users?")
    async def revoke_admin(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        database, actor = database_of(request), actor_of(request)
        await service.set_admins(database, actor, user_ids, is_admin=False)
        return self._redirect(request, user_ids)

    @action("make-admin", "Make admin", "Give these users the rights of an admin?")
    async def make_admin(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        database, actor = database_of(request), actor_of(request)
        await service.set_admins(database, actor, user_ids, is_admin=True)
        return self._redirect(request, user_ids)

    @action("end-sessions", "End sessions", "End all sessions of these users?")
    async def end_sessions(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.end_sessions(database_of(request), actor_of(request), user_ids)
        return self._redirect(request, user_ids)

    @action("enable", "Enable", "Enable these users?")
    async def enable(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.enable_users(database_of(request), actor_of(request), user_ids)
        return self._redirect(request, user_ids)

    @action("disable", "Disable", "Disable these users and end their sessions?")
    async def disable(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.disable_users(database_of(request), actor_of(request), user_ids)
        return self._redirect(request, user_ids)

    def _redirect(self, request: Request, user_ids: Sequence[UUID]) -> RedirectResponse:
        """To the one user, or to the list; 303, because the form was a POST."""
        url = request.url_for("admin:list", identity=self.identity)
        if len(user_ids) == 1:
            url = request.url_for("admin:details", identity=self.identity, pk=user_ids[0])
        return RedirectResponse(url, 303)


class ItemView(OwnedView, model=Item):
    icon = "fa-solid fa-box"
    can_edit = True
    can_delete = True
    title_column = "title"
    owner_column = "owner_id"
    column_list = [Item.title, Item.owner_id, Item.created_at, Item.updated_at]
    column_labels = {
        Item.id: "Id",
        Item.title: "Title",
        Item.description: "Description",
        Item.owner_id: "Owner",
        Item.created_at: "Created",
        Item.updated_at: "Changed",
    }
    column_searchable_list = [Item.title]
    column_formatters = {Item.owner_id: link_to_user}
    column_formatters_detail = {Item.owner_id: link_to_user}
    form = ItemForm
    form_columns = [Item.title, Item.description]


class SessionView(OwnedView, model=Session):
    icon = "fa-solid fa-key"
    can_delete = True
    owner_column = "user_id"
    column_list = [
        Session.user_id,
        Session.created_at,
        Session.last_used_at,
        Session.expires_at,
        Session.address,
    ]
    column_labels = {
        Session.id: "Id",
        Session.user_id: "User",
        Session.created_at: "Started",
        Session.last_used_at: "Last used",
        Session.expires_at: "Ends",
        Session.address: "From",
        Session.user_agent: "Browser",
        Session.scope: "Scope",
    }
    column_searchable_list = [Session.id]
    column_formatters = {Session.user_id: link_to_user}
    column_formatters_detail = {Session.user_id: link_to_user}


class AuditView(AuditedView, model=AuditEntry):
    name = "Audit entry"
    name_plural = "Audit log"
    icon = "fa-solid fa-clock-rotate-left"
    column_list = [
        AuditEntry.created_at,
        AuditEntry.actor_email,
        AuditEntry.action,
        AuditEntry.subject,
        AuditEntry.client_address,
    ]
    column_labels = {
        AuditEntry.id: "Id",
        AuditEntry.created_at: "When",
        AuditEntry.actor_id: "Id of who",
        AuditEntry.actor_email: "Who",
        AuditEntry.action: "What",
        AuditEntry.subject: "Table",
        AuditEntry.subject_id: "Row",
        AuditEntry.client_address: "From",
        AuditEntry.before: "Before",
        AuditEntry.after: "After",
        AuditEntry.request_id: "Request",
    }
    column_searchable_list = [AuditEntry.actor_email, AuditEntry.subject_id]

    def search_query(self, stmt: Rows, term: str) -> Rows:
        """By an email, or by the id of a row: both are whole, so both use an index."""
        return repository.of_actor_or_subject(stmt, term.strip().lower())


VIEWS = (UserView, ItemView, SessionView, AuditView)
