"""Runs the samples of docs/recipes as a reader would paste them."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "recipes"
_SAMPLE = re.compile(r"^```python new\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run_recipe(name: str, **defined: object) -> dict[str, object]:
    """What the Python samples of a page define, one after another."""
    page = FOLDER / f"{name}.md"
    defined["__name__"] = f"recipe_{name}"
    for sample in _SAMPLE.findall(page.read_text()):
        exec(compile(sample, page, "exec"), defined)  # noqa: S102 (our own pages)
    return defined
