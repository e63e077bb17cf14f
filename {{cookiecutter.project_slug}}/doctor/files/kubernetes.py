"""deploy/kubernetes as Deployments: the base and each overlay, with the rules of their parts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doctor.files.deployment import Deployment, read_environment_file
from doctor.files.yaml_document import Node, compose_nodes, merged, read_documents, replaced
from doctor.finding import Entry, Finding, mistake, parse_bytes, parse_seconds
from doctor.rules import broken_rules, read_rules
from doctor.timeouts import Value

FOLDER = Path("deploy/kubernetes/base")
NGINX_SITE = FOLDER / "nginx-site"
_OVERLAYS = "deploy/kubernetes/*/kustomization.yaml"
_SETTINGS = "settings"
# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
_TERMINATION_SECONDS_DEFAULT = "30"
_PROBE_SECONDS_DEFAULT = "1"
_APP_PORT_DEFAULT = "8000"
# As long as a cluster may need until it stops sending requests.
_ENDPOINT_SECONDS = 5

_RULES = Path(__file__).with_suffix(".toml")


def read_kubernetes(root: Path) -> tuple[list[Deployment], list[Finding]]:
    documents: list[Node] = []
    findings: list[Finding] = []
    for file in sorted((root / FOLDER).glob("*.yaml")):
        nodes, mistakes = read_documents(root, file)
        documents.extend(nodes)
        findings.extend(mistakes)
    settings: dict[str, Entry] = {}
    for file in sorted((root / FOLDER).glob("*.env")):
        settings |= read_environment_file(root, file)
    deployments, broken = _examine(documents, settings)
    for overlay in sorted(root.glob(_OVERLAYS)) if documents else ():
        nodes, mistakes = read_documents(root, overlay)
        findings.extend(mistakes)
        for node in nodes if overlay.parent.name != FOLDER.name else ():
            found, also = _examine(_patched(documents, node), settings | _literals(node))
            deployments += found
            broken += also
    return list({str(one): one for one in deployments}.values()), [
        *findings,
        *dict.fromkeys(broken),
    ]


def _patched(documents: Sequence[Node], overlay: Node) -> list[Node]:
    """With the overlay's inline patches and replicas."""
    changed = list(documents)
    for patch in overlay["patches"]:
        text = patch["patch"]
        if not text.node:
            continue
        padding = "\n" * (text.node.start_mark.line + 1)
        for node in compose_nodes(overlay.file, padding + text.text):
            kind = patch["target.kind"].text or node["kind"].text
            changed = [_apply(one, node) if one["kind"].text == kind else one for one in changed]
    return changed


def _apply(document: Node, patch: Node) -> Node:
    operations = list(patch)
    if not operations and patch.node:
        return Node(document.file, merged(document.node, patch.node))
    node = document.node
    for one in operations:
        node = replaced(node, one["path"].text.strip("/").split("/"), one["value"].node)
    return Node(document.file, node)


def _literals(overlay: Node) -> dict[str, Entry]:
    return {
        one.text.partition("=")[0]: Entry(one.text.partition("=")[2], one.where)
        for generator in overlay["configMapGenerator"]
        if generator["name"].text == _SETTINGS
        for one in generator["literals"]
    }


def _examine(
    documents: Sequence[Node], settings: Mapping[str, Entry]
) -> tuple[list[Deployment], list[Finding]]:
    replicas = _replicas(documents)
    pods = [one for one in documents if one["kind"].text == "Deployment"]
    containers = [(pod, one) for pod in pods for one in pod["spec.template.spec.containers"]]
    rules = read_rules(_RULES)
    findings = [
        finding
        for one in documents
        for finding in broken_rules(rules.get(one["kind"].text, {}), one.find, one.where)
    ]
    for _, container in containers:
        for section in ("container",) if _is_nginx(container) else ("container", "app"):
            findings += broken_rules(rules[section], container.find, container.where)
        findings += _check_container(container)
    findings += _check_services(documents, [one for _, one in containers])
    findings += _check_secrets(documents)
    return [_deployment(pod, one, settings, replicas) for pod, one in containers], findings


