"""How values look in lists, on the pages of a row and in CSV files."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import Enum, StrEnum
from io import StringIO

from markupsafe import Markup
from sqladmin.formatters import BASE_FORMATTERS
from starlette.requests import Request

from app.accounts.models import User
from app.database import Model

_BLANK = Markup("<span class='text-secondary'>—</span>")
# A time as JSON has it, in the audit log.
_JSON_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
# Spreadsheets run what begins with one of these: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def label_of(column: str) -> str:
    """`created_at` is "Created", `owner_id` is "Owner"."""
    return re.sub("_(at|id|on)$", "", column).replace("_", " ").capitalize()


def format_time(value: datetime) -> Markup:
    # admin.js shows it in the reader's time zone.
    utc = value.astimezone(UTC)
    markup = Markup("<time datetime='{}' title='{} UTC'>{} UTC</time>")
    return markup.format(utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S}", f"{utc:%Y-%m-%d %H:%M}")


def _format_json(value: object) -> Markup:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return Markup("<pre class='mb-0'>{}</pre>").format(text)


def _format_bool(value: bool) -> Markup:
    # A column of red crosses would shout what is the rule.
    return Markup("<span class='badge bg-blue text-blue-fg'>Yes</span>") if value else Markup("No")


FORMATTERS = BASE_FORMATTERS | {
    type(None): lambda _value: _BLANK,
    bool: _format_bool,
    date: lambda value: Markup("<span class='text-nowrap'>{}</span>").format(value),
    datetime: format_time,
    dict: _format_json,
    list: lambda value: ", ".join(map(str, value)) or _BLANK,
    str: lambda value: value or _BLANK,
    # Looked up by the base of an enum's class, so this stands for all of them.
    StrEnum: lambda value: value.replace("_", " ").capitalize(),
}


def list_changes(
    before: Mapping[str, object] | None, after: Mapping[str, object] | None
) -> Sequence[tuple[str, object, object]]:
    """The fields of an audit entry, with what they held before and after."""
    before, after = before or {}, after or {}
    return [
        (label_of(name), _format_logged(before.get(name)), _format_logged(after.get(name)))
        for name in dict.fromkeys((*before, *after))
    ]


def _format_logged(value: object) -> object:
    if isinstance(value, str) and _JSON_TIME.fullmatch(value):
        return format_time(datetime.fromisoformat(value))
    formatter = FORMATTERS.get(type(value))
    return formatter(value) if formatter else value


def link_to_user(row: Model, column: str, request: Request) -> Markup:
    user: User = getattr(row, column)
    url = request.url_for("admin:details", identity="user", pk=user.id)
    return Markup("<a href='{}'>{}</a>").format(url, user.email)


def write_csv(names: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    file = StringIO()
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    return file.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
