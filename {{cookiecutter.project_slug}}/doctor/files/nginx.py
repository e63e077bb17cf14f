"""The real nginx files, read by a parser of nginx's own language."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import crossplane

from doctor.finding import Finding, error, parse_bytes, parse_seconds
from doctor.timeouts import Value

MAIN = Path("deploy/nginx/nginx.conf")
# Fragments of other machines: each deployment brings some.
_FRAGMENTS = "deploy/**/nginx*/**/*.conf"
_WEAK_PROTOCOLS = {"SSLv2", "SSLv3", "TLSv1", "TLSv1.1"}
_EVERYBODY = {"0.0.0.0/0", "::/0", "all"}
# A timeout, the directive, and the block that it must or must not stand in.
_TIMEOUTS = {
    ("proxy_connect_timeout", ""): "proxy_connect",
    ("proxy_next_upstream_timeout", ""): "next_upstream",
    ("keepalive_timeout", "upstream"): "upstream_keepalive",
    ("keepalive_timeout", "http"): "client_keepalive",
    ("worker_shutdown_timeout", ""): "nginx_shutdown",
}


@dataclass(frozen=True)
class Directive:
    name: str
    arguments: tuple[str, ...]
    where: str
    # Names of the blocks around it, the innermost last.
    blocks: tuple[str, ...]
    # Of the block that it stands in: other directives there.
    siblings: frozenset[tuple[str, ...]]


_Statement = Mapping[str, object]
_Placed = tuple[str, _Statement]


@dataclass(frozen=True)
class _Source:
    file: str
    statements: Sequence[_Statement]


def read_nginx(root: Path) -> tuple[list[Directive], list[Finding]]:
    """All directives of all files, and a finding for each file that cannot be read."""
    directives: list[Directive] = []
    findings: list[Finding] = []
    read: set[str] = set()
    files = [root / MAIN] if (root / MAIN).is_file() else []
    files.extend(sorted(path for path in root.glob(_FRAGMENTS) if path != root / MAIN))
    for file in files:
        if str(file) in read:
            continue  # included by the main file
        payload = crossplane.parse(
            str(file), single=file != root / MAIN, check_ctx=False, check_args=False
        )
        findings.extend(_unreadable(root, one) for one in payload["errors"])
        config = [_Source(_relative(root, one["file"]), one["parsed"]) for one in payload["config"]]
        read.update(one["file"] for one in payload["config"])
        top = [(config[0].file, statement) for statement in config[0].statements]
        directives.extend(_walk(config, top, ()))
    return directives, findings


def nginx_timeouts(directives: Sequence[Directive]) -> dict[str, list[Value]]:
    values: dict[str, list[Value]] = {}
    for directive in directives:
        timeout = _timeout_of(directive)
        seconds = parse_seconds(directive.arguments[0]) if directive.arguments else None
        if timeout and seconds is not None:
            values.setdefault(timeout, []).append(Value(seconds, directive.where))
    return values


def check_nginx(directives: Sequence[Directive], max_body_bytes: int) -> list[Finding]:
    return [
        finding
        for directive in directives
        for finding in (
            *_check_body_limit(directive, max_body_bytes),
            *_check_trust(directive),
            *_check_tls(directive),
            *_check_retry(directive),
        )
    ]


def _walk(
    config: Sequence[_Source], statements: Sequence[_Placed], blocks: tuple[str, ...]
) -> Iterator[Directive]:
    placed = [one for file, statement in statements for one in _included(config, file, statement)]
    siblings = frozenset((str(one["directive"]), *_arguments(one)) for _, one in placed)
    for file, statement in placed:
        name = str(statement["directive"])
        where = f"{file}:{statement['line']}"
        yield Directive(name, _arguments(statement), where, blocks, siblings)
        inner = cast("list[_Statement]", statement.get("block", []))
        yield from _walk(config, [(file, one) for one in inner], (*blocks, name))


def _included(config: Sequence[_Source], file: str, statement: _Statement) -> Iterator[_Placed]:
    if "includes" not in statement:
        yield file, statement
    for number in cast("list[int]", statement.get("includes", [])):
        source = config[number]
        for one in source.statements:
            yield from _included(config, source.file, one)


def _arguments(statement: _Statement) -> tuple[str, ...]:
    return tuple(cast("list[str]", statement["args"]))


def _relative(root: Path, file: str) -> str:
    path = Path(file)
    return str(path.relative_to(root)) if path.is_relative_to(root) else file


def _timeout_of(directive: Directive) -> str | None:
    if directive.name == "proxy_read_timeout":
        streams = ("proxy_buffering", "off") in directive.siblings
        return "stream_read" if streams else "proxy_read"
    innermost = directive.blocks[-1] if directive.blocks else "http"
    # A server or location may change the client's keep-alive as well.
    block = "upstream" if innermost == "upstream" else "http"
    return _TIMEOUTS.get((directive.name, block)) or _TIMEOUTS.get((directive.name, ""))


def _check_body_limit(directive: Directive, max_body_bytes: int) -> Iterator[Finding]:
    if directive.name != "client_max_body_size":
        return
    size = parse_bytes(directive.arguments[0])
    if size != max_body_bytes:
        yield error(
            "body limit",
            f"client_max_body_size is {directive.arguments[0]}, MAX_BODY_BYTES {max_body_bytes}.",
            directive.where,
            "The smaller one decides, whatever the other says.",
            f"Write client_max_body_size {max_body_bytes}; or change MAX_BODY_BYTES.",
        )


def _check_trust(directive: Directive) -> Iterator[Finding]:
    arguments = " ".join(directive.arguments)
    if directive.name == "proxy_set_header" and arguments.lower().startswith("x-forwarded-for "):
        if directive.arguments[1] != "$remote_addr":
            yield error(
                "trusted proxies",
                "X-Forwarded-For keeps what the client sent.",
                directive.where,
                "Every client chooses its own address in logs and limits.",
                "Write proxy_set_header X-Forwarded-For $remote_addr; and real_ip for a balancer.",
            )
    elif directive.name == "set_real_ip_from" and directive.arguments[0] in _EVERYBODY:
        yield error(
            "trusted proxies",
            "Everybody counts as a load balancer.",
            directive.where,
            "Every client chooses its own address in logs and limits.",
            "Write the networks of the balancer only.",
        )


def _check_tls(directive: Directive) -> Iterator[Finding]:
    weak = _WEAK_PROTOCOLS.intersection(directive.arguments)
    if directive.name == "ssl_protocols" and weak:
        yield error(
            "tls",
            f"{' and '.join(sorted(weak))} can be negotiated.",
            directive.where,
            "They are broken, and forbidden since RFC 8996.",
            "Write ssl_protocols TLSv1.2 TLSv1.3.",
        )


def _check_retry(directive: Directive) -> Iterator[Finding]:
    if directive.name == "proxy_next_upstream" and "non_idempotent" in directive.arguments:
        yield error(
            "retry",
            "nginx sends a POST again.",
            directive.where,
            "What was done once may be done twice.",
            "Leave non_idempotent out.",
        )


def _unreadable(root: Path, mistake: Mapping[str, object]) -> Finding:
    where = f"{_relative(root, str(mistake['file']))}:{mistake['line']}"
    what, why = "This file cannot be read as nginx configuration.", "Nothing in it is checked."
    return error("nginx", what, where, why, "Run nginx -t.")
