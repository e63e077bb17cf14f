"""The campaign of attacks through nginx, against a service with the settings of production.

The figures in the service's docs/attacks.md are those of this table.
"""

import base64
import hashlib
import hmac
import re
import statistics
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import unescape
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from development.ports import free_port
from tests.browser.service import PASSWORD, Service, running_service
from tests.conftest import REPOSITORY, SERVICE
from tests.system import attacks_edge, attacks_service
from tests.system.attack import NOT_SPOKEN, Answer, Attack, Target
from tests.system.edge import WITHOUT_NEW, Nginx, lay_out

GROUPS = (*attacks_edge.GROUPS, *attacks_service.GROUPS)
PAGE = REPOSITORY / SERVICE / "docs" / "attacks.md"
# Names alone: enough to count the attacks without a service.
NOBODY = {
    "token": "e30.e30.x",
    "refresh": "x",
    "refresh_of_other": "xx",
    "item_of_other": "00000000-0000-7000-8000-000000000000",
    "other_id": "00000000-0000-7000-8000-000000000000",
    "title_of_other": "x",
    "email": "x",
    "admin_email": "x",
    "half_login": "e30.x.y",
}
PRODUCTION = {
    "ENVIRONMENT": "production",
    "ROOT_PATH": "/api/orders",
    "PUBLIC_URL": "https://localhost",
    "CORS_ORIGINS": "https://app.example.com",
    # Hundreds of attacks come from one address: throttling has tests of its own.
    "LOGIN_ATTEMPTS_PER_ACCOUNT": "100000",
    "LOGIN_ATTEMPTS_PER_ADDRESS": "100000",
    "PASSWORD_MEMORY_COST_KIB": "8",
    "PASSWORD_TIME_COST": "1",
    "PASSWORD_PARALLELISM": "1",
}
LOOSE_LIMITS = {
    "rate=50r/s": "rate=9999r/s",
    "rate=20r/m": "rate=9999r/s",
    "burst=10 ": "burst=9999 ",
    "burst=100 ": "burst=9999 ",
}
TITLE_OF_OTHER = "a title that nobody else may read"


def attacks(at: Target) -> list[Attack]:
    return list(chain.from_iterable(group(at) for group in GROUPS))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("attacked") / "service"
    with running_service(folder, lambda _folder: None, **PRODUCTION) as service:
        yield service


@contextmanager
def open_doors(deployment: str, service: Service, nginx: Nginx, folder: Path) -> Iterator[Target]:
    """nginx as this deployment lays it out: the public door, and that of the machine itself."""
    public, local = free_port(), free_port()
    upstream = f"server 127.0.0.1:{service.port}"
    changes = WITHOUT_NEW | LOOSE_LIMITS
    changes |= {
        "server 127.0.0.1:8000": upstream,
        "server unix:/run/NAME.socket": upstream,
        "listen 8081": f"listen 127.0.0.1:{local}",
        "listen 127.0.0.1:8081": f"listen 127.0.0.1:{local}",
        "listen 8080": f"listen 127.0.0.1:{public}",
        "listen 80": f"listen 127.0.0.1:{public}",
        f"listen unix:{folder}/writable/nginx.sock": f"listen 127.0.0.1:{public}",
        "access_log syslog:server=unix:/dev/log,nohostname json": "access_log off",
    }
    with nginx.running(lay_out(deployment, folder, changes), public):
        yield Target(public, local, known=NOBODY)


