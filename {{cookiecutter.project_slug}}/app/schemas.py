"""What all request and response bodies share; domains build on it in their `schemas.py`."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class RequestBody(BaseModel):
    """Unknown fields are refused: a misspelt one would be lost, `role` must never get in."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class ResponseBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)


def _refuse_nul(value: str) -> str:
    # PostgreSQL cannot store it.
    if "\x00" in value:
        raise ValueError("must not contain a NUL character")
    return value


StorableText = Annotated[str, AfterValidator(_refuse_nul)]
