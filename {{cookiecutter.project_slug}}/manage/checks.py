"""`manage capacity` and `manage doctor`: what was planned, and what is wrong."""

import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from server.capacity import Plan, plan_capacity
from server.machine import read_machine
from server.settings import ServerSettings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--pid", type=int, help="With the limits and settings of gunicorn's master.")
def capacity(as_json: bool, pid: int | None) -> None:
    """Show how many workers and connections there will be, and why; 1 when there is no room."""
    if pid is not None:
        _take_settings_of(pid)
    settings = ServerSettings.load()
    plan = plan_capacity(settings, read_machine(pid=pid), settings.web_concurrency)
    if as_json:
        click.echo(json.dumps(asdict(plan), indent=2))
    else:
        _print(plan)
    sys.exit(1 if plan.shortages else 0)


def _take_settings_of(pid: int) -> None:
    # As it was started: what it has changed since is the plan itself.
    variables = os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes()).split("\0")
    os.environ.clear()
    os.environ.update(
        {name: value for name, _, value in (one.partition("=") for one in variables) if name}
    )
    os.chdir(f"/proc/{pid}/cwd")


def _print(plan: Plan) -> None:
    click.echo(f"workers      {plan.workers}")
    click.echo(f"pool size    {plan.pool_size}")
    click.echo(f"connections  {plan.connections} of {plan.connection_budget}")
    for reason in plan.reasons:
        click.echo(f"- {reason}")
    for resource in plan.shortages:
        click.echo(f"error: {resource} have no room for a worker")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Check settings, files, database and kernel against each other; 1 when something is wrong."""
    if os.environ.get("WEB_CONCURRENCY") == "":
        raise click.ClickException("WEB_CONCURRENCY is empty: unset it or write a number.")
    # The parsers and the database driver: `manage capacity` does without.
    from doctor.examine import examine, invalid_settings  # noqa: PLC0415
    from doctor.settings import AllSettings  # noqa: PLC0415

    try:
        findings = examine(Path.cwd(), AllSettings.load())
    except SystemExit as error:
        findings = [invalid_settings(str(error))]
    counts = Counter(str(finding.severity) for finding in findings)
    if as_json:
        report = {
            "errors": counts["error"],
            "warnings": counts["warning"],
            "findings": [asdict(finding) for finding in findings],
        }
        click.echo(json.dumps(report, indent=2))
    else:
        for finding in findings:
            click.echo(str(finding))
        told = (
            f"{counts[one]} {one}{'' if counts[one] == 1 else 's'}" for one in ("error", "warning")
        )
        click.echo(f"{', '.join(told)}.")
    sys.exit(1 if counts["error"] else 0)
