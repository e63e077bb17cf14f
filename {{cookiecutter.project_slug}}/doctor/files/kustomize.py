"""What kustomize makes of deploy/kubernetes: overlays with their patches, settings, names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from doctor.files.deployment import read_environment_file
from doctor.files.yaml_document import Node, compose_nodes, read_documents
from doctor.finding import Entry, Finding, mistake

BASE = Path("deploy/kubernetes/base")
_FILE = "kustomization.yaml"
_OVERLAYS = f"deploy/kubernetes/*/{_FILE}"
_NGINX = Path("deploy/nginx", _FILE)
_SETTINGS = "settings"
_COMPONENT = "Component"
# deploy/nginx/site-tls is for where nginx ends TLS itself.
_NOT_IN_PODS = "site-tls"


def read_kustomizations(root: Path) -> tuple[list[Node], list[Finding]]:
    kustomizations: list[Node] = []
    findings: list[Finding] = []
    for file in (root / _NGINX, *sorted(root.glob(_OVERLAYS))):
        if file.is_file():
            nodes, mistakes = read_documents(root, file)
            kustomizations += nodes
            findings += mistakes
    return kustomizations, findings


def is_overlay(kustomization: Node) -> bool:
    folder = Path(kustomization.file).parent
    return folder not in (BASE, _NGINX.parent) and kustomization["kind"].text != _COMPONENT


def patched(root: Path, documents: Sequence[Node], overlay: Node) -> list[Node]:
    """With the patches of the overlay and of its components, inline or in files."""
    changed = list(documents)
    for component in overlay["components"].texts:
        folder = (root / overlay.file).parent / component
        for node in read_documents(root.resolve(), (folder / _FILE).resolve())[0]:
            changed = patched(root, changed, node)
    for patch in overlay["patches"]:
        for node in _patch_nodes(root, overlay, patch):
            kind = patch["target.kind"].text or node["kind"].text
            changed = [_apply(one, node) if one["kind"].text == kind else one for one in changed]
    return changed


def _patch_nodes(root: Path, overlay: Node, patch: Node) -> list[Node]:
    text = patch["patch"]
    if text.node:
        # So that its lines have their numbers in the whole file.
        padding = "\n" * (text.node.start_mark.line + 1)
        return compose_nodes(overlay.file, padding + text.text)
    file = ((root / overlay.file).parent / patch["path"].text).resolve()
    return read_documents(root.resolve(), file)[0] if file.is_file() else []


def settings_of(root: Path, kustomization: Node) -> dict[str, Entry]:
    """Of the ConfigMap with the settings: files and literals."""
    settings: dict[str, Entry] = {}
    for generator in kustomization["configMapGenerator"]:
        if generator["name"].text != _SETTINGS:
            continue
        for name in generator["envs"].texts:
            settings |= read_environment_file(root, (root / kustomization.file).parent / name)
        for one in generator["literals"]:
            name, _, value = one.text.partition("=")
            settings[name] = Entry(value, one.where)
    return settings


def config_maps(kustomizations: Sequence[Node]) -> set[str]:
    return {
        generator["name"].text
        for kustomization in kustomizations
        for generator in kustomization["configMapGenerator"]
    }


def check_kustomization(root: Path, kustomization: Node) -> Iterator[Finding]:
    """Files beside it that it does not name, and images that are not one release."""
    folder = (root / kustomization.file).parent
    files = {
        path.rpartition("=")[2]
        for generator in kustomization["configMapGenerator"]
        for path in generator["files"].texts
    }
    named = files.union(*(kustomization[key].texts for key in ("resources", "components")))
    named |= {patch["path"].text for patch in kustomization["patches"]}
    for file in sorted([*folder.glob("*.yaml"), *folder.rglob("*.conf")]):
        name = file.relative_to(folder).as_posix()
        if name not in named | {_FILE} and _NOT_IN_PODS not in name:
            yield mistake("not_listed", kustomization.file, name=name)
    for image in kustomization["images"]:
        tag = image["newTag"].text or "latest"
        if not image["digest"] and tag == "latest":
            name = image["newName"].text or image["name"].text
            yield mistake("moving_tag", (image["newTag"] or image).where, image=name, tag=tag)


def _apply(document: Node, patch: Node) -> Node:
    operations = list(patch)
    if not operations and patch.node:
        return Node(document.file, _merged(document.node, patch.node))
    node = document.node
    for one in operations:
        node = _replaced(node, one["path"].text.strip("/").split("/"), one["value"].node)
    return Node(document.file, node)


def _merged(base: yaml.Node | None, patch: yaml.Node) -> yaml.Node:
    """A strategic merge: mappings by key, lists of named parts by name, all else is replaced."""
    if isinstance(base, yaml.MappingNode) and isinstance(patch, yaml.MappingNode):
        pairs = {key.value: (key, value) for key, value in base.value}
        for key, value in patch.value:
            own = pairs.get(key.value, (key, None))[1]
            pairs[key.value] = (key, _merged(own, value))
        return yaml.MappingNode(base.tag, [*pairs.values()], base.start_mark, base.end_mark)
    if isinstance(base, yaml.SequenceNode) and isinstance(patch, yaml.SequenceNode):
        parts = {_name_of(one): one for one in base.value}
        patches = {_name_of(one): one for one in patch.value}
        if "" not in parts | patches:
            both = parts | {name: _merged(parts.get(name), one) for name, one in patches.items()}
            return yaml.SequenceNode(base.tag, [*both.values()], base.start_mark, base.end_mark)
    return patch


def _name_of(part: yaml.Node) -> str:
    return Node("", part)["name"].text


def _replaced(base: yaml.Node | None, path: list[str], value: yaml.Node | None) -> yaml.Node | None:
    """RFC 6902's add, replace and, without a value, remove."""
    if not path:
        return value
    first, rest = path[0].replace("~1", "/"), path[1:]
    if isinstance(base, yaml.SequenceNode):
        items = dict(enumerate(base.value))
        index = int(first) if first.isdecimal() else len(items)
        changed = {**items, index: _replaced(items.get(index), rest, value)}
        kept = [one for one in changed.values() if one]
        return yaml.SequenceNode(base.tag, kept, base.start_mark, base.end_mark)
    pairs = {key.value: (key, one) for key, one in base.value} if base else {}
    key, own = pairs.get(first, (yaml.ScalarNode("tag:yaml.org,2002:str", first), None))
    pairs[first] = (key, _replaced(own, rest, value))
    kept = [pair for pair in pairs.values() if pair[1]]
    mark = base.start_mark if base else value.start_mark if value else None
    return yaml.MappingNode("tag:yaml.org,2002:map", kept, mark, mark)
