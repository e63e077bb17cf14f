"""Small changes to Python files that people own: their layout and comments stay."""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    start: int
    end: int
    text: str


def add_import(source: str, line: str) -> str:
    """Before the other imports of the application; ruff sorts them."""
    first = re.search(r"^from app\b", source, re.M)
    if first is None:
        raise LookupError("no import of app is found")
    return f"{source[: first.start()]}{line}\n{source[first.start() :]}"


def add_constants(source: str, lines: Iterable[str]) -> str:
    """After the last text that is assigned to a name."""
    ends = [
        node.end_lineno or 0
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]
    existing = source.splitlines()
    at = max(ends, default=len(existing))
    return "\n".join([*existing[:at], *lines, *existing[at:], ""])


def append_to(source: str, name: str, *elements: str) -> str:
    """To the tuple or dictionary that is assigned to this name."""
    at = _spans(source, name)[-1].end
    return source[:at] + "".join(f", {element}" for element in elements) + source[at:]


def remove_from(source: str, name: str, element: str) -> str:
    """Everything that starts like this, from the tuple or dictionary of this name."""
    spans = _spans(source, name)
    for index, span in reversed([*enumerate(spans)]):
        if span.text.startswith(element):
            start, end = span.start, span.end
            if index:
                start = spans[index - 1].end
            elif len(spans) > 1:
                end = spans[1].start
            source = source[:start] + source[end:]
    return source


def _spans(source: str, name: str) -> Sequence[Span]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [
            name
        ]:
            value = node.value
            if isinstance(value, ast.Tuple | ast.List) and value.elts:
                return [_span(source, element, element) for element in value.elts]
            if isinstance(value, ast.Dict) and value.keys:
                return [
                    _span(source, key, element)
                    for key, element in zip(value.keys, value.values, strict=True)
                    if key is not None
                ]
    raise LookupError(f"{name} is not found, to which a feature is added")


def _span(source: str, first: ast.expr, last: ast.expr) -> Span:
    start = _offset(source, first.lineno, first.col_offset)
    end = _offset(source, last.end_lineno or 0, last.end_col_offset or 0)
    return Span(start, end, source[start:end])


def _offset(source: str, line: int, utf8_column: int) -> int:
    lines = source.splitlines(keepends=True)
    before = lines[line - 1].encode()[:utf8_column].decode()
    return sum(map(len, lines[: line - 1])) + len(before)
