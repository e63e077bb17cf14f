"""What the doctor reports, and how; `test_campaign.py` has what it finds."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from doctor.examine import examine_files
from doctor.finding import Severity
from doctor.settings import AllSettings
from manage.cli import main
from tests.doctor.conftest import edit, find_mistakes

PASSWORD = "pR4kx9vTq2LmZ7"
SECRET = "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E"
PROXY = "deploy/nginx/http/proxy.conf"


def test_finding_names_the_line_when_a_file_breaks_an_order(service: Path) -> None:
    edit(service, PROXY, "^proxy_read_timeout 30s", "proxy_read_timeout 20s")
    number = (service / PROXY).read_text().splitlines().index("proxy_read_timeout 20s;") + 1
    [finding] = find_mistakes(service)
    assert (finding.check, finding.where) == ("timeouts", f"{PROXY}:{number}")


def doctor(*arguments: str, **settings: str) -> Result:
    """In the folder of the service, with a database that is not there."""
    away = {"DATABASE_URL": f"postgresql://app:{PASSWORD}@127.0.0.1:1/app", "SECRET_KEY": SECRET}
    return CliRunner().invoke(main, ["doctor", *arguments], env=away | settings)


def test_report_is_json_and_has_no_secret_when_the_database_is_away(service: Path) -> None:
    result = doctor("--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert report["errors"] == sum(one["severity"] == "error" for one in report["findings"]) == 1
    assert report["findings"][0]["check"] == "database"
    assert set(report["findings"][0]) == {"severity", "check", "what", "where", "why", "fix"}
    assert not {PASSWORD, SECRET} & set((result.stdout + result.stderr).replace('"', " ").split())
    assert PASSWORD not in result.stdout + result.stderr


def test_report_is_one_line_for_each_finding(service: Path) -> None:
    lines = doctor().stdout.splitlines()
    assert lines[-1].startswith("1 error, ")
    assert all(line.startswith(("error: ", "warning: ", "note: ")) for line in lines[:-1])


def test_missing_files_are_named(service: Path) -> None:
    shutil.rmtree(service / "deploy")
    result = doctor("--json")
    notes = [one for one in json.loads(result.stdout)["findings"] if one["severity"] == "note"]
    assert [one["where"] for one in notes] == ["deploy"]
    assert result.stderr == ""


def test_doctor_does_without_its_linters_when_it_runs_in_the_image(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "doctor.files", None)
    monkeypatch.setattr("doctor.examine.find_spec", lambda _name: None)
    findings = examine_files(service, AllSettings.load())
    assert [(one.severity, one.where) for one in findings] == [(Severity.NOTE, "deploy/")]


def test_invalid_settings_are_a_finding(service: Path) -> None:
    result = doctor("--json", SECRET_KEY="hunter2")
    [finding] = json.loads(result.stdout)["findings"]
    assert (result.exit_code, finding["check"]) == (1, "settings")
    assert "SECRET_KEY" in finding["what"]
    assert "hunter2" not in result.stdout


def test_everybody_may_be_trusted_when_systemd_holds_a_unix_socket(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    has_socket = (service / "deploy/systemd/app.socket").is_file()
    assert has_socket != ("trusted proxies" in {one.check for one in find_mistakes(service)})


def test_dot_env_is_reported_when_others_can_read_it(service: Path) -> None:
    (service / ".env").touch(mode=0o644)
    assert [one.where for one in find_mistakes(service) if one.check == "secrets"] == [".env"]
