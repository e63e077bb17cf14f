"""`make check` prints how large a service is, and fails when it is larger than we want to own."""

import ast
import statistics
import sys
from collections.abc import Iterator

from tests.conftest import REPOSITORY, SERVICE

PACKAGES = ("app", "server", "doctor", "development", "manage", "tests")
# Lines of Python, blank ones and comments included; rules and sentences of the doctor are TOML.
LINES_MAX = {"app": 8_390, "server": 1_935, "doctor + development": 5_060}
# What we want to come back to.
LINES_GOAL = {"app": 4_500, "server": 900, "doctor + development": 3_087}
FUNCTION_LINES_MAX = 40
MODULE_LINES_MAX = 400
ROUTE_DECORATORS = {"get", "post", "put", "patch", "delete", "websocket"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    sizes = {package: Package(package) for package in PACKAGES}
    print(f"{'':12}{'lines':>7}{'modules':>9}{'functions':>11}{'median':>8}{'p90':>5}{'max':>5}")
    for package in sizes.values():
        print(package)
    app, tests = sizes["app"], sizes["tests"]
    routes, fixtures = app.count_decorated(ROUTE_DECORATORS), tests.count_decorated({"fixture"})
    print(f"{routes} routes, {app.lines / routes:.0f} lines of app/ each; {fixtures} fixtures")
    print("goals: " + ", ".join(f"{names} {lines:,}" for names, lines in LINES_GOAL.items()))
    mistakes = [*too_large(sizes)]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1 if mistakes else 0


class Package:
    def __init__(self, name: str) -> None:
        self.name = name
        files = sorted((REPOSITORY / SERVICE / name).rglob("*.py"))
        # What `make feature` copies into app/ and tests/ is counted there, once it is copied.
        files = [path for path in files if "feature_files" not in path.parts]
        self.texts = {path.relative_to(REPOSITORY / SERVICE): path.read_text() for path in files}
        self.modules = {path: len(text.splitlines()) for path, text in self.texts.items()}
        self.functions = {
            f"{path}:{function.lineno} {function.name}": length_of(function)
            for path, text in self.texts.items()
            for function in functions_of(text)
        }

    @property
    def lines(self) -> int:
        return sum(self.modules.values())

    def __str__(self) -> str:
        lengths = list(self.functions.values())
        p90 = statistics.quantiles(lengths, n=10)[-1]
        return (
            f"{self.name:12}{self.lines:7}{len(self.modules):9}{len(lengths):11}"
            f"{statistics.median(lengths):8.0f}{p90:5.0f}{max(lengths):5}"
        )

    def count_decorated(self, names: set[str]) -> int:
        return sum(
            name_of(decorator) in names
            for text in self.texts.values()
            for function in functions_of(text)
            for decorator in function.decorator_list
        )


def functions_of(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield node


def length_of(function: Function) -> int:
    """Decorators do not count, the docstring does."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def name_of(decorator: ast.expr) -> str:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return node.attr if isinstance(node, ast.Attribute) else ""


def too_large(sizes: dict[str, Package]) -> Iterator[str]:
    for names, most in LINES_MAX.items():
        lines = sum(sizes[name].lines for name in names.split(" + "))
        if lines > most:
            yield f"{names}: {lines} lines of at most {most}. Delete or merge, do not squeeze."
    for package in PACKAGES[:-1]:
        for name, length in sizes[package].functions.items():
            if length > FUNCTION_LINES_MAX:
                yield f"{name}: {length} lines of at most {FUNCTION_LINES_MAX}. Split it by steps."
        for path, length in sizes[package].modules.items():
            if length > MODULE_LINES_MAX:
                yield f"{path}: {length} lines of at most {MODULE_LINES_MAX}. Split it by topics."


if __name__ == "__main__":
    sys.exit(main())
