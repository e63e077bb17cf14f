"""What the pages name exists: links, files, commands and settings."""

import re
from pathlib import Path

import click
from opentelemetry.sdk import environment_variables

from doctor.settings import AllSettings
from manage.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*/README.md")]
FOLDERS = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
SETTINGS = {name.upper() for name in AllSettings.model_fields} | {"HTTP_PORT"}
SETTINGS |= vars(environment_variables).keys()
# Pages go on to speak of the example when `make remove-example` has taken it away.
EXAMPLE = {"app/items/", "app/items/repository.py", "app/admin/views/items.py"}
REMOVED = set() if (ROOT / "app/items").exists() else EXAMPLE
TEXTS = {page.relative_to(ROOT): page.read_text(encoding="utf-8") for page in PAGES}


def test_links_lead_to_files() -> None:
    for page, text in TEXTS.items():
        links = re.findall(r"\]\(([^()#\s]+)[^()\s]*\)", text)
        folder = (ROOT / page).parent
        missing = [link for link in links if "://" not in link and not (folder / link).exists()]
        assert missing == [], page


def test_files_in_backticks_exist() -> None:
    for page, text in TEXTS.items():
        named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)) - REMOVED
        assert [name for name in named if not (ROOT / name).exists()] == [], page


def test_commands_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert isinstance(main, click.Group)
    commands = main.list_commands(click.Context(main))
    pattern = r"(?:^|^\$ |`)(?:\.venv/bin/)?manage ([a-z][a-z-]*)"
    for page, text in TEXTS.items():
        assert {*re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)} <= {*targets}, page
        assert {*re.findall(pattern, text, re.MULTILINE)} <= {*commands}, page


def test_settings_exist() -> None:
    groups = "|".join({name.partition("_")[0] for name in SETTINGS if "_" in name})
    for page, text in TEXTS.items():
        assert {*re.findall(rf"`((?:{groups})_[A-Z0-9_]*[A-Z0-9])\b", text)} <= SETTINGS, page
