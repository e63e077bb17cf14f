"""What the pages name exists: links, files, commands and settings."""

import re
from pathlib import Path

import click
import pytest

from doctor.settings import AllSettings
from manage.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*/README.md")]
FOLDERS = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
SETTINGS = {name.upper() for name in AllSettings.model_fields} | {"HTTP_PORT"}
# Pages go on to speak of the example when `make remove-example` has taken it away.
EXAMPLE = {"app/items/", "app/admin/views/items.py"}
REMOVED = set() if (ROOT / "app/items").exists() else EXAMPLE

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^()#\s]+)[^()\s]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@each_page
def test_files_in_backticks_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists() and name not in REMOVED] == []


@each_page
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    assert isinstance(main, click.Group)
    pattern = r"(?:^|^\$ |`)(?:\.venv/bin/)?manage ([a-z][a-z-]*)"
    commands = re.findall(pattern, text, re.MULTILINE)
    assert set(commands) <= set(main.list_commands(click.Context(main)))


@each_page
def test_settings_exist(page: Path) -> None:
    groups = "|".join({name.partition("_")[0] for name in SETTINGS if "_" in name})
    named = set(re.findall(rf"`((?:{groups})_[A-Z0-9_]*[A-Z0-9])\b", page.read_text("utf-8")))
    assert named <= SETTINGS
