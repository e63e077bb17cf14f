"""Copies the real files of a deployment, to be broken one at a time."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from doctor.examine import examine_files, invalid_settings
from doctor.files import nginx
from doctor.finding import Finding, Severity
from doctor.settings import AllSettings
from server.worker import Worker

ROOT = Path(__file__).parent.parent.parent
# What a generated service has instead of a placeholder of the template.
PLACEHOLDER = re.compile(r"\{\{.*?\}\}")

DEPLOYMENTS = ("compose", "kubernetes", "systemd")
_READ: dict[object, tuple[dict[str, nginx.Block], list[Finding]]] = {}


@pytest.fixture(autouse=True)
def unchanged_nginx_files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parser, and `nginx -t`, are half of what the doctor costs."""
    read_nginx = nginx.read_nginx

    def read_once(
        root: Path, overlays: Mapping[str, Path | None]
    ) -> tuple[dict[str, nginx.Block], list[Finding]]:
        files = sorted((root / "deploy").rglob("*.conf"))
        texts = tuple((file.relative_to(root), file.read_text()) for file in files)
        key = (texts, tuple(overlays))
        if key not in _READ:
            _READ[key] = read_nginx(root, overlays)
        trees, refused = _READ[key]
        return dict(trees), list(refused)

    monkeypatch.setattr(nginx, "read_nginx", read_once)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the doctor reads, and settings that are good in production."""
    shutil.copy(ROOT / "gunicorn.conf.py", tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for file in (tmp_path / "deploy").rglob("*"):
        if file.suffix in (".conf", ".yaml", ".env", ".example"):
            text = PLACEHOLDER.sub("service.example", file.read_text())
            # Somebody who has not said a domain yet has this one.
            file.write_text(text.replace("https://localhost", "https://service.example"))
    # As credentials.py does.
    if (tmp_path / "deploy/compose").is_dir():
        shutil.copy(tmp_path / "deploy/compose/.env.example", tmp_path / "deploy/compose/.env")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(Worker, "settings", raising=False)
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:pR4kx9vTq2LmZ7@127.0.0.1/app")
    monkeypatch.setenv("SECRET_KEY", "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E")
    monkeypatch.setenv("PUBLIC_URL", "https://service.example")
    monkeypatch.setenv("SMTP_HOST", "smtp.example.com")
    return tmp_path


def keep_deployment(folder: Path, kind: str) -> None:
    """As in a generated service, which has one; any of them will do for what all have."""
    found = [one for one in DEPLOYMENTS if (folder / "deploy" / one).is_dir()]
    kept = kind if kind in DEPLOYMENTS else found[0]
    for name in set(found) - {kept}:
        shutil.rmtree(folder / "deploy" / name)


def edit(folder: Path, name: str, pattern: str, text: str) -> None:
    file = next(iter(sorted(folder.glob(name))))
    changed, count = re.subn(pattern, text, file.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{pattern} stands in {name} {count} times"
    file.write_text(changed)


def find_mistakes(folder: Path) -> list[Finding]:
    """What the doctor says about the files and the settings, notes left out."""
    try:
        findings = examine_files(folder, AllSettings.load())
    except SystemExit as error:
        return [invalid_settings(str(error))]
    return [finding for finding in findings if finding.severity != Severity.NOTE]