def _check_container(container: Node) -> Iterator[Finding]:
    if not _is_nginx(container) and not container["envFrom"]:
        yield mistake("no_env_from", container.where)
    seconds = _pre_stop_seconds(container)
    if seconds < _ENDPOINT_SECONDS:
        yield mistake(
            "short_pre_stop",
            (container["lifecycle.preStop"] or container).where,
            seconds=seconds,
            least=_ENDPOINT_SECONDS,
        )


def _check_services(documents: Sequence[Node], containers: Sequence[Node]) -> Iterator[Finding]:
    behind = {
        text
        for one in containers
        if _is_nginx(one)
        for port in one["ports"]
        for text in (port["name"].text, port["containerPort"].text)
    }
    for service in documents:
        for port in service["spec.ports"] if service["kind"].text == "Service" else ():
            target = port["targetPort"] or port["port"]
            if target.text not in behind:
                yield mistake("service_past_nginx", target.where, target=target.text)


def _check_secrets(documents: Sequence[Node]) -> Iterator[Finding]:
    for one in documents:
        if one["kind"].text == "Secret" and (one["data"] or one["stringData"]):
            yield mistake("secret_object", one.where)


def _replicas(documents: Sequence[Node]) -> Entry | None:
    """What the autoscaler goes up to, or what the Deployment asks for."""
    for kind, path in (
        ("HorizontalPodAutoscaler", "spec.maxReplicas"),
        ("Deployment", "spec.replicas"),
    ):
        for one in documents:
            if one["kind"].text == kind and one[path].text.isdecimal():
                return one[path].entry
    return None


def _is_nginx(container: Node) -> bool:
    return container["image"].text.rpartition("/")[2].startswith("nginx")


def _deployment(
    workload: Node, container: Node, settings: Mapping[str, Entry], replicas: Entry | None
) -> Deployment:
    is_nginx = _is_nginx(container)
    own = {one["name"].text: one["value"].entry for one in container["env"] if one["value"]}
    environment = {} if is_nginx else {**settings, **own}
    limits = container["resources.limits"]
    port = environment.get("APP_PORT", Entry(_APP_PORT_DEFAULT, "")).value
    return Deployment(
        where=container.where,
        kind="kubernetes",
        is_nginx=is_nginx,
        environment=environment,
        timeouts=dict(_timeouts(workload["spec.template.spec"], container)),
        replicas=replicas,
        cores=_cores(limits["cpu"].text),
        memory_bytes=parse_bytes(limits["memory"].text),
        has_read_only_root=container["securityContext.readOnlyRootFilesystem"].text == "true",
        writable=tuple(
            mount["mountPath"].text
            for mount in container["volumeMounts"]
            if mount["readOnly"].text != "true"
        ),
        listens="" if is_nginx else f"127.0.0.1:{port}",
        # One pod: over loopback.
        nginx_address=Entry("127.0.0.1", container.where),
        ports=tuple(
            Entry(one["containerPort"].text, one.where) for one in container["ports"] if is_nginx
        ),
    )


def _cores(text: str) -> float | None:
    number = text.removesuffix("m")
    if not number.replace(".", "", 1).isdecimal():
        return None
    return float(number) / (1000 if text.endswith("m") else 1)


def _timeouts(pod: Node, container: Node) -> Iterator[tuple[str, Value]]:
    is_nginx = _is_nginx(container)
    hook = (container["lifecycle.preStop"] or container).where
    slept = _pre_stop_seconds(container)
    yield "nginx_pre_stop" if is_nginx else "app_pre_stop", Value(slept, hook)
    termination = pod["terminationGracePeriodSeconds"]
    seconds = parse_seconds(termination.text or _TERMINATION_SECONDS_DEFAULT)
    if seconds is not None:
        where = (termination or container).where
        yield "nginx_stop" if is_nginx else "pod_stop", Value(seconds - slept, where)
    probe = container["readinessProbe"]
    if probe["httpGet.path"].text == "/readyz":
        limit = probe["timeoutSeconds"]
        patience = parse_seconds(limit.text or _PROBE_SECONDS_DEFAULT)
        if patience is not None:
            yield "ready_probe", Value(patience, (limit or probe).where)


def _pre_stop_seconds(container: Node) -> float:
    hook = container["lifecycle.preStop"]
    command = " ".join(hook["exec.command"].texts)
    slept = re.search(r"\bsleep (\w+)", command)
    return parse_seconds(slept[1] if slept else hook["sleep.seconds"].text) or 0.0
