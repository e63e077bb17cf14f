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
        return [one.text for one in self] if not self.text else [self.text]

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


def merged(base: yaml.Node | None, patch: yaml.Node) -> yaml.Node:
    """A strategic merge: mappings by key, lists of named parts by name, all else is replaced."""
    if isinstance(base, yaml.MappingNode) and isinstance(patch, yaml.MappingNode):
        pairs = {key.value: (key, value) for key, value in base.value}
        for key, value in patch.value:
            own = pairs.get(key.value, (key, None))[1]
            pairs[key.value] = (key, merged(own, value))
        return yaml.MappingNode(base.tag, [*pairs.values()], base.start_mark, base.end_mark)
    if isinstance(base, yaml.SequenceNode) and isinstance(patch, yaml.SequenceNode):
        parts = {_name_of(one): one for one in base.value}
        patches = {_name_of(one): one for one in patch.value}
        if "" not in parts | patches:
            both = parts | {name: merged(parts.get(name), one) for name, one in patches.items()}
            return yaml.SequenceNode(base.tag, [*both.values()], base.start_mark, base.end_mark)
    return patch


def _name_of(part: yaml.Node) -> str:
    return Node("", part)["name"].text


def replaced(base: yaml.Node | None, path: list[str], value: yaml.Node | None) -> yaml.Node | None:
    """RFC 6902's add, replace and, without a value, remove."""
    if not path:
        return value
    first, rest = path[0].replace("~1", "/"), path[1:]
    if isinstance(base, yaml.SequenceNode):
        items = dict(enumerate(base.value))
        index = int(first) if first.isdecimal() else len(items)
        changed = {**items, index: replaced(items.get(index), rest, value)}
        kept = [one for one in changed.values() if one]
        return yaml.SequenceNode(base.tag, kept, base.start_mark, base.end_mark)
    pairs = {key.value: (key, one) for key, one in base.value} if base else {}
    key, own = pairs.get(first, (yaml.ScalarNode("tag:yaml.org,2002:str", first), None))
    pairs[first] = (key, replaced(own, rest, value))
    kept = [pair for pair in pairs.values() if pair[1]]
    mark = base.start_mark if base else value.start_mark if value else None
    return yaml.MappingNode("tag:yaml.org,2002:map", kept, mark, mark)
