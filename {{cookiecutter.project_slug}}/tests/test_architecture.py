"""The rules that keep one obvious way: checked by reading the imports and calls of `app/`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"
MODULES = {
    ".".join(path.relative_to(APP.parent).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(APP.rglob("*.py"))
}
# From the ground up: a module may import from its own floor's packages or from floors below.
FLOORS = (
    ("keys",),
    ("settings", "errors", "schemas"),
    ("logs", "engine", "openapi", "pagination", "middleware", "deadline", "mail"),
    ("database",),
    ("throttling",),
    ("accounts", "server", "health"),
    ("cli",),
    ("items", "lifespan"),
    ("admin",),
    ("models",),
    ("main",),
)
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}


def imports(module: str) -> Iterator[str]:
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def package(module: str) -> str:
    return module.split(".")[1]


def users_of(prefix: str) -> set[str]:
    return {
        module for module in MODULES if any(name.startswith(prefix) for name in imports(module))
    }


def calls(name: str) -> set[str]:
    return {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == name
    }


@pytest.mark.parametrize("module", [name for name in MODULES if name.count(".") >= 1])
def test_imports_point_down(module: str) -> None:
    if package(module) == "__init__":
        return
    own = package(module)
    others = {name.split(".")[1] for name in imports(module) if name.startswith("app.")} - {own}
    assert all(FLOOR_OF[other] < FLOOR_OF[own] for other in others)


def test_only_one_module_knows_jose() -> None:
    assert users_of("jose") == {"app.accounts.tokens"}


def test_statements_are_only_written_in_repositories() -> None:
    # The last one asks PostgreSQL about itself.
    allowed = {"app.database", "app.health", "app.server.checks.database"}
    writers = {
        module
        for name in ("select", "insert", "update", "delete", "text")
        for module in users_of(f"sqlalchemy.{name}")
    }
    assert {name for name in writers - allowed if not name.endswith(".repository")} == set()


def test_nobody_commits_but_the_transaction_itself() -> None:
    assert calls("commit") == set()


def test_no_middleware_is_of_the_slow_kind() -> None:
    assert users_of("starlette.middleware.base") == set()


def test_importing_the_application_does_nothing() -> None:
    code = (
        "import app.main, threading, os;"
        "assert threading.active_count() == 1;"
        "assert not [f for f in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath("
        "'/proc/self/fd/' + f)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=APP.parent, env={"PATH": ""})
