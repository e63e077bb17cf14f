"""`make site`: the pages of the template and of the service as one searchable site."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
SERVICE = "{{cookiecutter.project_slug}}"
CACHE = REPOSITORY / ".cache"
# Its name in an address.
FOLDER = "service"
# Rendered with the answers of a service, or for another one.
LEFT_OUT = re.compile(rf"{re.escape(SERVICE)}/README\.md|.*/feature_files/.*")
KEPT = re.compile(r".*\.md|docs/(data|plots|pictures)/.*")
LINK = re.compile(r"\[([^][]+)\]\(([^()\s]+)\)")
# Each title with its pages in order; `>` stands for the pages that this one links to.
SECTIONS = {
    "Template": ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/style.md"],
    "Tuning": ["docs/tuning.md", "docs/calculator.md", ">docs/tuning.md"],
    "Measurements": ["docs/measurements/README.md", ">docs/measurements/README.md"],
    "Decisions": ["docs/decisions/*.md"],
    "A service": [
        *(f"{FOLDER}/docs/README.md", f">{FOLDER}/docs/README.md", f"{FOLDER}/docs/*.md"),
        f"{FOLDER}/*.md",
    ],
    "Recipes": [f"{FOLDER}/docs/recipes/README.md", f">{FOLDER}/docs/recipes/README.md"],
    "Deployments": [f"{FOLDER}/deploy/*/README.md"],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make site", description=__doc__)
    parser.add_argument("--into", type=Path, default=CACHE / "site")
    into: Path = parser.parse_args().into.resolve()
    shutil.rmtree(into, ignore_errors=True)
    pages = into / "pages"
    copy_pages(pages)
    for name in ("calculator.js", "site.css"):
        shutil.copy(HERE / name, pages)
    (pages / "tables.js").write_text(
        f"const TABLES = {run_in_service(HERE / 'tables.py')};\n", encoding="utf-8"
    )
    settings = (HERE / "mkdocs.yml").read_text(encoding="utf-8")
    added = {"docs_dir": "pages", "site_dir": "html", "nav": navigation(pages)}
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in added.items()]
    (into / "mkdocs.yml").write_text(settings + "".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=into, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        # The mistake comes first; what follows is the generator's own traceback.
        print((built.stdout + built.stderr).partition("Traceback")[0], file=sys.stderr)
        return 1
    print(f"{into / 'html' / 'index.html'}")
    return 0


def copy_pages(target: Path) -> None:
    """With the folders that they have, so that their links lead to the same pages."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
    for name in listing.stdout.rstrip("\0").split("\0"):
        source, copy = REPOSITORY / name, target / name.replace(SERVICE, FOLDER)
        if LEFT_OUT.fullmatch(name) or not KEPT.fullmatch(name) or not source.is_file():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = source.read_text(encoding="utf-8").replace(SERVICE, FOLDER)
            copy.write_text(LINK.sub(without_folder, text), encoding="utf-8")
        else:
            shutil.copy(source, copy)


def without_folder(link: re.Match[str]) -> str:
    """A folder is something to look into on GitHub, and nothing on a site."""
    return link[1] if link[2].endswith("/") else link[0]


def run_in_service(script: Path, entered: str = "") -> str:
    """What a script prints in the environment of the service."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        "UV_PROJECT_ENVIRONMENT": str(CACHE / "venv"),
        "PYTHONPATH": str(REPOSITORY / SERVICE),
    }
    uv = os.environ.get("UV", "uv")
    command = [uv, "run", "--quiet", "--locked", "python", "-B", str(script)]
    return subprocess.run(
        command,
        cwd=REPOSITORY / SERVICE,
        env=environment,
        check=True,
        input=entered,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def navigation(pages: Path) -> list[dict[str, list[str]]]:
    return [{title: list_pages(pages, patterns)} for title, patterns in SECTIONS.items()]


def list_pages(pages: Path, patterns: list[str]) -> list[str]:
    found: list[Path] = []
    for pattern in patterns:
        if pattern.startswith(">"):
            found += linked_from(pages / pattern[1:])
        else:
            found += sorted(pages.glob(pattern))
    return list(dict.fromkeys(path.relative_to(pages).as_posix() for path in found))


def linked_from(page: Path) -> list[Path]:
    """Below its own folder: the others have sections of their own."""
    links = [page.parent / link for _, link in LINK.findall(page.read_text(encoding="utf-8"))]
    return [link for link in links if link.suffix == ".md" and link.parent == page.parent]


if __name__ == "__main__":
    sys.exit(main())
