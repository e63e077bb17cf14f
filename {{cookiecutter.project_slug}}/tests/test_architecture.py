"""The rules that keep one obvious way: checked by reading the imports and calls of the packages."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each package may import. `server` could serve any other application as well.
PACKAGES = {
    "server": set[str](),
    "app": {"server"},
    "doctor": {"app", "server"},
    "manage": {"app", "server", "doctor", "development"},
    "development": {"server"},
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
# From the ground up: a module of `app` may import those of its own floor's package or below.
FLOORS = (
    ("keys",),
    ("settings", "errors", "schemas"),
    ("openapi", "pagination", "middleware", "mail"),
    ("database",),
    ("throttling",),
    ("accounts", "health"),
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


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_only_what_they_may(module: str) -> None:
    own = module.split(".", maxsplit=1)[0]
    others = {name.split(".")[0] for name in imports(module)} & PACKAGES.keys() - {own}
    assert others <= PACKAGES[own]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("app.")])
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
    allowed = {"app.database", "app.health", "doctor.database"}
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
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PATH": ""})
