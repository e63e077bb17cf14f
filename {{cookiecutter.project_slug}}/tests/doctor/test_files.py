"""Mistakes in nginx, compose, Kubernetes and systemd files, made by hand in a copy."""

from pathlib import Path

import pytest

from tests.doctor.conftest import edit, find_mistakes

CLIENT = "deploy/nginx/http/client.conf"
PROXY = "deploy/nginx/http/proxy.conf"
COMPOSE = "deploy/compose/compose.yaml"
DEPLOYMENT = "deploy/kubernetes/base/deployment.yaml"
KUBERNETES = "deploy/kubernetes/base/settings.env"
PGBOUNCER = "deploy/compose/pgbouncer.ini"
UNIT = "deploy/systemd/app@.service"
LINE_BEFORE = r"\g<0>\n\1"


@pytest.mark.parametrize(
    ("name", "pattern", "text", "check"),
    [
        (CLIENT, "^client_max_body_size 1m", "client_max_body_size 10m", "body limit"),
        (CLIENT, "^client_max_body_size 1m", "client_max_body_size 0", "body limit"),
        (
            PROXY,
            r"^proxy_set_header X-Forwarded-For \$remote_addr",
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for",
            "trusted proxies",
        ),
        (
            "deploy/nginx/site/balancer.conf",
            r"^# set_real_ip_from .*",
            "set_real_ip_from 0.0.0.0/0;",
            "trusted proxies",
        ),
        (PROXY, "^proxy_next_upstream error", "proxy_next_upstream non_idempotent error", "retry"),
        ("deploy/nginx/http/tls.conf", "^ssl_protocols", "ssl_protocols TLSv1.1", "tls"),
        (
            "deploy/nginx/site-tls/listen.conf",
            "^http2 on;",
            "http2 on;\nssl_protocols TLSv1 TLSv1.2;",
            "tls",
        ),
        (PROXY, "^proxy_redirect off;", "proxy_redirect off; }", "nginx"),
        ("gunicorn.conf.py", "^backlog = .*", "backlog = nowhere", "gunicorn"),
        ("gunicorn.conf.py", "^backlog = .*", "threads = 4", "gunicorn"),
        ("gunicorn.conf.py", "^backlog = .*", "reload = True", "production"),
        ("gunicorn.conf.py", "^max_requests = .*", "max_requests = 9", "gunicorn"),
        (COMPOSE, "^name: .*", "name: [", "files"),
        (COMPOSE, r'^  tmpfs: \["/tmp:.*64m"\]', "  x: 1", "writable paths"),
        (
            COMPOSE,
            "^( +)SERVICE_NAME: .*",
            LINE_BEFORE + "SECRET_KEY: Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E",
            "secrets",
        ),
        (COMPOSE, "^( +)ENVIRONMENT: production", r"\1ENVIRONMENT: development", "production"),
        (COMPOSE, r"&nginx \$.*", "&nginx '*'", "trusted proxies"),
        (COMPOSE, r"\{WEB_CONCURRENCY:-2\}", "{WEB_CONCURRENCY:-}", "capacity"),
        (COMPOSE, r"\{WEB_CONCURRENCY:-2\}", "{WEB_CONCURRENCY:-5}", "capacity"),
        (
            COMPOSE,
            "^( +)SERVICE_NAME: .*",
            LINE_BEFORE + "DATABASE_POOL_SIZE: 30",
            "connection budget",
        ),
        (PGBOUNCER, "statement_timeout = 15000", "statement_timeout = 25000", "timeouts"),
        (PGBOUNCER, "^query_wait_timeout = 3", "query_wait_timeout = 120", "timeouts"),
        (PGBOUNCER, "^default_pool_size = 20", "default_pool_size = 100", "connection budget"),
        (PGBOUNCER, "^pool_mode = transaction", "pool_mode = session", "connection budget"),
        (KUBERNETES, "^DATABASE_POOL_SIZE=5", "DATABASE_POOL_SIZE=8", "connection budget"),
        (KUBERNETES, "^LOG_FORMAT=json", "DOCS_ENABLED=true", "production"),
        (KUBERNETES, "^LOG_FORMAT=json", "DATABASE_URL=postgresql://a:b@c/d", "secrets"),
        (
            DEPLOYMENT,
            r"secrets, readOnly: true}\n +- {name: tmp, mountPath: /tmp}",
            "secrets, readOnly: true}",
            "writable paths",
        ),
        (UNIT, "^PrivateTmp=yes", "PrivateTmp=no", "writable paths"),
        (
            "deploy/systemd/app.socket",
            "^ListenStream=.*",
            "ListenStream=0.0.0.0:8000",
            "trusted proxies",
        ),
    ],
)
def test_mistake_is_found_where_it_stands(
    service: Path, name: str, pattern: str, text: str, check: str
) -> None:
    before = set(find_mistakes(service))
    edit(service, name, pattern, text)
    found = set(find_mistakes(service)) - before
    assert {one.check for one in found} == {check}
    folder = Path(name).parent
    assert all(one.where.startswith(str(folder) if folder.name else name) for one in found)


@pytest.mark.parametrize(
    ("setting", "value", "check"),
    [
        ("FORWARDED_ALLOW_IPS", "*", "trusted proxies"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1,0.0.0.0/0", "trusted proxies"),
        ("DOCS_ENABLED", "true", "production"),
        ("LOG_LEVEL", "debug", "production"),
        ("MAX_BODY_BYTES", "2097152", "body limit"),
        ("DATABASE_URL", "postgresql://app:app@db/app", "secrets"),
    ],
)
def test_mistake_in_the_settings_is_found(
    service: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, check: str
) -> None:
    (service / "deploy/systemd/app.socket").unlink(missing_ok=True)
    before = set(find_mistakes(service))
    monkeypatch.setenv(setting, value)
    assert {one.check for one in set(find_mistakes(service)) - before} == {check}


def test_dot_env_is_reported_when_others_can_read_it(service: Path) -> None:
    (service / ".env").touch(mode=0o644)
    assert [one.where for one in find_mistakes(service) if one.check == "secrets"] == [".env"]
