"""The admin app in a real Chromium, as it is reached in production: by https, through nginx.

Once with nginx ending TLS, once below ROOT_PATH behind a proxy that cuts the prefix off.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from development.ports import free_port
from tests.browser.service import (
    PASSWORD,
    Service,
    environment_of,
    log_in,
    run,
    running_service,
    take_screenshot,
)
from tests.servers import answers, running

PAGES = ("", "user/list", "user/create", "item/list", "session/list", "audit-entry/list")
# The part of a proxy of somebody else's that matters here.
OUTER = """
pid outer.pid;
error_log stderr error;
events {{}}
http {{
    access_log off;
    client_body_temp_path temporary/outer_body;
    proxy_temp_path temporary/outer_proxy;
    fastcgi_temp_path temporary/outer_fastcgi;
    scgi_temp_path temporary/outer_scgi;
    uwsgi_temp_path temporary/outer_uwsgi;
    server {{
        listen 127.0.0.1:{https} ssl;
        ssl_certificate certificate.pem;
        ssl_certificate_key key.pem;
        location /shop/ {{
            proxy_pass http://127.0.0.1:{http}/;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Edge:
    """Where the browser goes, and the service behind."""

    service: Service
    origin: str
    prefix: str

    @property
    def admin_url(self) -> str:
        return f"{self.origin}{self.prefix}/admin/"


@pytest.fixture(scope="module", params=["", "/shop"], ids=["tls", "root-path"])
def edge(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[str], str],
) -> Iterator[Edge]:
    prefix: str = request.param
    binary, _ = require("nginx"), require("openssl")
    folder, nginx = tmp_path_factory.mktemp("edge") / "service", tmp_path_factory.mktemp("nginx")
    http, https = free_port(), free_port()
    with ExitStack() as stack:
        # The second factor has tests of its own.
        running = running_service(
            folder, ENVIRONMENT="production", ADMIN_TOTP_REQUIRED="false", ROOT_PATH=prefix
        )
        service = stack.enter_context(running)
        prepare(service, nginx, http)
        if prefix:
            trust_loopback(nginx)
            (nginx / "outer.conf").write_text(OUTER.format(http=http, https=https))
            stack.enter_context(
                running_nginx(binary, nginx, "nginx.conf", f"http://127.0.0.1:{http}")
            )
            main = "outer.conf"
        else:
            end_tls(binary, folder / "deploy/nginx/site-tls", nginx, http, https)
            main = "nginx.conf"
        url = f"https://localhost:{https}{prefix}"
        stack.enter_context(running_nginx(binary, nginx, main, url))
        yield Edge(service, f"https://localhost:{https}", prefix)


def prepare(service: Service, nginx: Path, http: int) -> None:
    """The nginx files of the service, for this machine, and a certificate that nobody trusts."""
    code = "import sys; from pathlib import Path; from development import nginx;"
    code += "nginx.prepare(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
    arguments = (str(nginx), str(http), str(service.port))
    run(service.folder, environment_of(service.port), "python", "-c", code, *arguments)
    create = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    files = ("-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=localhost")
    subprocess.run((*create.split(), *files), cwd=nginx, check=True, capture_output=True)


def end_tls(binary: str, source: Path, nginx: Path, http: int, https: int) -> None:
    """As deploy/nginx/README.md says, with other ports and another certificate."""
    printed = subprocess.run((binary, "-v"), capture_output=True, text=True, check=True).stderr
    is_old = tuple(map(int, re.findall(r"nginx/(\d+)\.(\d+)", printed)[0])) < (1, 25)
    listen = "listen.nginx-1.24.conf" if is_old else "listen.conf"
    for name in (listen, "listen_default.conf", "redirect.conf", "certificate.conf"):
        text = (source / name).read_text()
        text = text.replace("listen 80", f"listen 127.0.0.1:{http}")
        text = text.replace("listen 443", f"listen 127.0.0.1:{https}")
        text = text.replace("/etc/nginx/tls/fullchain.pem", "certificate.pem")
        text = text.replace("/etc/nginx/tls/privkey.pem", "key.pem")
        (nginx / "site" / name.replace(".nginx-1.24", "")).write_text(text)


def trust_loopback(nginx: Path) -> None:
    balancer = nginx / "site/balancer.conf"
    text = balancer.read_text().replace("10.0.0.0/8", "127.0.0.0/8")
    commented = r"# (set_real_ip_from|real_ip_header|real_ip_recursive|127\.0\.0\.0/8 1)"
    balancer.write_text(re.sub(commented, r"\1", text))


@contextmanager
def running_nginx(binary: str, folder: Path, main: str, url: str) -> Iterator[None]:
    where = ("-e", "stderr", "-p", str(folder), "-c", str(folder / main))
    command = (binary, *where, "-g", "daemon off;")
    with running(command, folder / f"{main}.log", lambda: answers(f"{url}/livez")):
        yield


@pytest.fixture
def page(browser: Browser, edge: Edge, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Fails the test whose pages asked for anything outside of the admin app, or complained."""
    context = browser.new_context(base_url=edge.admin_url, ignore_https_errors=True)
    page, asked, errors = context.new_page(), list[str](), list[str]()
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    take_screenshot(page, request.node.name)
    context.close()
    assert errors == []
    # Mixed content and lost prefixes would be in here.
    assert [url for url in asked if not url.startswith(edge.admin_url.rstrip("/"))] == []


def test_admin_logs_in_reads_every_page_and_logs_out(page: Page, edge: Edge) -> None:
    log_in(page, edge.service.admin_email, PASSWORD)
    expect(page.get_by_role("heading", name="Newest changes")).to_be_visible()
    (cookie,) = page.context.cookies()
    assert (cookie.get("secure"), cookie.get("path")) == (True, f"{edge.prefix}/admin")
    for path in PAGES:
        page.goto(path)
        assert_links_stay(page, edge)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()


def test_user_is_changed_and_disabled(page: Page, edge: Edge) -> None:
    log_in(page, edge.service.admin_email, PASSWORD)
    body = {"email": f"user{edge.service.port}@example.com", "password": PASSWORD}
    httpx2.post(f"{edge.service.url}/api/v1/users", json=body).raise_for_status()
    page.goto(f"user/list?search={body['email']}")
    page.locator("a[href*='/user/edit/']").click()
    assert_links_stay(page, edge)
    page.get_by_label("Full name").fill("Grace Hopper")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("a[href*='/user/details/']").first.click()
    assert_links_stay(page, edge)
    page.get_by_role("link", name="Disable", exact=True).click()
    assert_links_stay(page, edge)
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("row", name="Disabled").locator("time")).to_be_visible()
    assert page.url.startswith(edge.admin_url)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({}, 403),
        ({"Origin": "{origin}"}, 302),
    ],
)
def test_login_is_refused_when_the_form_is_of_another_site(
    edge: Edge, headers: dict[str, str], status: int
) -> None:
    form = {"username": edge.service.admin_email, "password": PASSWORD}
    sent = {name: value.format(origin=edge.origin) for name, value in headers.items()}
    answer = httpx2.post(f"{edge.admin_url}login", data=form, headers=sent, verify=False)
    assert answer.status_code == status
    assert ("set-cookie" in answer.headers) is (status == httpx2.codes.FOUND)


def test_admin_is_not_reached_around_the_rule_of_who_may_see_it(edge: Edge) -> None:
    """With its prefix not cut off, nginx would not know the page for what it is."""
    answer = httpx2.get(f"{edge.origin}{edge.prefix}/shop/admin/login", verify=False)
    assert answer.status_code == httpx2.codes.NOT_FOUND


def assert_links_stay(page: Page, edge: Edge) -> None:
    """Every address in the page, loaded or not, is relative or leads into the admin app."""
    found = "[...document.querySelectorAll('[href],[src],[action],[formaction]')].flatMap("
    found += (
        "(tag) => ['href', 'src', 'action', 'formaction'].map((name) => tag.getAttribute(name)))"
    )
    addresses = [address for address in page.evaluate(found) if address]
    assert addresses
    away = [a for a in addresses if ":" in a.split("?")[0] and not a.startswith(edge.admin_url)]
    assert away == []
