"""Refuse answers that would give a broken project; cookiecutter then removes what it began.

The files are copied next, then `post_gen_project.py` runs.
"""

import json
import os
import re
import sys
import unicodedata
from pathlib import Path

SLUG = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
SLUG_CHARACTERS_MAX = 50
WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(r"localhost|(" + LABEL + r"\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
DOMAIN_CHARACTERS_MAX = 253  # RFC 1035, 2.3.4
TEXT_CHARACTERS_MAX = 200
# Control characters, halves of surrogate pairs, line and paragraph separators.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
# `{`+`{` and the like: cruft renders the answers again at every update.
JINJA = re.compile(r"\{[#%{]")
# What a used template folder holds besides its files: cookiecutter copies that too.
LEFTOVERS = [
    *(".env", ".local", ".venv", ".uv", "__pycache__", ".*_cache", "dist", "*.egg-info"),
    "deploy/compose/secrets",
    ".schemathesis",
]
# A person's own data, which the template's would replace.
PRECIOUS = (Path(".env"), Path(".local"))


def slug_problem(slug: str) -> str | None:
    if not SLUG.fullmatch(slug) or len(slug) > SLUG_CHARACTERS_MAX:
        return (
            "start with a letter and use at most 50 lowercase letters and digits, "
            "with single - or _ between them, such as my-service"
        )
    if slug.replace("-", "_") in sys.stdlib_module_names:
        return f"Python itself has a module of that name; choose another, such as {slug}-service"
    if WINDOWS_DEVICES.fullmatch(slug):
        return f"Windows reserves that name; choose another, such as {slug}-service"
    return None


def domain_problem(domain: str) -> str | None:
    if DOMAIN.fullmatch(domain) and len(domain) <= DOMAIN_CHARACTERS_MAX:
        return None
    return (
        "give the bare lowercase name without scheme, port or path, such as api.example.com "
        "(localhost is fine, other alphabets as punycode)"
    )


def text_problem(text: str) -> str | None:
    if not text.strip():
        return "it must not be empty"
    if len(text) > TEXT_CHARACTERS_MAX:
        return f"it has {len(text)} characters; use at most {TEXT_CHARACTERS_MAX}"
    if any(unicodedata.category(character) in UNPRINTABLE for character in text):
        return "use one line of text without control characters"
    if JINJA.search(text):
        return "leave out the opening marks of Jinja, which an update would take for its own"
    return None


def template_folder(answers: dict[str, str]) -> Path | None:
    """Where the files come from; cruft does not say, and always works on a clean clone."""
    repository = answers.get("_repo_dir", os.devnull)
    for start in (os.environ.get("PWD", ""), answers.get("_output_dir", "")):
        folder = Path(start, repository, "{% raw %}{{cookiecutter.project_slug}}{% endraw %}")
        if folder.is_dir():
            return folder
    return None


def list_leftovers(template: Path) -> list[Path]:
    found = {path.relative_to(template) for name in LEFTOVERS for path in template.rglob(name)}
    return sorted(path for path in found if found.isdisjoint(path.parents))


def leftovers_problem(template: Path, leftovers: list[Path]) -> str | None:
    for path in leftovers:
        if path in PRECIOUS and path.exists():
            return f"Delete {template / path} first: it would replace the project's own {path}."
    if any(path.is_socket() for path in (template / ".local").rglob("*")):
        return f"Stop the service that runs in {template} first: its sockets cannot be copied."
    return None


def first_problem(answers: dict[str, str]) -> str | None:
    checks = {
        "project_name": text_problem,
        "project_slug": slug_problem,
        "description": text_problem,
        "author_name": text_problem,
        "domain_name": domain_problem,
    }
    for question, problem_of in checks.items():
        if problem := problem_of(answers[question]):
            return f"{question} cannot be {answers[question]!r}: {problem}."
    return None


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 (it is cookiecutter's Python, not ours)
        sys.exit("Run cookiecutter with Python 3.11 or later; the service needs it as well.")
    # Raw, because JSON has its own backslashes; three quotes in a row never occur in JSON.
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    template = template_folder(answers)
    leftovers = list_leftovers(template) if template else []
    problem = first_problem(answers) or (template and leftovers_problem(template, leftovers))
    if problem:
        # Cookiecutter writes a traceback below it.
        sys.exit(f"\n{problem}\n")
    # The second hook removes what is listed here.
    Path(".leftovers").write_text("\n".join(map(str, leftovers)), encoding="utf-8")


if __name__ == "__main__":
    main()
