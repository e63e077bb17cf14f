"""A real Prometheus with the rules of this service, which asks what a test points it to."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import yaml

from development.ports import free_port
from tests.servers import ROOT, find_binary, running, wait_until

RULES = ROOT / "deploy/observability/rules.yaml"


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        return httpx2.get(f"{self._url}/-/ready", timeout=10).status_code == httpx2.codes.OK

    def query(self, text: str) -> list[float]:
        url = f"{self._url}/api/v1/query"
        answer = httpx2.get(url, params={"query": text}, timeout=10).json()
        assert answer["status"] == "success", (text, answer)
        return [float(result["value"][1]) for result in answer["data"]["result"]]

    def unanswered(self, queries: Iterable[str]) -> list[str]:
        """Those of Grafana's panels and of rules that have no number now."""
        texts = {
            text: text.replace("$__rate_interval", "1m").replace("$job", "service")
            for text in queries
        }
        return [one for one, text in texts.items() if all(map(math.isnan, self.query(text)))]

    def is_firing(self, alert: str) -> bool:
        query = 'ALERTS{alertname="NAME",alertstate="firing"}'
        return bool(self.query(query.replace("NAME", alert)))


def target(job: str, port: int) -> dict[str, object]:
    return {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}


def rules_within_seconds() -> str:
    """Windows of seconds instead of minutes; expressions and thresholds are the shipped ones."""
    return re.sub(r"\[\d+[mh]\]", "[15s]", re.sub(r"for: \d+m", "for: 0s", RULES.read_text()))


@contextmanager
def running_prometheus(
    folder: Path, rules: str, *jobs: Mapping[str, object]
) -> Iterator[Prometheus]:
    port = free_port()
    (folder / "rules.yaml").write_text(rules)
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": list(jobs),
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    options = [
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    prometheus = Prometheus(port)
    with running([find_binary("prometheus"), *options], port):
        wait_until(prometheus.is_ready)
        yield prometheus
