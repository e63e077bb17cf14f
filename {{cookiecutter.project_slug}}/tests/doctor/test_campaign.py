"""Wrong configurations, one at a time: which check of the doctor says so, or that none does."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doctor.conftest import edit, find_mistakes, keep_deployment

NGINX = "deploy/nginx/nginx.conf"
CLIENT = "deploy/nginx/http/client.conf"
PROXY = "deploy/nginx/http/proxy.conf"
LIMITS = "deploy/nginx/http/limits.conf"
LOG = "deploy/nginx/http/log.conf"
TLS = "deploy/nginx/http/tls.conf"
ROUTES = "deploy/nginx/server/service.conf"
SITE = "deploy/nginx/site"
GUNICORN = "gunicorn.conf.py"
COMPOSE = "deploy/compose/compose.yaml"
PGBOUNCER = "deploy/compose/pgbouncer.ini"
PODS = "deploy/kubernetes/base/deployment.yaml"
KUBERNETES = "deploy/kubernetes/base"
SETTINGS = "deploy/kubernetes/base/settings.env"
STAGING = "deploy/kubernetes/staging/kustomization.yaml"
UNIT = "deploy/systemd/app*.service"
SOCKET = "deploy/systemd/app.socket"
SYSTEMD = "deploy/systemd/app.env"

# File, what is searched, what replaces it, the check that says so.
Case = tuple[str, str, str, str]
Wrong = Callable[[str, Case], set[str]]

IN_NGINX: tuple[Case, ...] = (
    (PROXY, r"^proxy_send_timeout .*\n", "", "proxy"),
    (PROXY, r"^proxy_next_upstream_tries .*\n", "", "retry"),
    (PROXY, r"^proxy_buffer_size 8k", "proxy_buffer_size 1k", "proxy"),
    (NGINX, r"^    include http/limits.conf;\n", "", "limits"),
    (NGINX, r"^    include http/response.conf;\n", "", "headers"),
    (NGINX, r"^ +include server/problem.conf;\n( +include server/service.conf;)", "\\1", "proxy"),
    (CLIENT, r"^send_timeout 15s", "send_timeout 10m", "limits"),
    (CLIENT, r"^large_client_header_buffers .*", "large_client_header_buffers 4 512;", "limits"),
    ("deploy/nginx/http/response.conf", r"^add_header X-Content-Type-Options.*\n", "", "headers"),
    ("deploy/nginx/http/response.conf", r"^add_header X-Frame-Options.*\n", "", "headers"),
    (LIMITS, r"^limit_conn_status .*\n", "", "limits"),
    # A line that is gone means nginx's default.
    (PROXY, r"^proxy_read_timeout .*\n", "", "timeouts"),
    (PROXY, r"^proxy_connect_timeout .*\n", "", "timeouts"),
    (PROXY, r"^proxy_next_upstream_timeout .*\n", "", "timeouts"),
    (PROXY, r"^ +keepalive_timeout .*\n", "", "timeouts"),
    (PROXY, r"^ +keepalive \d+;\n", "", "proxy"),
    (PROXY, r"^proxy_http_version .*\n", "", "proxy"),
    (PROXY, r"^proxy_set_header X-Forwarded-For .*\n", "", "trusted proxies"),
    (PROXY, r"^proxy_set_header Host .*\n", "", "headers"),
    (PROXY, r"^proxy_set_header Forwarded .*\n", "", "headers"),
    (NGINX, r"^worker_shutdown_timeout .*\n", "", "timeouts"),
    (NGINX, r"^worker_rlimit_nofile .*\n", "", "capacity"),
    (CLIENT, r"^server_tokens .*\n", "", "headers"),
    (LIMITS, r"^limit_req_status .*\n", "", "limits"),
    (LIMITS, r"^include site/limits.conf;\n", "", "limits"),
    (TLS, r"^ssl_protocols .*\n", "", "tls"),
    (TLS, r"^ssl_session_tickets .*\n", "", "tls"),
    (ROUTES, r"^location = /metrics \{[^}]*\}\n", "", "access"),
    (f"{SITE}/admin_access.conf", "^deny all;", "", "access"),
    # Values.
    (PROXY, "^proxy_read_timeout 30s", "proxy_read_timeout 20s", "timeouts"),
    (PROXY, "^(proxy_next_upstream_timeout) 10s", r"\1 0", "timeouts"),
    (PROXY, r"^( +keepalive_timeout) \w+", r"\1 75s", "timeouts"),
    (
        PROXY,
        r"^(proxy_set_header X-Forwarded-For) .*",
        r"\1 $http_x_forwarded_for;",
        "trusted proxies",
    ),
    (PROXY, r"^(proxy_set_header X-Real-IP) .*", r"\1 $http_x_real_ip;", "trusted proxies"),
    (PROXY, r"^(proxy_set_header X-Forwarded-Proto) .*", r"\1 $http_x_forwarded_proto;", "headers"),
    (PROXY, r"^(proxy_set_header Connection) .*", r"\1 upgrade;", "headers"),
    (PROXY, r"^(proxy_set_header Upgrade) .*", r"\1 $http_upgrade;", "headers"),
    (PROXY, "^proxy_buffering on", "proxy_buffering off", "proxy"),
    (PROXY, "^proxy_request_buffering on", "proxy_request_buffering off", "proxy"),
    (PROXY, "^proxy_intercept_errors off", "proxy_intercept_errors on", "proxy"),
    (PROXY, "^(proxy_next_upstream error)", r"\1 non_idempotent", "retry"),
    (NGINX, r"^( +worker_connections) \d+", r"\1 20000", "capacity"),
    (NGINX, "^( +)return 421;", r"\1proxy_pass http://app/;", "hosts"),
    (CLIENT, "^(client_max_body_size) .*", r"\1 10m;", "body limit"),
    (CLIENT, "^(keepalive_timeout) .*", r"\1 30s;", "timeouts"),
    (CLIENT, "^(keepalive_timeout) .*", r"\1 0;", "timeouts"),
    (CLIENT, "^(client_header_timeout) .*", r"\1 10m;", "limits"),
    (LOG, r'"path":"\$request_path"', '"path":"$request_uri"', "log"),
    (f"{SITE}/http.conf", r"^(access_log .*) json;", r"\1;", "log"),
    (f"{SITE}/admin_access.conf", "^allow 127.0.0.1;", "allow all;", "access"),
    (
        f"{SITE}/balancer.conf",
        r"^geo ",
        "set_real_ip_from 0.0.0.0/1;\nset_real_ip_from 128.0.0.0/1;\ngeo ",
        "trusted proxies",
    ),
    (ROUTES, "^( +proxy_read_timeout) 1h", r"\1 10s", "timeouts"),
    (ROUTES, r"^location / \{", r"\g<0>\nproxy_set_header X-Own 1;", "headers"),
    (ROUTES, r"^location / \{", r"\g<0>\nadd_header X-Own 1;", "headers"),
    (ROUTES, r"^location / \{", r"\g<0>\nproxy_buffering off;", "proxy"),
    (ROUTES, r"^(location / \{(?:[^}]|\n)*proxy_pass http://app)/;", r"\1;", "access"),
    (f"{SITE}-tls/listen.conf", "^listen 443 ssl;", r"\g<0>\nssl_protocols TLSv1 TLSv1.2;", "tls"),
    (
        f"{SITE}/balancer.conf",
        r"^# set_real_ip_from .*",
        "set_real_ip_from 0.0.0.0/0;",
        "trusted proxies",
    ),
    (CLIENT, "^(client_max_body_size) .*", r"\1 0;", "body limit"),
    # What nginx refuses.
    (PROXY, "^proxy_redirect off;", "proxy_redirect off", "nginx"),
    (PROXY, "^proxy_redirect off;", "proxy_redirect off; }", "nginx"),
    (CLIENT, "^send_timeout 15s", "send_timeout 15sh", "nginx"),
    (CLIENT, "^send_timeout", "sned_timeout", "nginx"),
    (CLIENT, "^reset_timedout_connection on", "reset_timedout_connection yes", "nginx"),
    (CLIENT, "^client_body_timeout 15s", "client_body_timeout 15s 30s", "nginx"),
    (NGINX, "^worker_shutdown_timeout", "send_timeout 5s;\nworker_shutdown_timeout", "nginx"),
    (NGINX, r"^events \{", "events", "nginx"),
)
IN_GUNICORN: tuple[Case, ...] = (
    (GUNICORN, r"^wsgi_app = .*\n", "", "gunicorn"),
    (GUNICORN, r"^backlog = .*", "backlog = 8", "capacity"),
    (GUNICORN, r"^control_socket_disable = .*\n", "", "gunicorn"),
    (GUNICORN, "^worker_class = .*", 'worker_class = "uvicorn.workers.UvicornWorker"', "gunicorn"),
    (GUNICORN, "^worker_class = .*\n", "", "gunicorn"),
    (GUNICORN, "^backlog = .*", "reuse_port = True", "gunicorn"),
    (GUNICORN, "^backlog = .*", "preload_app = True", "gunicorn"),
    (GUNICORN, "^backlog = .*", "daemon = True", "gunicorn"),
    (GUNICORN, "^backlog = .*", "threads = 4", "gunicorn"),
    (GUNICORN, "^backlog = .*", "reload = True", "production"),
    (GUNICORN, "^backlog = .*", "backlog = nowhere", "gunicorn"),
    (GUNICORN, "^bind = .*", 'bind = "0.0.0.0:9000"', "gunicorn"),
    (GUNICORN, "^workers = .*", "workers = 64", "gunicorn"),
    (GUNICORN, "^forwarded_allow_ips = .*", 'forwarded_allow_ips = "*"', "gunicorn"),
    (GUNICORN, ", pre_fork", "", "gunicorn"),
    (GUNICORN, "^keepalive = .*\n", "", "timeouts"),
    (GUNICORN, "^graceful_timeout = .*", "graceful_timeout = 45", "timeouts"),
    (GUNICORN, "^timeout = .*", "timeout = 0", "timeouts"),
    (GUNICORN, "^max_requests = .*", "max_requests = 9", "gunicorn"),
    (GUNICORN, "^logconfig_dict = .*\n", "", "log"),
    (GUNICORN, "^raw_env = .*\n", "", "connection budget"),
)
IN_COMPOSE: tuple[Case, ...] = (
    (COMPOSE, r"^  secrets: \[database_url, secret_key\]\n", "", "secrets"),
    (COMPOSE, r"(30 s\)[^\n]*\n +stop_grace_period:) 40s", r"\1 9s", "timeouts"),
    (COMPOSE, r"(30 s\)[^\n]*\n) +stop_grace_period: 40s\n", r"\1", "timeouts"),
    (COMPOSE, r"^    stop_signal: SIGQUIT", "    stop_signal: SIGTERM", "timeouts"),
    (COMPOSE, r"^    stop_grace_period: 60s\n", "", "timeouts"),
    (COMPOSE, r"^  init: true", "  init: true\n  stop_signal: SIGKILL", "timeouts"),
    (COMPOSE, r"^  init: true", '  init: true\n  ports: ["8000:8000"]', "access"),
    (COMPOSE, r"^    shm_size: .*", r'\g<0>\n    ports: ["5432:5432"]', "access"),
    (COMPOSE, r"^  init: true", "  init: true\n  network_mode: host", "access"),
    (COMPOSE, r"^  init: true", "  init: true\n  privileged: true", "secrets"),
    (COMPOSE, r"^  init: true", '  init: true\n  user: "0:0"', "secrets"),
    (COMPOSE, r"^  init: true", '  init: true\n  command: [gunicorn, --workers, "8"]', "gunicorn"),
    (COMPOSE, r"^    ENVIRONMENT: .*", r"\g<0>\n    GUNICORN_CMD_ARGS: --timeout 5", "gunicorn"),
    (COMPOSE, r"^    ENVIRONMENT: .*", "    ENVIRONMENT: development", "production"),
    (COMPOSE, r"^    ENVIRONMENT: .*", r'\g<0>\n    DOCS_ENABLED: "true"', "production"),
    (COMPOSE, r"^    ENVIRONMENT: .*", r"\g<0>\n    PUBLIC_URL: http://localhost", "production"),
    (COMPOSE, r"^    ENVIRONMENT: .*", r"\g<0>\n    WEB_CONCURENCY: 2", "spelling"),
    (COMPOSE, r"^    ENVIRONMENT: .*", r"\g<0>\n    DATABASE_POOL_SIZE: 30", "connection budget"),
    (COMPOSE, r"^    ENVIRONMENT: .*", r"\g<0>\n    APP_PORT: 9000", "ports"),
    (
        COMPOSE,
        r"^    ENVIRONMENT: .*",
        r"\g<0>\n    SECRET_KEY: Zk3vQ1xT8mLw0PbYc5RfJ7sHd",
        "secrets",
    ),
    (COMPOSE, r"^(    FORWARDED_ALLOW_IPS: &\w+).*", r"\1 '*'", "trusted proxies"),
    (COMPOSE, r"^    FORWARDED_ALLOW_IPS: (&\w+ .*)", r"    X: \1", "trusted proxies"),
    (
        COMPOSE,
        r"^    FORWARDED_ALLOW_IPS: (&\w+ .*)",
        r"    X: \1\n    FORWARDED_ALLOW_IPS: 10.9.0.0/24",
        "trusted proxies",
    ),
    (COMPOSE, r"max_connections=100", "max_connections=20", "connection budget"),
    (
        COMPOSE,
        r"\[postgres:/var/lib/postgresql\]",
        "[postgres:/var/lib/postgresql/data]",
        "compose",
    ),
    (COMPOSE, r"^      POSTGRES_PASSWORD_FILE: .*", "      POSTGRES_PASSWORD: secret", "secrets"),
    (
        COMPOSE,
        r"^      POSTGRES_PASSWORD_FILE: .*",
        "      POSTGRES_HOST_AUTH_METHOD: trust",
        "secrets",
    ),
    (COMPOSE, r"^  driver: local", "  driver: json-file", "compose"),
    (COMPOSE, r"^  restart: unless-stopped\n", "", "compose"),
    (COMPOSE, r'(?<!60s\n)(^ +deploy: .*cpus: "2", memory:) 1G', r"\1 128M", "capacity"),
    (COMPOSE, r'^  tmpfs: \["/tmp:.*64m"\]', "  x: 1", "writable paths"),
    (COMPOSE, r"\{WEB_CONCURRENCY:-2\}", "{WEB_CONCURRENCY:-}", "capacity"),
    (COMPOSE, r"\{WEB_CONCURRENCY:-2\}", "{WEB_CONCURRENCY:-16}", "capacity"),
    (COMPOSE, r"^  name: .*|^name: .*", "name: [", "files"),
    ("deploy/compose/nginx-site/upstream.conf", "service:8000", "service:8080", "ports"),
    (PGBOUNCER, "^pool_mode = .*\n", "", "connection budget"),
    (PGBOUNCER, "^query_wait_timeout = .*\n", "", "timeouts"),
    (PGBOUNCER, "SET statement_timeout = 15000; ", "", "timeouts"),
    (PGBOUNCER, "lock_timeout = 5000", "lock_timeout = 50000", "timeouts"),
    (PGBOUNCER, "^default_pool_size = .*", "default_pool_size = 200", "connection budget"),
    (PGBOUNCER, "^auth_type = .*", "auth_type = any", "secrets"),
)
IN_KUBERNETES: tuple[Case, ...] = (
    (PODS, r"runAsUser: 10001", "runAsUser: 0", "secrets"),
    (PODS, r"(livenessProbe:\n +httpGet: \{path:) /livez", r"\1 /readyz", "probes"),
    (PODS, r"(readinessProbe:\n +httpGet: \{path:) /readyz", r"\1 /livez", "probes"),
    (PODS, r"readinessProbe:(\n +httpGet: \{path: /readyz)", r"otherProbe:\1", "probes"),
    (PODS, r"(path: /readyz[^}]*}(?:\n[^\n]*){2}\n +timeoutSeconds:) 2", r"\1 1", "timeouts"),
    (PODS, r'preStop: \{exec: \{command: \[sleep, "7"\]\}\}', "postStart: {}", "timeouts"),
    (PODS, r'\[sleep, "7"\]', '[sleep, "2"]', "timeouts"),
    (PODS, r'\[sleep, "7"\]', '[sleep, "20"]', "timeouts"),
    (PODS, r"^ +terminationGracePeriodSeconds: .*\n", "", "timeouts"),
    (PODS, r'(limits: \{cpu: "1", memory:) 512Mi', r"\1 256Mi", "capacity"),
    (PODS, r'^ +limits: \{cpu: "1", .*\n', "", "capacity"),
    (PODS, r"maxUnavailable: 0", "maxUnavailable: 100%", "kubernetes"),
    (PODS, r"rollingUpdate: \{.*\}", "type: Recreate", "kubernetes"),
    (PODS, r"^( +)serviceAccountName: .*", r"\g<0>\n\1hostNetwork: true", "access"),
    (PODS, r"^( +)envFrom: .*", r"\g<0>\n\1command: [gunicorn, -w, '8']", "gunicorn"),
    (PODS, r"^( +)envFrom: .*\n", "", "kubernetes"),
    (PODS, r"^ +- \{name: tmp, mountPath: /tmp\}\n", "", "writable paths"),
    (PODS, r"containerPort: 8080", "containerPort: 80", "ports"),
    (f"{KUBERNETES}/service.yaml", "targetPort: http", "targetPort: app", "access"),
    (f"{KUBERNETES}/service.yaml", "targetPort: http", "targetPort: 8000", "access"),
    (
        f"{KUBERNETES}/disruption-budget.yaml",
        "maxUnavailable: 1",
        "maxUnavailable: 100%",
        "kubernetes",
    ),
    (
        f"{KUBERNETES}/disruption-budget.yaml",
        "maxUnavailable: 1",
        "maxUnavailable: 0",
        "kubernetes",
    ),
    (f"{KUBERNETES}/autoscaler.yaml", "maxReplicas: 6", "maxReplicas: 40", "connection budget"),
    (f"{KUBERNETES}/nginx-site/listen.conf", "8080", "8081", "ports"),
    (SETTINGS, "^WEB_CONCURRENCY=1", "WEB_CONCURRENCY=4", "capacity"),
    (SETTINGS, "^DATABASE_POOL_SIZE=5", "DATABASE_POOL_SIZE=8", "connection budget"),
    (SETTINGS, "^LOG_FORMAT=json", "DOCS_ENABLED=true", "production"),
    (SETTINGS, "^LOG_LEVEL=info", "LOG_LEVEL=debug", "production"),
    (SETTINGS, "^LOG_FORMAT=json", "DATABASE_URL=postgresql://a:b@c/d", "secrets"),
    (SETTINGS, "^LOG_FORMAT=json", "FORWARDED_ALLOW_IPS=*", "trusted proxies"),
    (SETTINGS, "^LOG_FORMAT=json", "FORWARDED_ALLOW_IPS=10.0.0.0/8", "trusted proxies"),
    (SETTINGS, "^LOG_FORMAT=json", "REQUEST_DEADLINE_SECOND=20", "spelling"),
    (SETTINGS, "^LOG_FORMAT=json", "APP_PORT=9000", "ports"),
    (STAGING, r"literals: \[LOG_LEVEL=debug\]", "literals: [WEB_CONCURRENCY=9]", "capacity"),
    (STAGING, r"/spec/maxReplicas, value: 2", "/spec/maxReplicas, value: 50", "connection budget"),
    (
        STAGING,
        r"^      - \{op: replace, path: /spec/template\S+, value: 250m\}",
        "      - {op: remove, path: /spec/template/spec/containers/0/readinessProbe}",
        "probes",
    ),
)
IN_SYSTEMD: tuple[Case, ...] = (
    (UNIT, r"^NoNewPrivileges=yes", "PrivateNetwork=yes", "systemd"),
    (UNIT, r"^RestartSec=1s", "RestartSec=10min", "systemd"),
    ("deploy/systemd/nginx.service", r"^KillSignal=SIGQUIT\n", "", "timeouts"),
    ("deploy/systemd/nginx.service", r"^LimitNOFILE=.*\n", "", "capacity"),
    ("deploy/systemd/nginx.service", r"^TimeoutStopSec=.*", "TimeoutStopSec=5s", "timeouts"),
    (UNIT, "^KillMode=.*\n", "", "timeouts"),
    (UNIT, "^KillMode=mixed", "KillMode=process", "timeouts"),
    (UNIT, "^KillMode=mixed", "KillMode=mixed\nKillSignal=SIGKILL", "timeouts"),
    (UNIT, "^TimeoutStopSec=40s", "TimeoutStopSec=20s", "timeouts"),
    (UNIT, "^TimeoutStopSec=40s", "TimeoutStopSecs=40s", "spelling"),
    (UNIT, "^TimeoutStartSec=60s", "TimeoutStartSec=5s", "timeouts"),
    (UNIT, "^LimitNOFILE=.*\n", "", "capacity"),
    (UNIT, "^LimitNOFILE=.*", "LimitNOFILE=256", "capacity"),
    (UNIT, "^LimitNOFILE=.*", "MemoryMax=128M", "capacity"),
    (UNIT, "^Restart=on-failure\n", "", "systemd"),
    (UNIT, "^Type=notify", "Type=simple", "systemd"),
    (UNIT, "^User=.*\n", "", "secrets"),
    (UNIT, "^WorkingDirectory=.*\n", "", "systemd"),
    (UNIT, "^ExecReload=.*\n", "", "systemd"),
    (UNIT, "^(ExecStart=.*)", r"\1 --workers 9", "gunicorn"),
    (UNIT, "^Requires=.*\n", "", "systemd"),
    (UNIT, "^PrivateTmp=yes", "PrivateTmp=no", "writable paths"),
    (SOCKET, "^SocketMode=.*\n", "", "trusted proxies"),
    (SOCKET, "^SocketMode=.*", "SocketMode=0666", "trusted proxies"),
    (SOCKET, "^SocketGroup=.*\n", "", "systemd"),
    (SOCKET, "^ListenStream=.*", "ListenStream=0.0.0.0:8000", "trusted proxies"),
    (SOCKET, "^ListenStream=.*", "ListenStream=/run/other.socket", "ports"),
    (SOCKET, "^WantedBy=.*\n", "", "systemd"),
    (SOCKET, "^Backlog=.*", "Backlog=16", "capacity"),
    (SYSTEMD, "^ENVIRONMENT=.*\n", "", "production"),
    (SYSTEMD, r"^FORWARDED_ALLOW_IPS=.*\n", "", "trusted proxies"),
    (SYSTEMD, "^LOG_FORMAT=json", "FORWARDED_ALOW_IPS=*", "spelling"),
    (SYSTEMD, "^LOG_FORMAT=json", "SMTP_HOST=m.example.com\nSMTP_SECURITY=none", "production"),
)
IN_SETTINGS: tuple[Case, ...] = (
    ("FORWARDED_ALLOW_IPS", "", "*", "trusted proxies"),
    ("FORWARDED_ALLOW_IPS", "", "0.0.0.0/1,128.0.0.0/1", "trusted proxies"),
    ("FORWARDED_ALLOW_IPS", "", "::/0", "trusted proxies"),
    ("REQUEST_DEADLINE_SECONDS", "", "40", "timeouts"),
    ("STATEMENT_TIMEOUT_SECONDS", "", "60", "timeouts"),
    ("STATEMENT_TIMEOUT_SECOND", "", "5", "spelling"),
    ("SERVER_KEEPALIVE_SECONDS", "", "2", "timeouts"),
    ("LOAD_BALANCER_TIMEOUT_SECONDS", "", "600", "timeouts"),
    ("MAX_BODY_BYTES", "", "9999999", "body limit"),
    ("PUBLIC_URL", "", "http://127.0.0.1:8080", "production"),
    ("PUBLIC_URL", "", "http://service.example", "production"),
    ("SMTP_HOST", "", "", "production"),
    ("SMTP_SECURITY", "", "none", "production"),
    ("DOCS_ENABLED", "", "true", "production"),
    ("LOG_LEVEL", "", "debug", "production"),
    ("DATABASE_URL", "", "postgresql://app:app@db/app", "secrets"),
    ("DATABASE_URL", "", "postgresql://app:pR4kx9vTq2LmZ7@db:6432/app", "database"),
)
CASES = {
    "nginx": IN_NGINX,
    "gunicorn": IN_GUNICORN,
    "compose": IN_COMPOSE,
    "kubernetes": IN_KUBERNETES,
    "systemd": IN_SYSTEMD,
    "settings": IN_SETTINGS,
}
# Nothing says so: why stands on the page.
LET_THROUGH: dict[str, tuple[Case, ...]] = {
    "nginx": (
        (ROUTES, r"^location /api/v1/events \{", "location /api/v2/events {", ""),
        (f"{SITE}/limits.conf", r"rate=50r/s", "rate=5r/s", ""),
        (PROXY, r"^proxy_hide_header X-Request-ID;\n", "", ""),
    ),
    "gunicorn": ((GUNICORN, "^backlog = .*", "user = 'nobody'", ""),),
    "compose": (
        (COMPOSE, r"^  data: \{internal: true\}", "  data: {}", ""),
        (COMPOSE, r"^    networks: \[edge, data\]", "    networks: [data]", ""),
        (COMPOSE, "shared_buffers=256MB", "shared_buffers=4GB", ""),
        (COMPOSE, r"^      - \.\./nginx:/etc/nginx:ro\n", "", ""),
        ("deploy/compose/nginx-site/http.conf", "127.0.0.11", "127.0.0.1", ""),
    ),
    "kubernetes": (
        (f"{KUBERNETES}/ingress.yaml", "port: {name: http}", "port: {number: 81}", ""),
        (f"{KUBERNETES}/network-policy.yaml", "port: 5432", "port: 5433", ""),
        (PODS, "secretName: service,", "secretName: servce,", ""),
        (PODS, "image: docker.io/library/nginx:.*", "image: docker.io/library/nginx", ""),
        (PODS, "containerPort: 8000", "containerPort: 9000", ""),
        (f"{KUBERNETES}/service.yaml", "component: web", "component: wep", ""),
        (f"{KUBERNETES}/autoscaler.yaml", "minReplicas: 2", "minReplicas: 1", ""),
        (f"{KUBERNETES}/nginx-site/balancer.conf", "recursive off", "recursive on", ""),
    ),
    "systemd": (
        (UNIT, "^ProtectHome=yes\n", "", ""),
        (SYSTEMD, "^LOG_FORMAT=json", "LOG_FORMAT=jsn", ""),
    ),
    "settings": (("ROOT_PATH", "", "api/", ""),),
}


def listed(table: dict[str, tuple[Case, ...]]) -> list[object]:
    return [
        pytest.param(kind, case, id=f"{kind}-{number}")
        for kind, cases in table.items()
        for number, case in enumerate(cases)
    ]


@pytest.fixture
def wrong(service: Path, monkeypatch: pytest.MonkeyPatch) -> Wrong:
    """The checks that find something after the change and did not before."""

    def change(kind: str, case: Case) -> set[str]:
        name, pattern, text, _ = case
        keep_deployment(service, kind)
        before = set(find_mistakes(service))
        if kind == "settings":
            monkeypatch.setenv(name, text)
        else:
            edit(service, name, pattern, text)
        return {one.check for one in set(find_mistakes(service)) - before}

    return change


@pytest.mark.parametrize(("kind", "case"), listed(CASES))
def test_wrong_configuration_is_caught(wrong: Wrong, kind: str, case: Case) -> None:
    assert case[-1] in wrong(kind, case)


@pytest.mark.parametrize(("kind", "case"), listed(LET_THROUGH))
def test_wrong_configuration_is_let_through_as_the_page_says(
    wrong: Wrong, kind: str, case: Case
) -> None:
    assert wrong(kind, case) == set()


@pytest.mark.parametrize("kind", ["compose", "kubernetes", "systemd"])
def test_shipped_deployment_is_not_found_wrong(service: Path, kind: str) -> None:
    keep_deployment(service, kind)
    assert find_mistakes(service) == []


def test_page_counts_what_was_tried() -> None:
    page = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    expected = {
        kind: (len(caught) + len(LET_THROUGH.get(kind, ())), len(caught))
        for kind, caught in CASES.items()
    }
    total = tuple(map(sum, zip(*expected.values(), strict=True)))
    found = {kind: (int(tried), int(caught)) for kind, tried, caught in rows}
    assert found == expected | {"together": total}
