"""Writes the rules of Prometheus as an object of its operator, after a change in observability/."""

from pathlib import Path

TARGET = Path(__file__).parent / "rules.yaml"
SOURCE = TARGET.parents[2] / "observability/rules.yaml"
HEAD = """\
# deploy/observability/rules.yaml for the operator; write_rules.py writes it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: service
spec:
"""


def render() -> str:
    rules = SOURCE.read_text(encoding="utf-8")
    groups = rules[rules.index("groups:") :].splitlines()
    return HEAD + "".join(f"  {line}".rstrip() + "\n" for line in groups)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
