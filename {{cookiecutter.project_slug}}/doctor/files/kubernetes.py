"""deploy/kubernetes/base as a Deployment; patches of the overlays are not applied."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from doctor.files.deployment import Deployment, read_environment_file
from doctor.files.yaml_document import Node, read_documents
from doctor.finding import Entry, Finding, parse_bytes, parse_seconds
from doctor.timeouts import Value

FOLDER = Path("deploy/kubernetes/base")
# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
_TERMINATION_SECONDS_DEFAULT = "30"
_PROBE_SECONDS_DEFAULT = "1"


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
    workloads = [one for one in documents if one["kind"].text == "Deployment"]
    replicas = _replicas(documents)
    return [
        _deployment(workload, container, settings, replicas)
        for workload in workloads
        for container in workload["spec.template.spec.containers"]
    ], findings


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
    workload: Node, container: Node, settings: dict[str, Entry], replicas: Entry | None
) -> Deployment:
    is_nginx = container["image"].text.rpartition("/")[2].startswith("nginx")
    own = {one["name"].text: one["value"].entry for one in container["env"] if one["value"]}
    limits = container["resources.limits"]
    return Deployment(
        where=container.where,
        is_nginx=is_nginx,
        environment={} if is_nginx else settings | own,
        timeouts=dict(_timeouts(workload["spec.template.spec"], container, is_nginx)),
        replicas=replicas,
        cores=_cores(limits["cpu"].text),
        memory_bytes=parse_bytes(limits["memory"].text),
        has_read_only_root=container["securityContext.readOnlyRootFilesystem"].text == "true",
        writable=tuple(
            mount["mountPath"].text
            for mount in container["volumeMounts"]
            if mount["readOnly"].text != "true"
        ),
    )


def _cores(text: str) -> float | None:
    number = text.removesuffix("m")
    if not number.replace(".", "", 1).isdecimal():
        return None
    return float(number) / (1000 if text.endswith("m") else 1)


def _timeouts(pod: Node, container: Node, is_nginx: bool) -> Iterator[tuple[str, Value]]:
    termination = pod["terminationGracePeriodSeconds"]
    seconds = parse_seconds(termination.text or _TERMINATION_SECONDS_DEFAULT)
    if seconds is not None:
        timeout = "nginx_stop" if is_nginx else "pod_stop"
        where = (termination or container).where
        yield timeout, Value(seconds - _pre_stop_seconds(container), where)
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
