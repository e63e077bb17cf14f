"""deploy/compose/compose.yaml as a Deployment."""

from collections.abc import Iterator
from pathlib import Path

from doctor.files.deployment import Deployment, interpolate
from doctor.files.yaml_document import Node, read_documents
from doctor.finding import Entry, Finding, parse_bytes, parse_seconds
from doctor.timeouts import Value

FILE = Path("deploy/compose/compose.yaml")


def read_compose(root: Path) -> tuple[list[Deployment], list[Finding]]:
    if not (root / FILE).is_file():
        return [], []
    documents, findings = read_documents(root, root / FILE)
    services = [service for document in documents for _, service in document["services"].items()]
    return [deployment for one in services for deployment in _deployment(one)], findings


def _deployment(service: Node) -> Iterator[Deployment]:
    is_nginx = "nginx" in service["image"].text
    environment = _environment(service["environment"])
    # `migrate` has the same environment and another command.
    is_app = "ENVIRONMENT" in environment and (
        not service["command"] or "gunicorn" in " ".join(service["command"].texts)
    )
    if not (is_nginx or is_app):
        return
    limits = service["deploy.resources.limits"]
    replicas = service["deploy.replicas"]
    yield Deployment(
        where=service.where,
        is_nginx=is_nginx,
        environment=environment,
        timeouts=dict(_timeouts(service, "nginx_stop" if is_nginx else "stop")),
        replicas=replicas.entry if replicas.text.isdecimal() else None,
        cores=float(limits["cpus"].text or 0) or None,
        memory_bytes=parse_bytes(limits["memory"].text),
        has_read_only_root=service["read_only"].text == "true",
        writable=tuple(_writable(service)),
    )


def _environment(node: Node) -> dict[str, Entry]:
    entries = {name: value.entry for name, value in node.items()}
    for one in node:  # the other form: a list of NAME=value
        name, _, value = one.text.partition("=")
        entries[name] = Entry(value, one.where)
    return entries


def _timeouts(service: Node, timeout: str) -> Iterator[tuple[str, Value]]:
    stop = service["stop_grace_period"]
    # Docker's own default is 10 s.
    seconds = parse_seconds(interpolate(stop.text) or "") if stop else 10.0
    if seconds is not None:
        yield timeout, Value(seconds, stop.where if stop else service.where)


def _writable(service: Node) -> Iterator[str]:
    for path in service["tmpfs"].texts:
        yield path.partition(":")[0]
    for volume in service["volumes"]:
        source, _, rest = volume.text.partition(":")
        target, _, mode = rest.partition(":")
        if source and mode != "ro":
            yield target
        if volume["target"]:
            yield volume["target"].text
