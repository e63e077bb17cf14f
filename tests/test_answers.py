"""Answers nobody expects give a correct project or one clear sentence, never a broken file."""

import tomllib
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException

from tests.conftest import Bake

GOOD_TEXTS = [
    'He said "hi"',
    "it's '''three''' and \"\"\"three\"\"\"",
    "back\\slash \\1 \\g<0> \\u0041 \\",
    "price: 5 $ # not a comment; `id` $(id) ${HOME} %PATH% !x",
    "{curly} } {",
    "<b>&amp;</b> [link](x) | table",
    "emoji 🎉 👨‍👩‍👧 é ü 日本語 \u202f",
    "x" * 200,
]
BAD_TEXTS = {
    "": "empty",
    "   ": "empty",
    "two\nlines": "one line",
    "nul\0": "one line",
    "tab\there": "one line",
    "next\x85line": "one line",
    "line\u2028separator": "one line",
    "\x7f": "one line",
    "half \udc80": "one line",
    "{{ '{{' }} 7*7 }}": "Jinja",
    "{{ '{%' }} raw %}": "Jinja",
    "{{ '{#' }} x": "Jinja",
    "x" * 201: "201 characters",
}
GOOD_SLUGS = ["a", "shop", "my-shop_2", "x" * 50, "app", "tests"]
BAD_SLUGS = {
    "Shop": "start with a letter",
    "2shop": "start with a letter",
    "-shop": "start with a letter",
    "shop-": "start with a letter",
    "my--shop": "start with a letter",
    "my-_shop": "start with a letter",
    "my shop": "start with a letter",
    "my.shop": "start with a letter",
    "shöp": "start with a letter",
    "shop\n": "start with a letter",
    "../shop": "start with a letter",
    "x" * 51: "at most 50",
    "json": "Python itself",
    "email": "Python itself",
    "con": "Windows",
    "lpt1": "Windows",
    "fastapi": "uses a package",
    "python_jose": "uses a package",
}
GOOD_DOMAINS = ["localhost", "example.com", "a.b-c.d1.co", "xn--bcher-kva.example", "x.xn--p1ai"]
BAD_DOMAINS = [
    "",
    "example",
    "https://example.com",
    "example.com:80",
    "example.com/path",
    "-a.com",
    "a-.com",
    "a..com",
    "example.com.",
    "bücher.example",
    "Example.com",
    "under_score.com",
    "127.0.0.1",
    "*.example.com",
    "example.com;",
    "a." * 130 + "com",
    "x" * 64 + ".com",
]


@pytest.mark.parametrize("text", GOOD_TEXTS)
@pytest.mark.parametrize("question", ["project_name", "description", "author_name"])
def test_text_survives_when_hostile(bake: Bake, question: str, text: str) -> None:
    project = bake(project_slug="shop", **{question: text})
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["name"] == "shop"
    if question == "description":
        assert metadata["description"] == text
    place = "LICENSE" if question == "author_name" else "README.md"
    assert text in (project / place).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_example_settings_stay_plain_when_answers_are_hostile(bake: Bake, text: str) -> None:
    project = bake(project_slug="shop", project_name=text, description=text, author_name=text)
    settings = (project / ".env.example").read_text(encoding="utf-8").splitlines()
    # No quotes and no spaces: Docker, Compose, systemd and python-dotenv all read that alike.
    for line in filter(None, settings):
        assert line.startswith("#") or set(line).isdisjoint("\"'`$\\ "), line


def assert_refused(
    bake: Bake, capfd: pytest.CaptureFixture[str], tmp_path: Path, sentence: str, **answers: str
) -> None:
    (tmp_path / "bakes").mkdir()
    with pytest.raises(FailedHookException):
        bake(**answers)
    said = capfd.readouterr().err.strip()
    assert sentence in said
    assert said.count("\n") == 0
    assert list((tmp_path / "bakes").iterdir()) == []


@pytest.mark.parametrize("text", BAD_TEXTS, ids=ascii)
def test_text_is_refused_when_no_file_could_hold_it(
    bake: Bake, capfd: pytest.CaptureFixture[str], tmp_path: Path, text: str
) -> None:
    assert_refused(bake, capfd, tmp_path, BAD_TEXTS[text], description=text)


@pytest.mark.parametrize("slug", GOOD_SLUGS)
def test_slug_names_folder_and_distribution(bake: Bake, slug: str) -> None:
    project = bake(project_slug=slug)
    assert project.name == slug
    assert f'name = "{slug}"' in (project / "pyproject.toml").read_text()


@pytest.mark.parametrize("slug", BAD_SLUGS, ids=ascii)
def test_slug_is_refused_when_illegal(
    bake: Bake, capfd: pytest.CaptureFixture[str], tmp_path: Path, slug: str
) -> None:
    assert_refused(bake, capfd, tmp_path, BAD_SLUGS[slug], project_slug=slug)


def test_empty_slug_harms_nothing(bake: Bake, tmp_path: Path) -> None:
    own = tmp_path / "bakes/own"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(FailedHookException):
        bake(project_slug="", overwrite=True)
    assert own.read_text() == "mine"
    assert list(own.parent.iterdir()) == [own]


@pytest.mark.parametrize("domain", GOOD_DOMAINS)
def test_domain_is_served(bake: Bake, domain: str) -> None:
    project = bake(domain_name=domain)
    assert domain in (project / "deploy/nginx/site/server_name.conf").read_text()


@pytest.mark.parametrize("domain", BAD_DOMAINS)
def test_domain_is_refused_when_no_domain(
    bake: Bake, capfd: pytest.CaptureFixture[str], tmp_path: Path, domain: str
) -> None:
    assert_refused(bake, capfd, tmp_path, "such as api.example.com", domain_name=domain)


@pytest.mark.parametrize(
    ("name", "slug"),
    [("My Shop", "my-shop"), ("Über Café 2", "uber-cafe-2"), ("🎉", "my-service")],
)
def test_slug_follows_from_name(bake: Bake, name: str, slug: str) -> None:
    assert bake(project_name=name).name == slug


def test_slug_is_shortened_when_name_is_long(bake: Bake) -> None:
    assert len(bake(project_name="long name " * 20).name) <= 50