@pytest.fixture(scope="module")
def doors(
    service: Service, nginx_of: Callable[[str], Nginx], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("edge") / "nginx"
    with open_doors("compose", service, nginx_of("installed"), folder) as doors:
        yield doors


@pytest.fixture(scope="module")
def target(service: Service, doors: Target) -> Target:
    """Two users with an item each, and an administrator of whom only the password is known."""
    own, other = sign_up(doors, "eve", "own"), sign_up(doors, "ada", TITLE_OF_OTHER)
    local = f"http://localhost:{doors.local_port}"
    half = httpx2.post(
        f"{local}/admin/login",
        data={"username": service.admin_email, "password": PASSWORD},
        headers={"Origin": local},
    )
    cookie = half.headers["set-cookie"].partition("=")[2].partition(";")[0]
    known = {
        "token": own["access_token"],
        "refresh": own["refresh_token"],
        "refresh_of_other": other["refresh_token"],
        "token_of_other": other["access_token"],
        "item_of_other": other["item"],
        "other_id": other["id"],
        "title_of_other": TITLE_OF_OTHER,
        "email": "eve@example.com",
        "admin_email": service.admin_email,
        "half_login": cookie,
    }
    return Target(doors.public_port, doors.local_port, known=known)


def sign_up(at: Target, name: str, title: str) -> dict[str, str]:
    with httpx2.Client(base_url=f"http://localhost:{at.public_port}/api/v1") as client:
        body = {"email": f"{name}@example.com", "password": PASSWORD}
        user = client.post("/users", json=body).raise_for_status().json()
        form = {"username": body["email"], "password": PASSWORD}
        pair = client.post("/auth/token", data=form).raise_for_status().json()
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        item = client.post("/items", json={"title": title}, headers=headers)
    return {**pair, "id": user["id"], "item": item.raise_for_status().json()["id"]}


def test_no_attack_gets_through_and_none_ends_in_a_5xx(target: Target) -> None:
    lost = not_held(attacks(target), target)
    assert not lost, "\n".join(lost)
    assert_others_are_unharmed(target)


@pytest.mark.parametrize("deployment", ["kubernetes", "systemd"])
def test_no_path_gets_past_the_nginx_of_the_other_deployments(
    service: Service, nginx_of: Callable[[str], Nginx], tmp_path: Path, deployment: str
) -> None:
    with open_doors(deployment, service, nginx_of("installed"), tmp_path / "nginx") as doors:
        tried = [*attacks_edge.paths(doors), *attacks_edge.hosts(doors)]
        assert not_held(tried, doors) == []


def not_held(tried: Iterable[Attack], at: Target) -> list[str]:
    answers = [(attack, attack.send(at)) for attack in tried]
    return [
        f"{attack.verdict(answer)}: {attack.group}: {attack.what!r}: {answer.text[:200]!r}"
        for attack, answer in answers
        if attack.verdict(answer) != "held"
    ]


def assert_others_are_unharmed(target: Target) -> None:
    """Nothing of somebody else was changed, ended or deleted meanwhile."""
    url = f"http://localhost:{target.public_port}/api/v1"
    headers = {"Authorization": f"Bearer {target['token_of_other']}"}
    item = httpx2.get(f"{url}/items/{target['item_of_other']}", headers=headers)
    assert item.json()["title"] == TITLE_OF_OTHER
    again = httpx2.post(f"{url}/auth/refresh", json={"refresh_token": target["refresh_of_other"]})
    assert again.status_code == httpx2.codes.OK


def test_stored_values_are_text_in_an_export(target: Target) -> None:
    for attack in attacks_service.values(target):
        attack.send(target)
    local = f"http://localhost:{target.local_port}"
    with httpx2.Client(base_url=local, headers={"Origin": local}) as admin:
        # The cookie is for https alone; a thief would send it all the same.
        admin.headers["Cookie"] = f"__Secure-admin_session={target['half_login']}"
        page = admin.get("/admin/login/set-up")
        admin.headers["Cookie"] = _cookie(page)
        uri = unescape(re.findall(r'id="uri" href="([^"]+)"', page.text)[0])
        secret = parse_qs(urlsplit(uri).query)["secret"][0]
        done = admin.post("/admin/login/set-up", data={"code": _code(secret)}).raise_for_status()
        admin.headers["Cookie"] = _cookie(done)
        lines = admin.get("/admin/item/export/csv").raise_for_status().text
    cells = re.findall(r'(?:^|,)"?([=+\-@\t\r][^,"]*)', lines, re.MULTILINE)
    assert cells == []
    assert "'=1+1" in lines


def _cookie(answer: httpx2.Response) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def _code(secret: str) -> str:
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(base64.b32decode(secret), counter, hashlib.sha1)
    (number,) = struct.unpack_from(">I", digest, digest[-1] & 15)
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"


@pytest.mark.parametrize("path", ["/api/v1/auth/token", "/api/v1/auth/password-reset/request"])
def test_time_does_not_tell_who_is_registered(target: Target, path: str) -> None:
    """Noise spoils a measurement; a difference that is really there is in all of them."""
    assert min(_ratio_of_medians(target, path) for _ in range(3)) < 1.5


def _ratio_of_medians(target: Target, path: str) -> float:
    seconds: dict[str, list[float]] = {"eve@example.com": [], "nobody@example.com": []}
    with httpx2.Client(base_url=f"http://localhost:{target.public_port}") as client:
        for _ in range(15):
            for email, measured in seconds.items():
                started_at = time.perf_counter()
                if path.endswith("token"):
                    client.post(path, data={"username": email, "password": "wrong"})
                else:
                    client.post(path, json={"email": email})
                measured.append(time.perf_counter() - started_at)
    medians = sorted(statistics.median(measured) for measured in seconds.values())
    return medians[1] / medians[0]


def test_page_of_security_has_the_figures_of_the_table() -> None:
    table = attacks(Target(1, 2, known=NOBODY))
    tried = Counter(attack.group for attack in table)
    rows = re.findall(r"^\| ([A-Za-z /0-9]+) \| (\d+) \| (\d+) \| 0 \|", PAGE.read_text(), re.M)
    written = {group: (int(count), int(held)) for group, count, held in rows}
    total = written.pop("all")
    assert written == {group: (count, count) for group, count in tried.items()}
    assert total == (len(table), len(table))
    assert len(table) >= 300


def test_attack_that_gets_through_is_noticed() -> None:
    attack = Attack("x", "x")
    assert attack.verdict(Answer(200, "")) == "through"
    assert attack.verdict(Answer(404, 'name="password"')) == "through"
    assert attack.verdict(Answer(500, "")) == "failed"
    assert Attack("x", "x", held=NOT_SPOKEN).verdict(Answer(501, "")) == "held"
    assert Path(PAGE).exists()
