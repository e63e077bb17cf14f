"""What one object of Kubernetes calls another: names, labels and ports that must be there."""

from collections.abc import Iterator, Sequence

from doctor.files.yaml_document import Node
from doctor.finding import Finding, mistake


def check_references(documents: Sequence[Node], config_maps: set[str]) -> Iterator[Finding]:
    by_kind: dict[str, list[Node]] = {}
    for one in documents:
        by_kind.setdefault(one["kind"].text, []).append(one)
    pods = by_kind.get("Deployment", [])
    services = by_kind.get("Service", [])
    containers = [one for pod in pods for one in pod["spec.template.spec.containers"]]
    yield from _check_selectors(documents, pods)
    yield from _check_services(services, containers)
    for pod in pods:
        yield from _check_pod(pod, config_maps)
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        yield from _check_scaler(scaler, pods, by_kind.get("PodDisruptionBudget", []))
    for ingress in by_kind.get("Ingress", []):
        yield from _check_ingress(ingress, services)
    for policy in by_kind.get("NetworkPolicy", []):
        for rule in policy["spec.ingress"]:
            if not rule["from"]:
                yield mistake("open_policy", rule.where)


def is_nginx(container: Node) -> bool:
    image = container["image"].text.rpartition("/")[2]
    return image.startswith("nginx") and "exporter" not in image


def is_app(container: Node) -> bool:
    """Beside it and nginx a pod may have containers of others, which the rules are not about."""
    return bool(container["envFrom"]) or "/run/secrets" in " ".join(container["volumeMounts"].texts)


def is_jobs(container: Node) -> bool:
    return container["command"].texts[:2] == ["manage", "work"]


def _check_selectors(documents: Sequence[Node], pods: Sequence[Node]) -> Iterator[Finding]:
    """Labels that kustomize adds to everything are not in these files."""
    labels = [_texts(pod["spec.template.metadata.labels"]) for pod in pods]
    for one in documents:
        is_service = one["kind"].text == "Service"
        selector = one["spec.selector" if is_service else "spec.selector.matchLabels"]
        for key, value in selector.items():
            if labels and all(own.get(key, value.text) != value.text for own in labels):
                yield mistake("unlike_pods", value.where, label=key, value=value.text)


def _check_services(services: Sequence[Node], containers: Sequence[Node]) -> Iterator[Finding]:
    behind = {
        text
        for one in containers
        if is_nginx(one)
        for port in one["ports"]
        for text in (port["name"].text, port["containerPort"].text)
    }
    for service in services:
        for port in service["spec.ports"]:
            target = port["targetPort"] or port["port"]
            if target.text not in behind:
                yield mistake("service_past_nginx", target.where, target=target.text)


def _check_pod(pod: Node, config_maps: set[str]) -> Iterator[Finding]:
    spec = pod["spec.template.spec"]
    volumes = {one["name"].text for one in spec["volumes"]}
    named = [one["configMap.name"] for one in spec["volumes"]]
    for container in spec["containers"]:
        named += [one["configMapRef.name"] for one in container["envFrom"]]
        for mount in container["volumeMounts"]:
            if mount["name"].text not in volumes:
                yield _unknown("The volume", mount["name"])
        yield from _check_probes(container)
    for one in named:
        if one and one.text not in config_maps:
            yield _unknown("The ConfigMap", one)


def _check_probes(container: Node) -> Iterator[Finding]:
    ports = [_texts(one) for one in container["ports"]]
    known = {text for port in ports for text in port.values()}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        port = container[probe]["httpGet.port"]
        if port and port.text not in known:
            yield mistake("wrong_probe", port.where, port=port.text)


def _check_scaler(scaler: Node, pods: Sequence[Node], budgets: Sequence[Node]) -> Iterator[Finding]:
    target = scaler["spec.scaleTargetRef.name"]
    if target.text not in {pod["metadata.name"].text for pod in pods}:
        yield _unknown("The Deployment", target)
    least, most = scaler["spec.minReplicas"], scaler["spec.maxReplicas"]
    if _number(least) > _number(most):
        yield mistake("upside_down", least.where, least=least.text, most=most.text)
    for budget in budgets:
        kept = budget["spec.minAvailable"]
        if kept and _number(kept) >= _number(least):
            yield mistake("never_drained", kept.where, value=kept.text, least=least.text or "1")


def _check_ingress(ingress: Node, services: Sequence[Node]) -> Iterator[Finding]:
    ports = {
        one["metadata.name"].text: {
            text for port in one["spec.ports"] for text in (port["name"].text, port["port"].text)
        }
        for one in services
    }
    for rule in ingress["spec.rules"]:
        for path in rule["http.paths"]:
            backend = path["backend.service"]
            port = backend["port.name"] or backend["port.number"]
            if backend["name"].text not in ports:
                yield _unknown("The Service", backend["name"])
            elif port.text not in ports[backend["name"].text]:
                yield _unknown("The port", port)


def _unknown(kind: str, name: Node) -> Finding:
    return mistake("unknown_name", name.where, kind=kind, name=name.text)


def _number(node: Node) -> int:
    return int(node.text) if node.text.isdecimal() else 1


def _texts(node: Node) -> dict[str, str]:
    return {key: value.text for key, value in node.items()}
