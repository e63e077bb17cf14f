"""docs/server-options.md has every setting of the server and every option of Uvicorn."""

import re

from tests.conftest import REPOSITORY
from tests.test_docs import facts


def rows(heading: str) -> dict[str, list[str]]:
    """Of the table below this heading, by the names in the first cell."""
    page = (REPOSITORY / "docs/server-options.md").read_text()
    table = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {name: rest for first, *rest in cells for name in re.findall(r"`(\w+)`", first)}


def test_every_setting_of_the_server_is_listed_with_its_default() -> None:
    listed = {name: cells[0] for name, cells in rows("Settings").items()}
    names = set(facts()["server_settings"]) - {"LOG_LEVEL", "LOG_FORMAT"}
    assert listed == {name: facts()["settings"][name] for name in names}


def test_every_option_that_uvicorn_gets_is_listed_with_both_defaults() -> None:
    listed = {name: cells[:2] for name, cells in rows("Uvicorn's own variables").items()}
    options = facts()["uvicorn_settings"].items()
    assert listed == {f"UVICORN_{name.upper()}": defaults for name, defaults in options}


def test_every_other_option_says_what_to_use_instead() -> None:
    listed = {name: cells[0].strip("`") for name, cells in rows("Not for Uvicorn").items()}
    instead = facts()["gunicorn_settings"]
    assert listed.keys() == set(facts()["uvicorn_options"]) - facts()["uvicorn_settings"].keys()
    assert {name: listed[name] for name in instead} == instead
