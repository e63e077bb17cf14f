"""Cursor pages, newest first: the cursor is the id of the last row, made opaque."""

import base64
import binascii
from typing import Annotated
from uuid import UUID

from fastapi import Query

from app.errors import InvalidInputError

PageLimit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
PageCursor = Annotated[
    str | None,
    # 16 bytes in base64url.
    Query(pattern=r"^[A-Za-z0-9_-]{22}$", description="`next_cursor` of the page before."),
]


def encode_cursor(last_id: UUID) -> str:
    return base64.urlsafe_b64encode(last_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError("The cursor is not one that this service gave out.") from error
