"""What the forms of the admin app check: the same as the API does.

Forms are written out, because those that sqladmin makes keep one more validator with each request.
"""

from collections.abc import Callable
from typing import TypeVar

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError
from wtforms import Field, Form, ValidationError

Value = TypeVar("Value")


def conforms_to(schema: TypeAdapter[Value]) -> Callable[[Form, Field], None]:
    """A validator: what this type of a request body accepts; the field becomes what it makes."""

    def check(_form: Form, field: Field) -> None:
        try:
            field.data = schema.validate_python(field.data)
        except PydanticError as error:
            message = error.errors()[0]["msg"]
            raise ValidationError(f"{message[0].upper()}{message[1:]}") from error

    return check
