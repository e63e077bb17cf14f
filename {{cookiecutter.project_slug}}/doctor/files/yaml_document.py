"""YAML with line numbers, for compose and Kubernetes."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from doctor.finding import Entry, Finding, mistake

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

    def find(self, path: str) -> Entry | None:
        return self[path].entry if self[path] else None

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
        """Of a list of mappings, what each of them says in one text."""
        if self.text:
            return [self.text]
        return [one.text or " ".join(part.text for _, part in one.items()) for one in self]

    @property
    def where(self) -> str:
        """A patched document has parts of several files."""
        mark = self.node.start_mark if self.node else None
        return f"{mark.name}:{mark.line + 1}" if mark else self.file

    @property
    def entry(self) -> Entry:
        """A list of words is one value."""
        return Entry(" ".join(self.texts), self.where)


def read_documents(
    root: Path, file: Path, variables: Mapping[str, Entry] | None = None
) -> tuple[list[Node], list[Finding]]:
    """`${NAME}` of the variables is replaced, with or without a default."""
    name = str(file.relative_to(root))
    try:
        text = file.read_text(encoding="utf-8")
        for variable, entry in (variables or {}).items():
            reference = r"\$\{" + variable + r"(:?[-?][^}]*)?\}"
            text = re.sub(reference, entry.value.replace("\\", r"\\"), text)
        return compose_nodes(name, text), []
    except (yaml.YAMLError, UnicodeDecodeError) as raised:
        mark = getattr(raised, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        return [], [mistake("not_yaml", where)]


def compose_nodes(name: str, text: str) -> list[Node]:
    stream = io.StringIO(text)
    # Marks tell it; a stream of text has none of its own.
    setattr(stream, "name", name)  # noqa: B010
    return [Node(name, node) for node in yaml.compose_all(stream, _LOADER)]
