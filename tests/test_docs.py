"""The pages are true: what they name exists, and what exists is named where it belongs."""

import ast
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypedDict

import pytest

from tests.conftest import REPOSITORY, Bake
from tests.page_numbers import NUMBERS, stated
from tests.pages import SERVICE_FOLDER, Page, Sample, all_code, all_pages, commands, make_targets
from website.__main__ import run_in_service

PAGES = all_pages()
CODE = all_code()
DOCS = SERVICE_FOLDER / "docs"
LANGUAGES = {"sh", "console", "python", "sql", "json", "ini", "nginx", "yaml", "html", "text"}
# Programs of the machine; what they are told is theirs.
PROGRAMS = {
    *(
        "cd",
        "cp",
        "curl",
        "docker",
        "export",
        "git",
        "install",
        "journalctl",
        "kill",
        "kubectl",
        "nginx",
        "apt-get",
        ".venv/bin/websockets",
        "promtool",
        "systemctl",
    ),
    *("cookiecutter", "cruft", "pip", "psql", "source", "uv"),
}
# Folders of machines and containers, and pages that are no route of the OpenAPI document.
ABSOLUTE = re.compile(
    r"/(api/v1|admin|docs|redoc|openapi\.json|metrics|dev/shm|etc|opt|run|srv|tmp|var|"
    r"verify-email|reset-password|livez|readyz|version|\.well-known)\b"
)
# Names of other projects, and of pages that the reader makes.
FOREIGN = {"autocommit_block()", "PUBLIC_URL/verify-email"}
LINES_MAX = {"README.md": 150, "docs/decisions": 40, "docs": 150}

each_page = pytest.mark.parametrize("page", PAGES, ids=str)


class Route(TypedDict):
    statuses: list[str]
    scopes: list[str]


class Facts(TypedDict):
    """What `service_facts.py` prints."""

    settings: dict[str, str]
    server_settings: list[str]
    uvicorn_options: list[str]
    otel_variables: list[str]
    uvicorn_settings: dict[str, list[str]]
    gunicorn_settings: dict[str, str]
    routes: dict[str, Route]
    commands: dict[str, list[str]]
    orders: list[list[str]]
    plans: list[list[str]]
    answers: list[list[str]]
    reasons: list[str]


@cache
def facts() -> Facts:
    result: Facts = json.loads(run_in_service(REPOSITORY / "tests/service_facts.py"))
    return result


@cache
def words_of_the_code() -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text_of_the_code()))


@cache
def text_of_the_code() -> str:
    return "\n".join(CODE.values())


def exists(page: Page, name: str) -> bool:
    """As a person reads it: from here, from the folder of the commands, or below a known one."""
    if "/" not in name and any(path.name == name for path in CODE):
        return True
    folders = [
        *(page.path.parent, page.root, REPOSITORY, SERVICE_FOLDER),
        *(SERVICE_FOLDER / below for below in ("app", "deploy/nginx", "deploy/kubernetes")),
    ]
    # As a list: a search that is left half-way warns of an open folder.
    return any(list(folder.glob(name.rstrip("/"))) for folder in folders)


@each_page
def test_links_and_anchors_resolve(page: Page) -> None:
    for link in page.links:
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in Page(target).anchors, f"{link} has no such heading"


@pytest.mark.parametrize("deployment", ["compose", "kubernetes", "systemd"])
def test_pages_of_a_generated_service_name_only_what_was_kept(bake: Bake, deployment: str) -> None:
    project = bake(deployment=deployment)
    for page in map(Page, project.rglob("*.md")):
        folders = [
            span for span in page.spans if re.fullmatch(r"(app|deploy|tests)/[\w./-]+", span)
        ]
        for name in [*folders, *(link.partition("#")[0] for link in page.links)]:
            folder = project if name in folders else page.path.parent
            assert (folder / name).exists(), f"{page.path.relative_to(project)} names {name}"


