"""What the forms of the admin app check: the same as the API does.

Forms are written out, because those that sqladmin makes keep one more validator with each request.
"""

from collections.abc import Callable
from typing import cast

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticError
from wtforms import Field, Form, ValidationError


def conforms_to(schema: object) -> Callable[[Form, Field], None]:
    """A validator: what this type of a request body accepts; the field becomes what it makes."""
    adapter: TypeAdapter[object] = TypeAdapter(cast("type[object]", schema))

    def check(_form: Form, field: Field) -> None:
        try:
            field.data = adapter.validate_python(field.data)
        except PydanticError as error:
            message = error.errors()[0]["msg"]
            raise ValidationError(f"{message[0].upper()}{message[1:]}") from error

    return check
