"""YAML with line numbers, for compose and Kubernetes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from doctor.finding import Entry, Finding, error

_MERGE = "<<"
# libyaml reads ten times as fast; PyYAML lacks it where it was built without.
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(frozen=True)
class Node:
    """A part of a document; a part that is missing is a Node as well, and is false."""

    file: str
    node: yaml.Node | None = None

    def __bool__(self) -> bool:
        return self.node is not None

    def __getitem__(self, path: str) -> "Node":
        """`node["spec.template"]`; keys with a dot do not occur where we look."""
        found = self
        for key in path.split("."):
            found = dict(found.items()).get(key, Node(self.file))
        return found

    def items(self) -> Iterator[tuple[str, "Node"]]:
        """What `<<` merges comes first, so that a dict keeps the own value."""
        if not isinstance(self.node, yaml.MappingNode):
            return
        for key, value in self.node.value:
            if key.value == _MERGE:
                yield from Node(self.file, value).items()
                yield from (pair for one in Node(self.file, value) for pair in one.items())
        for key, value in self.node.value:
            if key.value != _MERGE:
                yield str(key.value), Node(self.file, value)

    def __iter__(self) -> Iterator["Node"]:
        if isinstance(self.node, yaml.SequenceNode):
            yield from (Node(self.file, value) for value in self.node.value)

    @property
    def text(self) -> str:
        return str(self.node.value) if isinstance(self.node, yaml.ScalarNode) else ""

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self] if not self.text else [self.text]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.node.start_mark.line + 1}" if self.node else self.file

    @property
    def entry(self) -> Entry:
        return Entry(self.text, self.where)


def read_documents(root: Path, file: Path) -> tuple[list[Node], list[Finding]]:
    name = str(file.relative_to(root))
    try:
        with file.open(encoding="utf-8") as stream:
            return [Node(name, node) for node in yaml.compose_all(stream, _LOADER)], []
    except (yaml.YAMLError, UnicodeDecodeError) as raised:
        mark = getattr(raised, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        what = "This file cannot be read as YAML."
        why = "Nothing in it is checked."
        return [], [error("files", what, where, why, "Correct its syntax.")]
