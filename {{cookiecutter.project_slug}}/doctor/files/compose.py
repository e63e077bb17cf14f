"""deploy/compose/compose.yaml as Deployments, with the rules of each kind of container."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doctor.files.deployment import Deployment, interpolate, read_environment_file
from doctor.files.yaml_document import Node, read_documents
from doctor.finding import Entry, Finding, parse_bytes, parse_seconds
from doctor.rules import Rule, among, at_least, broken_rules, is_set, without
from doctor.settings import AllSettings
from doctor.timeouts import Value

FILE = Path("deploy/compose/compose.yaml")
NGINX_SITE = FILE.parent / "nginx-site"
# compose reads it for ${…}, and the service as its env_file.
_DOT_ENV = FILE.parent / ".env"
_STOP_SECONDS_DEFAULT = 10.0
_MAX_CONNECTIONS_DEFAULT = 100
_APP_PORT_DEFAULT = "8000"


def _is_local(ports: str) -> bool:
    return all(port.startswith("127.0.0.1:") for port in ports.split())


def _stops_with(signal: str, default: str) -> Rule:
    why = "It stops at once and cuts what is under way, or waits for clients that never leave."
    return Rule(
        "stop_signal",
        default,
        among(signal.lower()),
        "timeouts",
        why,
        f"Write stop_signal: {signal}.",
    )


def _unpublished(why: str) -> Rule:
    return Rule("ports", "", _is_local, "access", why, "Leave ports out; nginx is the way in.")


_EVERY_RULES = (
    Rule(
        "restart",
        "no",
        without("no"),
        "compose",
        "After a crash or a reboot it stays down.",
        "Write restart: unless-stopped.",
    ),
    Rule(
        "logging.driver",
        "json-file",
        without("json-file"),
        "compose",
        "Its log grows until the disk is full.",
        "Write logging: *logging.",
    ),
    Rule(
        "privileged",
        "false",
        among("false"),
        "secrets",
        "Who breaks into the container owns the machine.",
        "Leave privileged out.",
    ),
    Rule(
        "network_mode",
        "",
        lambda text: not text,
        "access",
        "It is no longer apart from the other networks of the machine.",
        "Leave network_mode out.",
    ),
)
_APP_RULES = (
    *_EVERY_RULES,
    Rule(
        "secrets",
        "",
        lambda text: "database_url" in text and "secret_key" in text,
        "secrets",
        "It has no key and no database, and does not start.",
        "Write secrets: [database_url, secret_key].",
    ),
    _stops_with("SIGTERM", "SIGTERM"),
    _unpublished("Who calls gunicorn itself goes around every rule of nginx."),
    Rule(
        "command",
        "",
        among("", "gunicorn"),
        "gunicorn",
        "Its arguments win over gunicorn.conf.py, where the numbers are checked.",
        "Leave command out; write settings.",
    ),
    Rule(
        "entrypoint",
        "",
        lambda text: not text,
        "gunicorn",
        "The image's own command is what is tested.",
        "Leave entrypoint out.",
    ),
    Rule(
        "user",
        "10001",
        lambda text: text.partition(":")[0] not in ("root", "0"),
        "secrets",
        "Who breaks into the service is root in its container.",
        "Leave user out.",
    ),
    Rule(
        "depends_on.migrate.condition",
        "",
        among("service_completed_successfully"),
        "migrations",
        "The code starts before its tables are there.",
        "Wait for migrate: service_completed_successfully.",
    ),
    Rule(
        "healthcheck.disable",
        "false",
        among("false"),
        "compose",
        "nginx waits for a healthy service and never starts.",
        "Leave it out.",
    ),
    Rule(
        "healthcheck.test",
        "",
        lambda text: "/readyz" not in text,
        "compose",
        "A lost database is no reason to call the process ill.",
        "Ask /livez.",
    ),
    Rule(
        "deploy.resources.limits.memory",
        "",
        is_set,
        "capacity",
        "One leak takes the machine with it.",
        "Write a limit, such as memory: 1G.",
    ),
)
_NGINX_RULES = (*_EVERY_RULES, _stops_with("SIGQUIT", "SIGQUIT"))
_POSTGRES_RULES = (
    *_EVERY_RULES,
    _stops_with("SIGINT", "SIGINT"),
    _unpublished("The database is on the internet: Docker goes around the firewall."),
    Rule(
        "stop_grace_period",
        "10s",
        at_least(30, parse_seconds),
        "timeouts",
        "It is killed while it writes its checkpoint.",
        "Write stop_grace_period: 60s.",
    ),
    Rule(
        "volumes",
        "",
        lambda text: re.search(r":/var/lib/postgresql( |$)", text) is not None,
        "compose",
        "Its data is lost with the container: image 18 keeps it in a folder below this one.",
        "Mount a volume at /var/lib/postgresql.",
    ),
    Rule(
        "environment.POSTGRES_HOST_AUTH_METHOD",
        "",
        without("trust"),
        "secrets",
        "It asks nobody for a password.",
        "Leave it out.",
    ),
    Rule(
        "environment.POSTGRES_PASSWORD",
        "",
        lambda text: not text,
        "secrets",
        "Everybody who reads the repository has it.",
        "Use POSTGRES_PASSWORD_FILE.",
    ),
)
_PGBOUNCER_RULES = (
    *_EVERY_RULES,
    _stops_with("SIGINT", "SIGTERM"),
    _unpublished("The database is on the internet: Docker goes around the firewall."),
)


def read_compose(root: Path) -> tuple[list[Deployment], list[Finding]]:
    if not (root / FILE).is_file():
        return [], []
    variables = read_environment_file(root, root / _DOT_ENV)
    documents, findings = read_documents(root, root / FILE, variables)
    deployments: list[Deployment] = []
    for document in documents:
        for name, service in document["services"].items():
            rules = _rules_of(service)
            findings.extend(broken_rules(rules, service.find, service.where))
            if rules in (_APP_RULES, _NGINX_RULES):
                deployments.append(_deployment(document, name, service, variables))
    return deployments, findings


def _rules_of(service: Node) -> Sequence[Rule]:
    """By image, and none for tasks that end by themselves."""
    image = service["image"].text.rpartition("/")[2]
    command = " ".join(service["command"].texts)
    if not service["restart"] or service["restart"].text != "no":
        if image.startswith("nginx"):
            return _NGINX_RULES
        if _is_app(service):
            return () if command.startswith("manage") else _APP_RULES
        if "pgbouncer" in image:
            return _PGBOUNCER_RULES
        if "postgres" in image and not service["entrypoint"]:
            return _POSTGRES_RULES
    return ()


def _is_app(service: Node) -> bool:
    names = {name.lower() for name in _environment(service["environment"])}
    return len(names & AllSettings.model_fields.keys()) > 1


def _deployment(
    document: Node, name: str, service: Node, variables: Mapping[str, Entry]
) -> Deployment:
    is_nginx = _rules_of(service) is _NGINX_RULES
    from_file = variables if service["env_file"] else {}
    environment = {**from_file, **_environment(service["environment"])}
    limits = service["deploy.resources.limits"]
    replicas = service["deploy.replicas"]
    port = interpolate(environment.get("APP_PORT", Entry(_APP_PORT_DEFAULT, "")).value)
    return Deployment(
        where=service.where,
        kind="compose",
        is_nginx=is_nginx,
        environment=environment,
        timeouts=dict(_timeouts(service, "nginx_stop" if is_nginx else "stop")),
        replicas=replicas.entry if replicas.text.isdecimal() else None,
        cores=float(limits["cpus"].text or 0) or None,
        memory_bytes=parse_bytes(limits["memory"].text),
        has_read_only_root=service["read_only"].text == "true",
        writable=tuple(_writable(service)),
        listens="" if is_nginx else f"{name}:{port}",
        nginx_address=_nginx_address(document),
        max_connections=_max_connections(document),
        ports=tuple(Entry(one.text.rpartition(":")[2], one.where) for one in service["ports"]),
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
        if _rules_of(service) is not _NGINX_RULES:
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
        if _rules_of(service) is _POSTGRES_RULES:
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