@each_page
def test_page_is_short_and_has_one_sentence_per_line(page: Page) -> None:
    names = [name for name in LINES_MAX if str(page).removeprefix("service/").startswith(name)]
    limit = min((LINES_MAX[name] for name in names), default=150)
    assert len(page.text.splitlines()) <= limit
    for line in page.prose.splitlines():
        if not line.startswith("|"):
            assert not re.search(r"[a-z`)][.!?] [A-Z`\[]", line), f"two sentences: {line}"


@each_page
def test_sample_is_fenced_and_says_its_language(page: Page) -> None:
    assert not re.search(r"^\n {4,}(?![-*\d])\S", page.prose, re.MULTILINE), "fence it: ```sh"
    for sample in page.samples:
        language = sample.language.split(" ")[0]
        assert language in LANGUAGES, f"```{sample.language} is none of {sorted(LANGUAGES)}"


def samples(language: str) -> Iterator[tuple[Page, Sample]]:
    for page in PAGES:
        for sample in page.samples:
            if sample.language.split(" ")[0] == language:
                yield page, sample


def each_sample(*languages: str) -> Callable[..., pytest.MarkDecorator]:
    found = [pair for language in languages for pair in samples(language)]
    return pytest.mark.parametrize(("page", "sample"), found, ids=[str(page) for page, _ in found])


@each_sample("sh", "console")
def test_command_of_a_sample_exists(page: Page, sample: Sample) -> None:
    text = sample.text
    if sample.language == "console":
        text = "\n".join(line for line in text.splitlines() if line.startswith("$ "))
    for words in commands(text):
        assert_command(page, words)


def assert_command(page: Page, words: list[str]) -> None:
    match words:
        case ["make", *targets]:
            named = {word for word in targets if "=" not in word}
            assert named <= targets_for(page), f"no such target: {words}"
        case ["manage" | ".venv/bin/manage", *arguments]:
            assert_manage(["manage", *arguments])
        case [".venv/bin/pytest" | ".venv/bin/alembic", *_]:
            pass
        case [program, *arguments]:
            path = page.root / program
            known = program in PROGRAMS or os.access(path, os.X_OK) or program == "python3"
            assert known, f"{program} is no command of {page.root.name}"
            for word in arguments:
                if re.match(r"(deploy|tests|app|docs|development)/", word):
                    assert exists(page, word), f"{word} does not exist"
            if "manage" in arguments:
                assert_manage(arguments[arguments.index("manage") :])


def targets_for(page: Page) -> set[str]:
    """A page of the template speaks of the service's as well."""
    return make_targets(page.root) | make_targets(SERVICE_FOLDER)


def assert_manage(words: list[str]) -> None:
    known = facts()["commands"]
    if not [word for word in words[1:] if not word.startswith("-")]:
        return  # `manage --help`
    name = max((n for n in known if words[: len(n.split())] == n.split()), default=None)
    assert name, f"{' '.join(words)}: manage has only {sorted(known)}"
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    assert options <= {*known[name], "--help"}, f"{name} has only {known[name]}"


@each_sample("python")
def test_python_sample_is_found_in_the_code_or_imports_what_exists(
    page: Page, sample: Sample
) -> None:
    if any(contains(code, sample.text) for path, code in CODE.items() if path.suffix == ".py"):
        return
    assert sample.language == "python new", "it stands in no file; is it ```python new?"
    compiled = ast.parse(sample.text)
    for node in ast.walk(compiled):
        if isinstance(node, ast.ImportFrom) and node.module and "." in node.module:
            path = SERVICE_FOLDER / node.module.replace(".", "/")
            if not (SERVICE_FOLDER / node.module.partition(".")[0]).is_dir():
                continue  # of a package
            [source] = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()]
            for alias in node.names:
                assert re.search(rf"\b{alias.name}\b", CODE[source]) or exists(
                    page, f"{node.module.replace('.', '/')}/{alias.name}.py"
                )


def contains(code: str, sample: str) -> bool:
    """Line by line without indents; a line of three dots stands for any others."""
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    parts = re.split(r"^\s*\.\.\.\n", sample, flags=re.MULTILINE)
    place = 0
    for part in parts:
        wanted = [line.strip() for line in part.splitlines() if line.strip()]
        starts = range(place, len(lines) - len(wanted) + 1)
        place = next((i for i in starts if lines[i : i + len(wanted)] == wanted), -1)
        if place < 0:
            return False
    return True


