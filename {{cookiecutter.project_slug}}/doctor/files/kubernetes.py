"""deploy/kubernetes as Deployments: the base and each overlay, with the rules of their parts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doctor.files import kustomize
from doctor.files.deployment import Deployment
from doctor.files.references import check_references, is_app, is_jobs, is_nginx
from doctor.files.yaml_document import Node, read_documents
from doctor.finding import Entry, Finding, mistake, parse_bytes, parse_seconds
from doctor.rules import broken_rules, read_rules
from doctor.timeouts import Value

NGINX_SITE = kustomize.BASE / "nginx-site"
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
    for file in sorted((root / kustomize.BASE).glob("*.yaml")):
        nodes, mistakes = read_documents(root, file)
        documents.extend(nodes)
        findings.extend(mistakes)
    if not documents:
        return [], findings
    kustomizations, mistakes = kustomize.read_kustomizations(root)
    settings: dict[str, Entry] = {}
    for one in kustomizations:
        settings |= {} if kustomize.is_overlay(one) else kustomize.settings_of(root, one)
    deployments, broken = _examine(documents, settings)
    broken += check_references(documents, kustomize.config_maps(kustomizations))
    for one in kustomizations:
        broken += kustomize.check_kustomization(root, one)
        if kustomize.is_overlay(one):
            own = settings | kustomize.settings_of(root, one)
            found, also = _examine(kustomize.patched(root, documents, one), own)
            deployments += found
            broken += also
    return list({str(one): one for one in deployments}.values()), [
        *findings,
        *mistakes,
        *dict.fromkeys(broken),
    ]


def _examine(
    documents: Sequence[Node], settings: Mapping[str, Entry]
) -> tuple[list[Deployment], list[Finding]]:
    replicas = _replicas(documents)
    pods = [one for one in documents if one["kind"].text == "Deployment"]
    containers = [
        (pod, one)
        for pod in pods
        for one in pod["spec.template.spec.containers"]
        if is_nginx(one) or is_app(one)
    ]
    rules = read_rules(_RULES)
    findings = [
        finding
        for one in documents
        for finding in broken_rules(rules.get(one["kind"].text, {}), one.find, one.where)
    ]
    for _, container in containers:
        kind = "nginx" if is_nginx(container) else "jobs" if is_jobs(container) else "app"
        for section in ("container", kind):
            findings += broken_rules(rules[section], container.find, container.where)
        findings += _check_container(container)
    findings += _check_secrets(documents)
    return [_deployment(pod, one, settings, replicas) for pod, one in containers], findings


def _check_container(container: Node) -> Iterator[Finding]:
    if not is_nginx(container) and not container["envFrom"]:
        yield mistake("no_env_from", container.where)
    seconds = _pre_stop_seconds(container)
    if seconds < _ENDPOINT_SECONDS and not is_jobs(container):
        yield mistake(
            "short_pre_stop",
            (container["lifecycle.preStop"] or container).where,
            seconds=seconds,
            least=_ENDPOINT_SECONDS,
        )


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


def _deployment(
    workload: Node, container: Node, settings: Mapping[str, Entry], replicas: Entry | None
) -> Deployment:
    runs_nginx = is_nginx(container)
    own = {one["name"].text: one["value"].entry for one in container["env"] if one["value"]}
    environment = {} if runs_nginx else {**settings, **own}
    limits = container["resources.limits"]
    port = environment.get("APP_PORT", Entry(_APP_PORT_DEFAULT, "")).value
    return Deployment(
        where=container.where,
        kind="kubernetes",
        is_nginx=runs_nginx,
        is_jobs=is_jobs(container),
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
        listens="" if runs_nginx or is_jobs(container) else f"127.0.0.1:{port}",
        # One pod: over loopback.
        nginx_address=Entry("127.0.0.1", container.where),
        ports=tuple(
            Entry(one["containerPort"].text, one.where) for one in container["ports"] if runs_nginx
        ),
    )


def _cores(text: str) -> float | None:
    number = text.removesuffix("m")
    if not number.replace(".", "", 1).isdecimal():
        return None
    return float(number) / (1000 if text.endswith("m") else 1)


def _timeouts(pod: Node, container: Node) -> Iterator[tuple[str, Value]]:
    runs_nginx, runs_jobs = is_nginx(container), is_jobs(container)
    hook = (container["lifecycle.preStop"] or container).where
    slept = _pre_stop_seconds(container)
    if not runs_jobs:
        yield "nginx_pre_stop" if runs_nginx else "app_pre_stop", Value(slept, hook)
    termination = pod["terminationGracePeriodSeconds"]
    seconds = parse_seconds(termination.text or _TERMINATION_SECONDS_DEFAULT)
    if seconds is not None:
        where = (termination or container).where
        name = "nginx_stop" if runs_nginx else "jobs_stop" if runs_jobs else "pod_stop"
        yield name, Value(seconds - slept, where)
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
