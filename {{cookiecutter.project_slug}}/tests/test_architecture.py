"""The rules that keep one obvious way, read from imports and calls; a failure says what to do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each package may import.
PACKAGES = {
    "server": set[str](),
    "app": {"server"},
    "doctor": {"app", "server"},
    "manage": {"app", "server", "doctor", "development"},
    "development": {"server"},
}
BORDERS = {
    "server": "server/ can serve any application: give it what it needs as a setting.",
    "app": "app/ may ask server/ alone: what checks or starts the service calls app/ instead.",
    "doctor": "doctor/ runs in the image: only manage/ starts things.",
    "manage": "manage/ may import every package.",
    "development": "development/ starts the service as a process and may read server/settings.py.",
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    # What `make feature` copies into other packages.
    if "feature_files" not in path.parts
}
# From the ground up: a module of `app` may import those of its own floor's package or below.
FLOORS = (
    ("keys", "peer_timeout"),
    ("metrics", "settings", "websockets"),
    ("errors", "tracing"),
    ("openapi", "schemas", "middleware", "mail", "security_events", "announcements", "slots"),
    ("database", "telemetry"),
    ("jobs",),
    ("throttling",),
    ("accounts", "health"),
    ("events",),
    ("a domain", "lifespan", "housekeeping"),
    ("admin",),
    ("main",),
)
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
# Packages that nobody has named here: `items`, and the features that are still to come.
DOMAINS = {module.split(".")[1] for module in MODULES if module.startswith("app.")} - {*FLOOR_OF}
FLOOR_OF |= dict.fromkeys(DOMAINS, FLOOR_OF["a domain"])


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


IMPORTS = {module: {*imports(tree)} for module, tree in MODULES.items()}


def package(module: str) -> str:
    return module.split(".")[1]


def users_of(prefix: str) -> set[str]:
    return {
        module
        for module, names in IMPORTS.items()
        if any(name.startswith(prefix) for name in names)
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


def test_packages_import_only_what_they_may() -> None:
    for module, names in IMPORTS.items():
        own = module.split(".", maxsplit=1)[0]
        others = {name.split(".")[0] for name in names} & PACKAGES.keys() - {own}
        assert others <= PACKAGES[own], f"{module} imports {others}. {BORDERS[own]}"


def test_imports_point_down() -> None:
    modules = [name for name in MODULES if name.startswith("app.") and name != "app.__init__"]
    for module in modules:
        own = package(module)
        assert own in FLOOR_OF, f"Write {own} into FLOORS here: above all that it imports."
        imported = {package(name) for name in IMPORTS[module] if name.startswith("app.")}
        for other in imported - {own}:
            assert FLOOR_OF[other] < FLOOR_OF[own], (
                f"{module} imports app.{other}, which is not below it: move what both need lower,"
                " or let the upper one call the lower one."
            )


@pytest.mark.skipif(not (ROOT / ".dockerignore").exists(), reason="this service builds no image")
def test_development_is_in_no_image() -> None:
    copied = (ROOT / ".dockerignore").read_text().splitlines()
    assert "!development" not in copied, "Keep development/ out of .dockerignore's exceptions."


def test_only_one_module_knows_jose() -> None:
    others = users_of("jose") - {"app.accounts.tokens"}
    assert not others, f"Call app/accounts/tokens.py in {others}: nobody else reads or signs a JWT."


def test_statements_are_only_written_in_repositories() -> None:
    # Those that ask PostgreSQL about itself.
    allowed = {"app.database", "app.health", "doctor.database"}
    writers = {
        module
        for name in ("select", "insert", "update", "delete", "text")
        for module in users_of(f"sqlalchemy.{name}")
        if not module.endswith(".repository")
    } - allowed
    assert not writers, f"Move the SQL of {writers} into a function of the package's repository.py."


def test_nobody_commits_but_the_transaction_itself() -> None:
    callers = calls("commit")
    assert not callers, f"Take commit() out of {callers}: SessionDep and transaction() commit once."


def test_no_middleware_is_of_the_slow_kind() -> None:
    users = users_of("starlette.middleware.base")
    assert not users, f"Write {users} as a class with __call__(scope, receive, send)."


def test_importing_the_application_does_nothing() -> None:
    code = (
        "import app.main, threading, os;"
        "assert threading.active_count() == 1;"
        "assert not [f for f in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath("
        "'/proc/self/fd/' + f)]"
    )
    # No variable of the user's but where compiled files go: to compile all packages takes seconds.
    environment = {"PATH": "", "PYTHONPYCACHEPREFIX": sys.pycache_prefix or ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, "Open it in app/lifespan.py: an import opens and starts nothing."