@each_sample("ini", "json")
def test_data_of_a_sample_is_valid(page: Page, sample: Sample) -> None:
    if sample.language == "json":
        json.loads(sample.text)
    for name in re.findall(r"^([A-Z][A-Z0-9_]+)=", sample.text, re.MULTILINE):
        assert name in words_of_the_code() or is_of_a_library(name), f"{name} is no setting"


@each_sample("text", "console")
def test_names_in_a_text_exist(page: Page, sample: Sample) -> None:
    assert_names(sample.text)


@each_page
def test_what_stands_in_backticks_exists(page: Page) -> None:
    if page.path.name == "CHANGELOG.md":
        return  # it names what is gone
    for span in page.spans:
        if span in FOREIGN:
            continue
        match span.split():
            case ["make" | "manage" | ".venv/bin/manage", _, *_]:
                assert_command(page, re.sub(r"[\[\]…]|\\\|", " ", span).split())
            case [method, path] if method.isupper() and path.startswith("/api"):
                assert_route(method, path)
            case [path] if path.startswith("/") and len(path) > 1:
                assert ABSOLUTE.match(path), f"{path} is no route and no folder we know"
            case _:
                assert_words(page, span)


def assert_route(method: str, path: str) -> None:
    path = path.partition("?")[0]
    assert f"{method} {path}" in facts()["routes"] or path.startswith("/admin"), f"{method} {path}"


def assert_words(page: Page, span: str) -> None:
    if re.fullmatch(r"[\w.*{}-]+(/[\w.*{}-]*)+|[\w-]+\.(py|sh|conf|ini|toml|yaml|env)", span):
        assert exists(page, span) or is_named(span), f"no file {span}"
    for name in re.findall(r"(?<![\w./:-])(?:test_|…_)\w+…?(?!\.py)", span):
        pattern = name.replace("…", r"\w*").removeprefix("test_")
        assert re.search(rf"def test_{pattern}\(", text_of_the_code()), f"no test {name}"
    assert_names(span)


def assert_names(text: str) -> None:
    """Words with an underscore or an inner capital are names of the code."""
    for word in re.findall(r"\b(?:[A-Za-z]+_\w+|[A-Z]?[a-z]+[A-Z]\w+)\b", text):
        known = word in words_of_the_code() or word.startswith("test_") or is_of_a_library(word)
        assert known, f"{word} is nowhere in the code"


def is_named(path: str) -> bool:
    """A file of another machine, such as /etc/NAME/app.env, that the code speaks of."""
    return path in text_of_the_code()


def is_of_a_library(word: str) -> bool:
    is_uvicorn = word.removeprefix("UVICORN_").lower() in facts()["uvicorn_options"]
    return is_uvicorn or word in facts()["otel_variables"]


def test_every_setting_is_on_the_configuration_page_with_its_default() -> None:
    listed = {
        name: default
        for names, defaults, *_ in Page(DOCS / "configuration.md").rows("setting")
        for name, default in zip(
            re.findall(r"`(\w+)`", names), re.split(r", (?!\w+ \w)", defaults), strict=True
        )
    }
    expected = facts()["settings"] | {"HTTP_PORT": "8080"}
    assert listed.keys() == expected.keys()
    for name, default in expected.items():
        assert listed[name].strip("`").startswith(default), f"{name} is {default} by default"


def test_every_route_is_on_the_api_page_with_its_scope_and_statuses() -> None:
    common = {"400", "413", "422", "503", "504"}
    listed = {
        cells[0].strip("`"): (
            re.findall(r"`([\w:]+)`", cells[1]),
            re.findall(r"\b\d{3}\b", cells[3]),
        )
        for cells in Page(DOCS / "api.md").rows("route")
    }
    assert listed.keys() == facts()["routes"].keys()
    for name, route in facts()["routes"].items():
        scopes, statuses = listed[name]
        assert scopes == route["scopes"], name
        assert set(statuses) - {"503"} == set(route["statuses"]) - common, name


