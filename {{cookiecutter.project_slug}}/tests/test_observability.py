"""Rules and dashboards say what they mean, about metrics that there are."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.servers import ROOT, find_binary

FOLDER = ROOT / "deploy/observability"
OPERATOR = ROOT / "deploy/kubernetes/monitoring"
RULES = yaml.safe_load((FOLDER / "rules.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
# Of nginx's exporter, the blackbox exporter and Prometheus itself.
FOREIGN = re.compile(r"nginx_\w+|probe_ssl_earliest_cert_expiry|up|ALERTS")
UNITS = {"reqps", "cps", "s", "percentunit", "short", "bytes"}


def load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def dashboards() -> list[Path]:
    return sorted((FOLDER / "grafana/dashboards").glob("*.json"))


def panel_queries() -> list[str]:
    panels = [panel for path in dashboards() for panel in json.loads(path.read_text())["panels"]]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.system
def test_alerts_fire_and_a_sound_service_is_quiet() -> None:
    subprocess.run(
        [find_binary("promtool"), "test", "rules", "rules_test.yaml"], cwd=FOLDER, check=True
    )


def test_prometheus_takes_its_configuration() -> None:
    subprocess.run(
        [find_binary("promtool"), "check", "config", FOLDER / "prometheus.yaml"], check=True
    )


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_has_a_test_and_a_section_in_the_runbook(alert: dict[str, dict[str, str]]) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.M)
    assert anchor in [heading.lower() for heading in headings]
    assert f"alertname: {alert['alert']}\n" in (FOLDER / "rules_test.yaml").read_text()


def test_queries_ask_for_metrics_that_there_are() -> None:
    sources = [*(ROOT / "server").glob("*.py"), *(ROOT / "app").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    recorded = {
        rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
    }
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    for query in [*panel_queries(), *rules]:
        for name in re.findall(
            r"\b([a-z_:0-9]+)(?=\{|\[)|\b((?:server|app)_\w+|objective:\w+)", query
        ):
            metric = next(filter(None, name))
            base = re.sub(r"_(count|sum|bucket)$", "", metric)
            assert FOREIGN.fullmatch(metric) or metric in recorded or f'"{base}"' in code, metric


@pytest.mark.parametrize("path", dashboards(), ids=lambda path: path.stem)
def test_panels_have_units_legends_and_a_source(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert [item["name"] for item in dashboard["templating"]["list"]] == ["datasource", "job"]
    for panel in dashboard["panels"]:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["datasource"]["uid"] == "$datasource"
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_dashboards_are_what_their_script_writes() -> None:
    written = {path.name: path.read_text() for path in dashboards()}
    assert written == load(FOLDER / "dashboards.py").render()


@pytest.mark.skipif(not OPERATOR.exists(), reason="this service is for no cluster")
def test_operator_gets_the_same_rules() -> None:
    script = load(OPERATOR / "write_rules.py")
    assert script.TARGET.read_text() == script.render()
