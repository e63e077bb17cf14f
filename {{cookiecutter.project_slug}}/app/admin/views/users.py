"""The pages of users and of their sessions."""

from functools import partial
from typing import cast
from uuid import UUID

from sqladmin.filters import BooleanFilter, StaticValuesFilter
from sqlalchemy.orm import InstrumentedAttribute
from starlette.requests import Request
from wtforms import Form, SelectField, StringField
from wtforms.validators import InputRequired, Optional

from app.accounts.authentication import Authenticator
from app.accounts.models import Session, User
from app.accounts.roles import ADMIN, Role
from app.accounts.schemas import Email, FullName
from app.admin import repository, service
from app.admin.forms import conforms_to
from app.admin.model_views import (
    Action,
    AuditedView,
    OwnedView,
    Values,
    actor_of,
    database_of,
)
from app.database import Model

_IS_DISABLED = cast("InstrumentedAttribute[bool]", User.disabled_at.is_not(None))


class UserForm(Form):
    email = StringField(
        "Email",
        [InputRequired(), conforms_to(Email)],
        description="After a change it counts as not verified; links to the old one are void.",
    )
    full_name = StringField("Full name", [Optional(), conforms_to(FullName)])
    role = SelectField(
        "Role",
        choices=[(role.value, role.capitalize()) for role in Role],
        coerce=Role,
        default=Role.MEMBER,
        description="Only an admin may use these pages.",
    )


def _role_action(role: Role) -> Action:
    return Action(
        f"Make {role}",
        f"made {role}",
        f"They may do what a user with the role {role} may do, with their next request.",
        partial(service.give_role, role=role),
        lambda user: cast("User", user).role != role,
        question="Make {} " + f"{role}?",
    )


class UserView(AuditedView, model=User):
    icon = "fa-solid fa-user"
    can_create = True
    can_edit = True
    can_delete = True
    create_hint = "They choose a password through the link of a password reset."
    figure = "Users"
    title_column = "email"
    column_list = [User.email, User.full_name, User.role, User.disabled_at, User.created_at]
    column_searchable_list = [User.email, User.full_name]
    column_sortable_list = [User.email]
    column_filters = [
        StaticValuesFilter(User.role, [(role, role.capitalize()) for role in Role], "Role"),
        BooleanFilter(_IS_DISABLED, "Disabled", "disabled"),
    ]
    form = UserForm
    actions = {
        "disable": Action(
            "Disable",
            "disabled",
            "They are logged out everywhere and cannot log in again until they are enabled.",
            service.disable_users,
            lambda user: cast("User", user).disabled_at is None,
        ),
        "enable": Action(
            "Enable",
            "enabled",
            "They can log in again.",
            service.enable_users,
            lambda user: cast("User", user).disabled_at is not None,
        ),
        "end-sessions": Action(
            "End sessions",
            "logged out",
            "They are logged out everywhere and can log in again at once.",
            service.end_sessions,
        ),
        "reset-second-factor": Action(
            "Reset second factor",
            "without a second factor",
            "They are logged out everywhere; their app's codes and their recovery codes are void.",
            service.reset_second_factors,
            lambda user: ADMIN in cast("User", user).role.scopes,
            question="Reset the second factor of {}?",
        ),
    } | {f"make-{role}": _role_action(role) for role in Role}

    async def add(self, request: Request, values: Values) -> Model:
        authenticator = cast("Authenticator", request.state.authenticator)
        return await service.add_user(authenticator, actor_of(request), values)

    async def change(self, request: Request, row_id: UUID, values: Values) -> Model:
        return await service.change_user(database_of(request), actor_of(request), row_id, values)


class SessionView(OwnedView, model=Session):
    icon = "fa-solid fa-key"
    can_delete = True
    figure = "Active sessions"
    figure_condition = repository.SESSION_IS_ACTIVE
    column_list = [
        Session.created_at,
        Session.owner,
        Session.last_used_at,
        Session.expires_at,
        Session.address,
    ]
    column_labels = {
        Session.owner: "User",
        Session.created_at: "Started",
        Session.expires_at: "Ends",
        Session.user_agent: "Browser",
    }
    column_searchable_list = [Session.id]
