"""deploy/compose/compose.yaml as Deployments; a rule of compose.toml is for a kind of container."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from doctor.files.deployment import (
    Deployment,
    includes,
    interpolate,
    read_environment_file,
)
from doctor.files.yaml_document import Node, read_documents
from doctor.finding import Entry, Finding, mistake, parse_bytes, parse_seconds
from doctor.rules import broken_rules, read_rules
from doctor.settings import AllSettings
from doctor.timeouts import Value

FILE = Path("deploy/compose/compose.yaml")
NGINX_SITE = FILE.parent / "nginx-site"
# compose reads it for ${…}, and the service as its env_file.
_DOT_ENV = FILE.parent / ".env"
_STOP_SECONDS_DEFAULT = 10.0
_MAX_CONNECTIONS_DEFAULT = 100
_APP_PORT_DEFAULT = "8000"


_RULES = Path(__file__).with_suffix(".toml")
_SERVERS = ("app", "jobs", "nginx", "postgres", "pgbouncer")
# Those that become Deployments, and how the order of timeouts calls their stop.
_STOPS = {"app": "stop", "jobs": "jobs_stop", "nginx": "nginx_stop"}
_COMMANDS = {"manage migrate": "migrate", "manage work": "jobs"}
# Of .env, with what each of them says where PgBouncer is used.
_POOLER = {
    "COMPOSE_PROFILES": "pgbouncer",
    "DATABASE_PGBOUNCER": "true",
    "DATABASE_VIA": "pgbouncer",
}


def read_compose(root: Path) -> tuple[list[Deployment], list[Finding]]:
    if not (root / FILE).is_file():
        return [], []
    variables = read_environment_file(root, root / _DOT_ENV)
    documents, findings = read_documents(root, root / FILE, variables)
    deployments: list[Deployment] = []
    for document in documents:
        for name, service in document["services"].items():
            kind, rules = _kind_of(service), read_rules(_RULES)
            for section in ("every", kind) if kind in _SERVERS else (kind,):
                findings.extend(broken_rules(rules.get(section, {}), service.find, service.where))
            if kind in _STOPS:
                deployments.append(_deployment(document, name, service, variables))
        findings.extend(_check_networks(document))
        findings.extend(_check_memory(document))
        findings.extend(_check_published(document))
    findings.extend(_check_pooler(variables))
    return deployments, findings


def _check_networks(document: Node) -> Iterator[Finding]:
    """Who must reach whom, and who must not."""
    servers = {_kind_of(one): one for _, one in document["services"].items()}
    networks = {kind: _networks(one) for kind, one in servers.items()}
    for first, second in (("nginx", "app"), ("app", "postgres"), ("jobs", "postgres")):
        if {first, second} <= networks.keys() and not networks[first] & networks[second]:
            yield mistake("apart", servers[first].where, first=first, second=second)
    if networks.get("nginx", set()) & networks.get("postgres", set()):
        yield mistake("database_near_nginx", servers["postgres"].where)
    for name in networks.get("postgres", set()):
        network = document["networks"][name]
        if network["internal"].text != "true":
            yield mistake("way_out", (network or servers["postgres"]).where, name=name)
    for name in networks.get("nginx", set()):
        address = servers["nginx"]["networks"][name]["ipv4_address"]
        for config in document["networks"][name]["ipam.config"]:
            where, text = address.where, interpolate(address.text) or ""
            subnet = interpolate(config["subnet"].text) or ""
            if address and not includes(subnet, text):
                yield mistake("outside_network", where, address=text, subnet=subnet)


def _networks(service: Node) -> set[str]:
    return set(service["networks"].texts) or {name for name, _ in service["networks"].items()}


def _check_memory(document: Node) -> Iterator[Finding]:
    for _, service in document["services"].items():
        command = service["command"]
        written = re.search(r"shared_buffers=(\w+)", " ".join(command.texts))
        limit = parse_bytes(service["deploy.resources.limits.memory"].text)
        if written and limit and (parse_bytes(written[1]) or 0) * 2 > limit:
            yield mistake("large_buffers", command.where)


def _check_published(document: Node) -> Iterator[Finding]:
    ports = [one for _, service in document["services"].items() for one in service["ports"]]
    published = [(interpolate(one.text) or "").rpartition(":")[0] for one in ports]
    numbers = [text.rpartition(":")[2] for text in published]
    for number, one in zip(numbers, ports, strict=True):
        if number and numbers.count(number) > 1:
            yield mistake("port_twice", one.where, port=number)


def _check_pooler(variables: Mapping[str, Entry]) -> Iterator[Finding]:
    found = {name: variables[name] for name in _POOLER if name in variables}
    meant = [name for name, one in found.items() if _POOLER[name] in one.value]
    if meant and len(meant) < len(_POOLER):
        yield mistake("half_a_pooler", found[meant[0]].where)


def _kind_of(service: Node) -> str:
    """By image, and none for tasks that end by themselves."""
    image = service["image"].text.rpartition("/")[2]
    command = " ".join(service["command"].texts)
    for start, kind in _COMMANDS.items():
        if command.startswith(start):
            return kind
    if not service["restart"] or service["restart"].text != "no":
        if image.startswith("nginx") and "exporter" not in image:
            return "nginx"
        if _is_app(service):
            return "app"
        if "pgbouncer" in image:
            return "pgbouncer"
        if "postgres" in image and not service["entrypoint"]:
            return "postgres"
    return ""


def _is_app(service: Node) -> bool:
    names = {name.lower() for name in _environment(service["environment"])}
    return len(names & AllSettings.model_fields.keys()) > 1


def _deployment(
    document: Node, name: str, service: Node, variables: Mapping[str, Entry]
) -> Deployment:
    runs = _kind_of(service)
    from_file = variables if service["env_file"] else {}
    environment = {**from_file, **_environment(service["environment"])}
    limits = service["deploy.resources.limits"]
    replicas = service["deploy.replicas"]
    port = interpolate(environment.get("APP_PORT", Entry(_APP_PORT_DEFAULT, "")).value)
    return Deployment(
        where=service.where,
        kind="compose",
        is_nginx=runs == "nginx",
        is_jobs=runs == "jobs",
        environment=environment,
        timeouts=dict(_timeouts(service, _STOPS[runs])),
        replicas=replicas.entry if replicas.text.isdecimal() else None,
        cores=float(limits["cpus"].text or 0) or None,
        memory_bytes=parse_bytes(limits["memory"].text),
        has_read_only_root=service["read_only"].text == "true",
        writable=tuple(_writable(service)),
        listens=f"{name}:{port}" if runs == "app" else "",
        nginx_address=_nginx_address(document),
        max_connections=_max_connections(document),
        ports=tuple(Entry(one.text or one["target"].text, one.where) for one in service["ports"]),
    )


def _environment(node: Node) -> dict[str, Entry]:
    entries = {name: value.entry for name, value in node.items()}
    for one in node:  # the other form: a list of NAME=value
        name, _, value = one.text.partition("=")
        entries[name] = Entry(value, one.where)
    return entries


def _nginx_address(document: Node) -> Entry | None:
    """Its own, or else the network that it shares with the service."""
    for _, service in document["services"].items():
        if _kind_of(service) != "nginx":
            continue
        for _, network in service["networks"].items():
            if network["ipv4_address"]:
                return _interpolated(network["ipv4_address"])
        for name in service["networks"].texts:
            for config in document[f"networks.{name}.ipam.config"]:
                return _interpolated(config["subnet"])
    return None


def _interpolated(node: Node) -> Entry | None:
    text = interpolate(node.text)
    return Entry(text, node.where) if text else None


def _max_connections(document: Node) -> Entry | None:
    for _, service in document["services"].items():
        if _kind_of(service) == "postgres":
            command = " ".join(service["command"].texts)
            found = re.search(r"max_connections=(\d+)", command)
            where = service["command"].where if found else service.where
            return Entry(found[1] if found else str(_MAX_CONNECTIONS_DEFAULT), where)
    return None


def _timeouts(service: Node, timeout: str) -> Iterator[tuple[str, Value]]:
    stop = service["stop_grace_period"]
    seconds = parse_seconds(interpolate(stop.text) or "") if stop else _STOP_SECONDS_DEFAULT
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
