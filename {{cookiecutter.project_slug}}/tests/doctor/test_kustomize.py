"""Overlays as kustomize applies them: patches inline and in files, and those of components."""

from pathlib import Path

import pytest

from tests.doctor.conftest import ROOT, edit, find_mistakes, keep_deployment

pytestmark = [
    pytest.mark.system,  # nginx itself is asked about its files
    pytest.mark.skipif(not (ROOT / "deploy/kubernetes").is_dir(), reason="no Kubernetes here"),
]

OVERLAY = "deploy/kubernetes/production/kustomization.yaml"
COMPONENT = "deploy/kubernetes/monitoring/nginx-exporter.yaml"


@pytest.fixture
def overlay(service: Path) -> Path:
    """With the component, as its guide says it."""
    keep_deployment(service, "kubernetes")
    edit(service, OVERLAY, "^images:", "components: [../monitoring]\n\nimages:")
    return service


def test_component_is_not_found_wrong(overlay: Path) -> None:
    assert find_mistakes(overlay) == []


def test_mistake_of_a_component_is_found_where_it_stands(overlay: Path) -> None:
    edit(
        overlay, COMPONENT, "^      containers:", "      terminationGracePeriodSeconds: 20\n\\g<0>"
    )
    found = {(finding.check, finding.where) for finding in find_mistakes(overlay)}
    assert found == {("timeouts", f"{COMPONENT}:9")}


def test_patch_of_a_component_changes_the_container_that_it_names(overlay: Path) -> None:
    edit(overlay, COMPONENT, "name: nginx-exporter$", "name: service")
    edit(overlay, COMPONENT, "limits: .*", "limits: {cpu: 100m, memory: 64Mi}")
    assert {finding.check for finding in find_mistakes(overlay)} == {"capacity", "gunicorn"}
