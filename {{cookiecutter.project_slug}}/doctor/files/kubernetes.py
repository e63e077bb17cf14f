"""deploy/kubernetes as Deployments: the base and each overlay, with the rules of their parts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doctor.files.deployment import Deployment, read_environment_file
from doctor.files.yaml_document import Node, compose_nodes, merged, read_documents, replaced
from doctor.finding import Entry, Finding, error, parse_bytes, parse_seconds
from doctor.rules import Rule, among, broken_rules, is_set
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

WORKLOAD_RULES = (
    Rule(
        "spec.strategy.type",
        "RollingUpdate",
        among("rollingupdate"),
        "kubernetes",
        "Every pod leaves before a new one comes.",
        "Leave the type out.",
    ),
    Rule(
        "spec.strategy.rollingUpdate.maxUnavailable",
        "25%",
        among("0", "0%", "25%"),
        "kubernetes",
        "A release takes pods away before new ones are ready.",
        "Write maxUnavailable: 0.",
    ),
    Rule(
        "spec.template.spec.hostNetwork",
        "false",
        among("false"),
        "access",
        "gunicorn's port is open on the node, past nginx.",
        "Leave hostNetwork out.",
    ),
)
BUDGET_RULES = (
    Rule(
        "spec.maxUnavailable",
        "1",
        lambda text: text not in ("0", "0%", "100%"),
        "kubernetes",
        "Draining a node takes every pod, or never ends.",
        "Write maxUnavailable: 1.",
    ),
    Rule(
        "spec.minAvailable",
        "1",
        lambda text: text not in ("0", "0%", "100%"),
        "kubernetes",
        "Draining a node takes every pod, or never ends.",
        "Write maxUnavailable: 1 instead.",
    ),
)
_CONTAINER_RULES = (
    Rule(
        "securityContext.privileged",
        "false",
        among("false"),
        "secrets",
        "Who breaks into the container owns the node.",
        "Leave privileged out.",
    ),
    Rule(
        "resources.limits.memory",
        "",
        is_set,
        "capacity",
        "One leak takes the node with it.",
        "Write a memory limit.",
    ),
)
APP_RULES = (
    *_CONTAINER_RULES,
    Rule(
        "securityContext.runAsUser",
        "10001",
        lambda text: text != "0",
        "secrets",
        "Who breaks into the service is root in its container.",
        "Write runAsUser: 10001.",
    ),
    Rule(
        "livenessProbe.httpGet.path",
        "",
        among("/livez"),
        "probes",
        "A lost database restarts every pod, or a stuck one stays.",
        "Ask /livez.",
    ),
    Rule(
        "readinessProbe.httpGet.path",
        "",
        among("/readyz"),
        "probes",
        "Pods get requests while they start, drain or have no database.",
        "Ask /readyz.",
    ),
    Rule(
        "startupProbe.httpGet.path",
        "",
        among("/livez", "/readyz"),
        "probes",
        "A slow first start is killed by the liveness probe.",
        "Ask /livez, 30 times.",
    ),
    Rule(
        "command",
        "",
        lambda text: not text,
        "gunicorn",
        "Its arguments win over gunicorn.conf.py, where the numbers are checked.",
        "Leave command out; write settings.",
    ),
    Rule(
        "args",
        "",
        lambda text: not text,
        "gunicorn",
        "They win over gunicorn.conf.py, where the numbers are checked.",
        "Leave args out; write settings.",
    ),
)

_RULES_BY_KIND: Mapping[str, Sequence[Rule]] = {
    "Deployment": WORKLOAD_RULES,
    "PodDisruptionBudget": BUDGET_RULES,
}


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
    findings = [
        finding
        for one in documents
        for finding in broken_rules(_RULES_BY_KIND.get(one["kind"].text, ()), one.find, one.where)
    ]
    for _, container in containers:
        rules = _CONTAINER_RULES if _is_nginx(container) else APP_RULES
        findings += broken_rules(rules, container.find, container.where)
        findings += _check_container(container)
    findings += _check_services(documents, [one for _, one in containers])
    findings += _check_secrets(documents)
    return [_deployment(pod, one, settings, replicas) for pod, one in containers], findings


def _check_container(container: Node) -> Iterator[Finding]:
    if not _is_nginx(container) and not container["envFrom"]:
        yield error(
            "kubernetes",
            "It has no envFrom.",
            container.where,
            "The settings of settings.env do not reach it.",
            "Write envFrom with the ConfigMap settings.",
        )
    seconds = _pre_stop_seconds(container)
    if seconds < _ENDPOINT_SECONDS:
        yield error(
            "timeouts",
            f"preStop sleeps {seconds:g} s.",
            (container["lifecycle.preStop"] or container).where,
            "The cluster still sends requests to a pod that has stopped.",
            f"Sleep {_ENDPOINT_SECONDS} s in nginx, longer in gunicorn.",
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
                yield error(
                    "access",
                    f"The Service leads to port {target.text}, which is not nginx's.",
                    target.where,
                    "Requests go around every rule of nginx, or nowhere.",
                    "Write targetPort: http.",
                )


def _check_secrets(documents: Sequence[Node]) -> Iterator[Finding]:
    for one in documents:
        if one["kind"].text == "Secret" and (one["data"] or one["stringData"]):
            yield error(
                "secrets",
                "A Secret is written out.",
                one.where,
                "Everybody who reads the repository has it.",
                "Create it in the cluster.",
            )


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
