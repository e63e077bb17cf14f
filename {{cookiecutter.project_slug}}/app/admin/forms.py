"""Forms of the admin app; they check what the API checks.

Written out, because the forms that sqladmin makes keep one more validator with each request.
"""

from collections.abc import Callable
from typing import TypeVar

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError
from wtforms import BooleanField, Field, Form, StringField, TextAreaField, ValidationError
from wtforms.validators import InputRequired, Optional

from app.accounts.schemas import Email, FullName
from app.items.schemas import Description, Title

Value = TypeVar("Value")

_WIDE = {"class": "form-control"}


def _conforms_to(schema: TypeAdapter[Value]) -> Callable[[Form, Field], None]:
    """What the schema of the API would accept; the field becomes what it would make of it."""

    def check(_form: Form, field: Field) -> None:
        try:
            field.data = schema.validate_python(field.data)
        except PydanticError as error:
            raise ValidationError(error.errors()[0]["msg"]) from error

    return check


_EMAIL = _conforms_to(TypeAdapter(Email))
_FULL_NAME = _conforms_to(TypeAdapter(FullName))
_TITLE = _conforms_to(TypeAdapter(Title))
_DESCRIPTION = _conforms_to(TypeAdapter(Description))


class UserForm(Form):
    email = StringField("Email", [InputRequired(), _EMAIL], render_kw=_WIDE)
    full_name = StringField("Full name", [Optional(), _FULL_NAME], render_kw=_WIDE)
    is_admin = BooleanField("Admin", render_kw={"class": "form-check-input mt-2"})


class ItemForm(Form):
    title = StringField("Title", [InputRequired(), _TITLE], render_kw=_WIDE)
    description = TextAreaField(
        "Description", [Optional(), _DESCRIPTION], render_kw=_WIDE | {"rows": "8"}
    )
