"""The site of the pages: its links, its search, its looks, and the calculator on it."""

import json
import random
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.browser.service import take_screenshot
from tests.browser.site import build, served
from tests.conftest import REPOSITORY
from website.__main__ import run_in_service

PLANS = 1000
PHONE, DESK = ViewportSize(width=390, height=800), ViewportSize(width=1280, height=900)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def url(html: Path) -> Iterator[str]:
    with served(html) as url:
        yield url


class Links(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.pages, self.files = set[str](), list[str](), list[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif name == "href" and tag == "a":
                self.pages.append(value or "")
            elif name in ("href", "src"):
                self.files.append(value or "")


def test_links_of_the_site_lead_to_pages_and_headings(html: Path) -> None:
    pages = {path: Links(path) for path in html.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 50
    for path, links in pages.items():
        for link in [*links.pages, *links.files]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link in links.pages, f"{path} loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and not parts.fragment.startswith("__"):
                assert parts.fragment in pages[target].ids, f"{path}: {link}"


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_ask_no_other_host_and_fit_the_screen(
    browser: Browser, url: str, size: ViewportSize, scheme: str
) -> None:
    page = browser.new_page(base_url=url, viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    asked, complaints = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for name in ("index", "docs/tuning", "docs/calculator", "service/docs/configuration"):
        page.goto(f"/{name}.html")
        expect(page.locator("h1").first).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{name} is {width} px wide"
        take_screenshot(page, f"site-{name}-{scheme}-{size['width']}")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background.strip("rgba()").split(",")[:3])) < 200) == (scheme == "dark")
    assert [one for one in asked if not one.startswith(url)] == []
    assert complaints == []
    page.close()


def test_search_finds_a_page(browser: Browser, url: str) -> None:
    page = browser.new_page(base_url=url, viewport=DESK)
    page.goto("/index.html")
    page.get_by_role("button", name="Search").first.click()
    page.get_by_role("combobox").fill("SERVER_LAME_DUCK_SECONDS")
    page.get_by_role("option").first.click()
    expect(page.get_by_role("article")).to_contain_text("SERVER_LAME_DUCK_SECONDS")
    page.close()


def test_calculator_plans_as_the_service_does(browser: Browser, url: str) -> None:
    chosen = random.Random(20)  # noqa: S311 (not a secret)
    inputs = [
        {
            "cores": chosen.choice([chosen.randint(1, 128), chosen.randint(1, 640) / 10]),
            "memoryMib": chosen.randint(64, 2**18),
            "replicas": chosen.randint(1, 60),
            "maxConnections": chosen.choice([100, chosen.randint(30, 5000)]),
            "longestSeconds": chosen.randint(10, 600),
        }
        for _ in range(PLANS)
    ]
    page = browser.new_page(base_url=url)
    page.goto("/docs/calculator.html")
    answers = page.evaluate(
        "inputs => inputs.map(one => ({...plan(one), timeouts: timeoutsFor(one.longestSeconds)}))",
        inputs,
    )
    page.close()
    asked = [{"input": one, "answer": answer} for one, answer in zip(inputs, answers, strict=True)]
    script = REPOSITORY / "tests/calculator_facts.py"
    truths = json.loads(run_in_service(script, json.dumps(asked)))
    for one, answer, truth in zip(inputs, answers, truths, strict=True):
        assert {name: answer[name] for name in truth["plan"]} == truth["plan"], one
        assert truth["broken_orders"] == [], one
    assert len({answer["workers"] for answer in answers}) > 20


def test_calculator_answers_what_is_typed(browser: Browser, url: str) -> None:
    page = browser.new_page(base_url=url, viewport=PHONE)
    page.goto("/docs/calculator.html")
    expect(page.get_by_text("24 of 80")).not_to_be_visible()
    page.get_by_label("Cores of each replica").fill("2")
    expect(page.get_by_text("24 of 80")).to_be_visible()
    assert page.get_by_text("REQUEST_DEADLINE_SECONDS=").count() == 0
    page.get_by_label("Longest request, seconds").fill("100")
    expect(page.get_by_text("REQUEST_DEADLINE_SECONDS=100")).to_be_visible()
    expect(page.get_by_text("proxy_read_timeout 105s;")).to_be_visible()
    page.get_by_label("Replicas").fill("50")
    expect(page.get_by_text("There is no room for one worker: connections.")).to_be_visible()
    page.get_by_label("Replicas").fill("0")
    expect(page.get_by_text("Each number has to be in range.")).to_be_visible()
    page.close()


def test_calculator_names_the_command_without_scripts(browser: Browser, url: str) -> None:
    page = browser.new_page(base_url=url, java_script_enabled=False)
    page.goto("/docs/calculator.html")
    expect(page.get_by_text("without JavaScript, ask the command below")).to_be_visible()
    expect(page.get_by_text("manage capacity").first).to_be_visible()
    page.close()
