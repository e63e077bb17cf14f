"""docs/server-options.md has every setting of the server, with the default that the code has."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.conftest import REPOSITORY, SERVICE

MODULE = ast.parse((REPOSITORY / SERVICE / "server/settings.py").read_text())
PAGE = (REPOSITORY / "docs/server-options.md").read_text()
# Rows of six cells: setting, Uvicorn's option, its default, ours, why, handed on as.
ROWS = {
    cells[0].strip("`"): cells
    for line in PAGE.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 6
}


def fields() -> Iterator[tuple[str, ast.expr]]:
    [settings] = [
        node
        for node in MODULE.body
        if isinstance(node, ast.ClassDef) and node.name == "ServerSettings"
    ]
    for node in settings.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id.upper(), node.value


def written(default: ast.expr) -> str:
    """As in `.env`, in backticks; or none."""
    if isinstance(default, ast.Call):
        [default] = [word.value for word in default.keywords if word.arg == "default"]
    value = ast.literal_eval(default)
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def options() -> set[str]:
    """What `uvicorn_options` hands on."""
    [function] = [
        node
        for node in MODULE.body
        if isinstance(node, ast.FunctionDef) and node.name == "uvicorn_options"
    ]
    keys = [key for node in ast.walk(function) if isinstance(node, ast.Dict) for key in node.keys]
    return {str(key.value) for key in keys if isinstance(key, ast.Constant)}


@pytest.mark.parametrize(("setting", "default"), list(fields()))
def test_page_states_the_default_that_the_code_has(setting: str, default: ast.expr) -> None:
    assert ROWS[setting][3] == written(default)


def test_page_has_every_option_that_is_handed_on() -> None:
    assert options() <= set(re.findall(r"`(\w+)`", PAGE))
