"""How values look in lists and on the pages of a row."""

import json
from datetime import UTC, datetime
from uuid import UUID

from markupsafe import Markup
from sqladmin.formatters import BASE_FORMATTERS
from starlette.requests import Request

from app.database import Model


def _format_time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _format_json(value: dict[str, object]) -> Markup:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return Markup("<pre class='mb-0'>{}</pre>").format(text)


def _format_bool(value: bool) -> Markup:
    # A column of red crosses would shout what is the rule.
    return Markup("<span class='badge bg-blue-lt'>Yes</span>") if value else Markup("No")


def link_to_user(row: Model, column: str, request: Request) -> Markup:
    """By email where the page has read the emails, by id elsewhere."""
    user_id: UUID = getattr(row, column)
    url = request.url_for("admin:details", identity="user", pk=user_id)
    text = getattr(request.state, "emails", {}).get(user_id, user_id)
    return Markup("<a href='{}'>{}</a>").format(url, text)


FORMATTERS = BASE_FORMATTERS | {bool: _format_bool, datetime: _format_time, dict: _format_json}
