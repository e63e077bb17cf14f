"""The nginx configuration of each deployment, put together as that deployment does it, and read."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import crossplane
from crossplane.analyzer import DIRECTIVES

from doctor.finding import Entry, Finding, mistake

FOLDER = Path("deploy/nginx")
MAIN = FOLDER / "nginx.conf"
# The variant without a deployment: site/ with the files for TLS over it.
TLS = "tls"
# Directives that are younger than the parser's list.
_YOUNGER = ("http2", "http3", "keepalive_min_timeout", "ssl_conf_command", "ssl_reject_handshake")
# Where containers mount the files of deploy/nginx/site.
_MOUNTED_SITE = re.compile(r"/etc/nginx-(?:site|listen)/")
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_TEST_SECONDS = 20
# Blocks with values of their own instead of directives.
_TABLES = ("map", "geo", "types", "charset_map", "split_clients")
# https://nginx.org/en/docs/syntax.html
_TIME = re.compile(r"(\d+(ms|[smhdwMy])? ?)+")


@dataclass
class Block:
    """A part in braces, or the whole file; its directives and the blocks in it."""

    name: str
    arguments: tuple[str, ...]
    where: str
    parent: "Block | None" = None
    directives: list["Directive"] = field(default_factory=list)
    blocks: list["Block"] = field(default_factory=list)

    def own(self, name: str) -> list["Directive"]:
        return [one for one in self.directives if one.name == name]

    def effective(self, name: str) -> list["Directive"]:
        """As nginx inherits: all from the nearest block that has any."""
        return self.own(name) or (self.parent.effective(name) if self.parent else [])

    def entry(self, name: str) -> Entry | None:
        found = self.effective(name)
        return Entry(" ".join(found[-1].arguments), found[-1].where) if found else None

    def walk(self) -> Iterator["Block"]:
        yield self
        for block in self.blocks:
            yield from block.walk()

    def called(self, name: str) -> list["Block"]:
        return [block for block in self.walk() if block.name == name]


@dataclass(frozen=True)
class Directive:
    name: str
    arguments: tuple[str, ...]
    where: str
    block: Block


_Statement = Mapping[str, object]


@dataclass(frozen=True)
class _Source:
    file: str
    statements: Sequence[_Statement]


def read_nginx(
    root: Path, overlays: Mapping[str, Path | None]
) -> tuple[dict[str, Block], list[Finding]]:
    """By deployment, each with the folder that it lays over site/; and what nginx refuses."""
    if not (root / MAIN).is_file():
        return {}, []
    trees: dict[str, Block] = {}
    findings: dict[Finding, None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, overlay in {**overlays, TLS: FOLDER / "site-tls"}.items():
            copy = Path(folder, name)
            origins = _assemble(root, copy, overlay)
            tree, mistakes = _parse(copy, origins)
            findings |= dict.fromkeys(mistakes or _ask_nginx(copy, origins))
            if not mistakes:
                trees[name] = tree
    return trees, list(findings)


def _assemble(root: Path, copy: Path, overlay: Path | None) -> dict[str, str]:
    """Copies, with the file that each of them comes from."""
    layers = [(FOLDER, copy), (FOLDER / "site", copy / "mounted-site")]
    if overlay:
        layers.append((overlay, copy / "site"))
    origins: dict[str, str] = {}
    for source, target in layers:
        for file in sorted((root / source).rglob("*.conf")):
            placed = target / file.relative_to(root / source)
            placed.parent.mkdir(parents=True, exist_ok=True)
            # The parser is slow, and most of a file is comments; lines keep their numbers.
            text = _COMMENT.sub("", file.read_text(encoding="utf-8"))
            placed.write_text(_MOUNTED_SITE.sub(f"{copy}/mounted-site/", text), encoding="utf-8")
            origins[str(placed)] = str(file.relative_to(root))
    return origins


def _parse(copy: Path, origins: Mapping[str, str]) -> tuple[Block, list[Finding]]:
    payload = crossplane.parse(str(copy / MAIN.name))
    config = [_Source(origins[one["file"]], one["parsed"]) for one in payload["config"]]
    whole = Block("main", (), str(MAIN))
    _fill(config, whole, [(config[0].file, one) for one in config[0].statements])
    mistakes = [
        _refused(str(one["error"]).partition(" in /")[0], f"{origins[one['file']]}:{one['line']}")
        for one in payload["errors"]
    ]
    return whole, [*mistakes, *_check_directives(whole)]


def _check_directives(whole: Block) -> Iterator[Finding]:
    """What the parser leaves to nginx: names, and values that are times."""
    for block in whole.walk():
        for one in block.directives if block.name not in _TABLES else ():
            first = "".join(one.arguments[:1])
            if one.name not in _YOUNGER and one.name not in DIRECTIVES:
                yield _refused(f'unknown directive "{one.name}"', one.where)
            elif one.name.endswith("_timeout") and not _TIME.fullmatch(first):
                yield _refused(f'"{first}" is no time for {one.name}', one.where)


def _fill(
    config: Sequence[_Source], block: Block, statements: Sequence[tuple[str, _Statement]]
) -> None:
    for file, statement in statements:
        if "includes" in statement:
            for number in cast("list[int]", statement["includes"]):
                source = config[number]
                _fill(config, block, [(source.file, one) for one in source.statements])
            continue
        name, where = str(statement["directive"]), f"{file}:{statement['line']}"
        arguments = tuple(cast("list[str]", statement["args"]))
        block.directives.append(Directive(name, arguments, where, block))
        if "block" in statement:
            inner = Block(name, arguments, where, block)
            block.blocks.append(inner)
            within = cast("list[_Statement]", statement["block"])
            _fill(config, inner, [(file, one) for one in within])


def _ask_nginx(copy: Path, origins: Mapping[str, str]) -> Iterator[Finding]:
    """nginx's own word, where it is installed; values and variables are checked by it alone."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if program is None:
        return
    for file in copy.rglob("*.conf"):
        # This nginx may be older than the one that will run, and stands on another machine.
        text = file.read_text(encoding="utf-8")
        text = re.sub(r"^\s*(http2|keepalive_min_timeout|user) .*;", "", text, flags=re.M)
        text = re.sub(r"^(\s*server )\S+ resolve\b", r"\1 127.0.0.1", text, flags=re.M)
        file.write_text(text, encoding="utf-8")
    done = subprocess.run(  # noqa: S603
        [program, "-t", "-e", "stderr", "-c", str(copy / MAIN.name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TEST_SECONDS,
    )
    # What names no line is about this machine: ports, folders, certificates.
    for message, file, line in re.findall(
        r"\[emerg\] (?:\S+: )?(.*) in (/\S+):(\d+)$", done.stderr, re.M
    ):
        if file in origins and not re.search('host not found|no "ssl_certificate"', message):
            yield _refused(message, f"{origins[file]}:{line}")


def _refused(message: str, where: str) -> Finding:
    return mistake("refused_by_nginx", where, message=message)
