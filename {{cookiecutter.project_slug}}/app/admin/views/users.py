"""The pages of users and of their sessions."""

from collections.abc import Mapping, Sequence
from typing import cast
from uuid import UUID

from pydantic import TypeAdapter
from sqladmin import action
from sqladmin.filters import BooleanFilter, StaticValuesFilter
from sqlalchemy.orm import InstrumentedAttribute
from starlette.requests import Request
from starlette.responses import RedirectResponse
from wtforms import Form, SelectField, StringField
from wtforms.validators import InputRequired, Optional

from app.accounts.models import Session, User
from app.accounts.passwords import PasswordHasher
from app.accounts.roles import Role
from app.accounts.schemas import Email, FullName
from app.admin import service
from app.admin.formatters import link_to_user
from app.admin.forms import WIDE, conforms_to
from app.admin.model_views import (
    AuditedView,
    OwnedView,
    Values,
    actor_of,
    database_of,
    selected_ids,
)
from app.database import Model

_IS_DISABLED = cast("InstrumentedAttribute[bool]", User.disabled_at.is_not(None))


class UserForm(Form):
    email = StringField("Email", [InputRequired(), conforms_to(TypeAdapter(Email))], render_kw=WIDE)
    full_name = StringField(
        "Full name", [Optional(), conforms_to(TypeAdapter(FullName))], render_kw=WIDE
    )
    role = SelectField(
        "Role",
        choices=list(Role),
        coerce=Role,
        default=Role.MEMBER,
        render_kw={"class": "form-select"},
    )


class UserView(AuditedView, model=User):
    icon = "fa-solid fa-user"
    can_create = True
    can_edit = True
    create_hint = "They choose a password through the link of a password reset."
    title_column = "email"
    column_list = [User.email, User.full_name, User.role, User.disabled_at, User.created_at]
    column_labels = {
        User.id: "Id",
        User.email: "Email",
        User.email_verified_at: "Email verified",
        User.full_name: "Full name",
        User.role: "Role",
        User.disabled_at: "Disabled",
        User.created_at: "Created",
    }
    column_searchable_list = [User.email, User.full_name]
    column_sortable_list = [User.email]
    column_filters = [
        StaticValuesFilter(User.role, [(role, role.capitalize()) for role in Role], "Role"),
        BooleanFilter(_IS_DISABLED, "Disabled", "disabled"),
    ]
    form = UserForm
    form_columns = [User.email, User.full_name, User.role]

    async def add(self, request: Request, values: Values) -> Model:
        hasher = cast("PasswordHasher", request.state.password_hasher)
        return await service.add_user(database_of(request), hasher, actor_of(request), values)

    async def change(self, request: Request, row_id: UUID, values: Values) -> Model:
        return await service.change_user(database_of(request), actor_of(request), row_id, values)

    def actions_of(self, request: Request, row: Model) -> Mapping[str, str]:
        user = cast("User", row)
        useless = {
            "enable" if user.disabled_at is None else "disable",
            f"make-{user.role}",
        }
        actions = super().actions_of(request, row)
        return {name: label for name, label in actions.items() if name not in useless}

    # sqladmin shows actions from the last to the first.
    @action("end-sessions", "End sessions", "End all sessions of these users?")
    async def end_sessions(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.end_sessions(database_of(request), actor_of(request), user_ids)
        return self.redirect(request, user_ids)

    @action("enable", "Enable", "Enable these users?")
    async def enable(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.enable_users(database_of(request), actor_of(request), user_ids)
        return self.redirect(request, user_ids)

    @action("disable", "Disable", "Disable these users and end their sessions?")
    async def disable(self, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.disable_users(database_of(request), actor_of(request), user_ids)
        return self.redirect(request, user_ids)

    def redirect(self, request: Request, user_ids: Sequence[UUID]) -> RedirectResponse:
        """To the one user, or to the list; 303, because the form was a POST."""
        url = request.url_for("admin:list", identity=self.identity)
        if len(user_ids) == 1:
            url = request.url_for("admin:details", identity=self.identity, pk=user_ids[0])
        return RedirectResponse(url, 303)


def _add_role_action(role: Role) -> None:
    async def give_role(view: UserView, request: Request) -> RedirectResponse:
        user_ids = await selected_ids(request)
        await service.give_role(database_of(request), actor_of(request), user_ids, role)
        return view.redirect(request, user_ids)

    mark = action(f"make-{role}", f"Make {role}", f"Give these users the role {role}?")
    setattr(UserView, f"make_{role}", mark(give_role))


for _role in Role:
    _add_role_action(_role)


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