def test_statuses_of_operations_are_those_that_are_sent() -> None:
    from_nginx = CODE[SERVICE_FOLDER / "deploy/nginx/server/problem.conf"]
    from_the_app = {status for route in facts()["routes"].values() for status in route["statuses"]}
    for status, nginx, app, _ in Page(DOCS / "operations.md").rows("status"):
        assert not nginx or f" {status} " in from_nginx
        assert not app or status in from_the_app | {"500"}


def test_every_target_and_command_is_on_the_page_of_commands() -> None:
    page = Page(DOCS / "commands.md")
    targets = {cells[0].strip("`").split()[1] for cells in page.rows("target")}
    assert targets == make_targets(SERVICE_FOLDER)
    listed = " ".join(cells[0] for cells in page.rows("command"))
    for name, options in facts()["commands"].items():
        assert all(word in listed for word in name.split()), name
        assert all(option in listed for option in options if option.startswith("--")), name


def test_targets_of_the_template_are_on_its_pages() -> None:
    text = (REPOSITORY / "README.md").read_text() + (REPOSITORY / "CONTRIBUTING.md").read_text()
    assert make_targets(REPOSITORY) <= set(re.findall(r"make ([a-z-]+)", text))


def test_order_of_timeouts_is_the_one_that_the_doctor_checks() -> None:
    assert list(Page(DOCS / "timeouts.md").rows("ends first")) == facts()["orders"]


def test_every_page_is_reached_from_a_readme() -> None:
    reached: set[Path] = set()
    waiting = [REPOSITORY / "README.md"]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        links = [(path.parent / link.partition("#")[0]).resolve() for link in Page(path).links]
        folders = [found for link in links if link.is_dir() for found in link.rglob("*.md")]
        waiting += {p for p in [*links, *folders] if p.suffix == ".md"} - reached
    # The README of a service is rendered, so nothing links to it.
    assert {page.path for page in PAGES} - reached <= {SERVICE_FOLDER / "README.md"}


@pytest.mark.parametrize("page", NUMBERS)
def test_numbers_of_a_page_are_those_of_the_code(page: str) -> None:
    for sentence, source in NUMBERS[page].items():
        expected = source.value(facts()["settings"])
        assert stated(page, sentence) == {expected}, f"{sentence} is {expected:g}, {source.name}"


def test_plan_of_one_host_is_the_one_of_the_code() -> None:
    rows = Page(DOCS / "growth.md").rows("cores")
    plans = [[re.findall(r"\d+", cell)[0] for cell in cells[:5]] for cells in rows]
    assert plans == facts()["plans"]


def test_first_answers_are_those_of_the_code() -> None:
    rows = Page(REPOSITORY / "docs/tuning.md").rows("where")
    assert [cells[1:5] for cells in rows] == facts()["answers"]


def test_example_of_a_plan_is_the_one_of_the_code() -> None:
    example = Page(REPOSITORY / "docs/tuning.md").samples[1].text.splitlines()
    assert [line.removeprefix("- ") for line in example if line[0] == "-"] == facts()["reasons"]


def test_packages_may_import_what_the_architecture_test_lets_them() -> None:
    rows = list(Page(DOCS / "architecture.md").rows("package"))
    stated = {cells[0].strip("`/"): set(re.findall(r"`(\w+)`", cells[2])) for cells in rows}
    code = CODE[SERVICE_FOLDER / "tests/test_architecture.py"]
    allowed = re.findall(r'^    "(\w+)": (?:set\[str\]\(\)|\{(.*)\}),$', code, re.MULTILINE)
    assert stated == {package: set(re.findall(r"\w+", others)) for package, others in allowed}


def test_questions_are_in_the_readme() -> None:
    listed = [cells[0].strip("`") for cells in Page(REPOSITORY / "README.md").rows("question")]
    questions = json.loads((REPOSITORY / "cookiecutter.json").read_text())
    assert listed == [name for name in questions if not name.startswith("_")]
