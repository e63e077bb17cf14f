"""Sentences of the pages that state a number, and the place in the code that it comes from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.conftest import REPOSITORY, SERVICE
from tests.pages import SERVICE_FOLDER


@dataclass(frozen=True)
class Source:
    """A setting's default, or what `pattern` finds in a file of the service."""

    name: str
    pattern: str = ""
    divisor: float = 1

    def value(self, settings: Mapping[str, str]) -> float:
        found = settings[self.name] if not self.pattern else self._search()
        return read_number(found) / self.divisor

    def _search(self) -> str:
        text = (SERVICE_FOLDER / self.name).read_text(encoding="utf-8")
        [found] = set(re.findall(self.pattern, text))
        return str(found)


def read_number(text: str) -> float:
    return float(re.sub(r"[,_]", "", text))


def stated(page: str, sentence: str) -> set[float]:
    """The numbers that stand in the place of the braces."""
    pattern = re.escape(sentence).replace(r"\{\}", r"([\d,.]*\d)").replace(r"\ ", r"\s+")
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return {read_number(found) for found in re.findall(pattern, text)}


POOL_WAIT = Source("DATABASE_POOL_TIMEOUT_SECONDS")
LAME_DUCK = Source("SERVER_LAME_DUCK_SECONDS")
DEADLINE = Source("REQUEST_DEADLINE_SECONDS")
UPSTREAM = Source("deploy/nginx/http/proxy.conf", r"keepalive_timeout (\d+)ms", 1000)
BODY = Source("deploy/nginx/http/client.conf", r"client_max_body_size (\d+)m")
COMPOSE = "deploy/compose/compose.yaml"
PGBOUNCER = "deploy/compose/pgbouncer.ini"
POD = "deploy/kubernetes/base/deployment.yaml"

NUMBERS: dict[str, dict[str, Source]] = {
    "README.md": {"503 after {} s instead": POOL_WAIT},
    "docs/tuning.md": {
        "DATABASE_CONNECTION_BUDGET ({})": Source("DATABASE_CONNECTION_BUDGET"),
    },
    "docs/overload.md": {"waits for more than {} s gets a 503": POOL_WAIT},
    "docs/reloading.md": {"for {} s lets nginx close": LAME_DUCK},
    "docs/knobs.md": {
        "| 512 | {} | more than 2,000": Source(
            "deploy/nginx/nginx.conf", r"worker_connections (\d+)"
        ),
        "often 1024 | {} |": Source("deploy/nginx/nginx.conf", r"worker_rlimit_nofile (\d+)"),
        "| 60 s | {} s | never: gunicorn": UPSTREAM,
        "`SERVER_BACKLOG` {} below": Source("SERVER_BACKLOG"),
        "| 1024 | {} (systemd)": Source("deploy/systemd/app@.service", r"LimitNOFILE=(\d+)"),
        "| none | {} s | with all that waits": DEADLINE,
        "in no order | {} s, first": POOL_WAIT,
        "100 | 100, {} for the workers": Source("DATABASE_CONNECTION_BUDGET"),
        "`command_timeout` | none | {} s": Source("DATABASE_COMMAND_TIMEOUT_SECONDS"),
        "| never | {} s | a firewall": Source("DATABASE_POOL_RECYCLE_SECONDS"),
        "`statement_timeout` | none | {} s": Source("STATEMENT_TIMEOUT_SECONDS"),
        "`lock_timeout` | none | {} s": Source("LOCK_TIMEOUT_SECONDS"),
    },
    "docs/measurements/json.md": {
        "a limit ({} rows here)": Source("app/schemas.py", r"limit: int .*le=(\d+)"),
    },
    "docs/decisions/0004-a-fair-queue-before-the-pool.md": {"_SECONDS` ({})": POOL_WAIT},
    "docs/decisions/0005-a-worker-leaves-after-its-successor-serves.md": {
        "a lame duck for {} s": LAME_DUCK,
        "`keepalive_timeout` is {} s": UPSTREAM,
    },
    "docs/decisions/0011-throttling-in-postgresql.md": {
        "After {} attempts on an account": Source("LOGIN_ATTEMPTS_PER_ACCOUNT"),
        "account or {} from an address": Source("LOGIN_ATTEMPTS_PER_ADDRESS"),
        "1 s to {} min at most": Source("LOGIN_DELAY_SECONDS_MAX", divisor=60),
    },
    f"{SERVICE}/docs/admin.md": {
        "count up to {} rows": Source("app/admin/repository.py", r"ROWS_COUNTED_MAX = ([\d_]+)"),
    },
    f"{SERVICE}/docs/deployment.md": {
        "wait {} s: gunicorn": Source(COMPOSE, r"graceful_timeout.*\n +stop_grace_period: (\d+)s"),
        "gives its workers {},": Source("SERVER_GRACEFUL_TIMEOUT_SECONDS"),
        "a request may take {};": DEADLINE,
    },
    f"{SERVICE}/docs/growth.md": {
        "two generations of {} MiB": Source("WORKER_MEMORY_MIB"),
        "PostgreSQL sees {} connections": Source(PGBOUNCER, r"default_pool_size *= *(\d+)"),
        "DATABASE_CONNECTION_BUDGET={}": Source(PGBOUNCER, r"max_client_conn *= *(\d+)"),
    },
    f"{SERVICE}/docs/migrations.md": {
        "lock up after {} s": Source(
            "migrations/env.py", r"TABLE_LOCK_MILLISECONDS = (\d+)", divisor=1000
        ),
        "again up to {} times": Source("migrations/env.py", r"TABLE_LOCK_TRIES = (\d+)"),
    },
    f"{SERVICE}/docs/operations.md": {
        "within {} s: the event loop": Source(
            "deploy/nginx/http/proxy.conf", r"proxy_read_timeout (\d+)s"
        ),
        "within {} s (`REQUEST_DEADLINE_SECONDS`)": DEADLINE,
        "body over {} MiB": BODY,
    },
    f"{SERVICE}/docs/security.md": {
        "{} minutes of life": Source("ACCESS_TOKEN_SECONDS", divisor=60),
        "after the grace of {} s": Source("REFRESH_REUSE_GRACE_SECONDS"),
    },
    f"{SERVICE}/docs/guessing.md": {
        "argon2id, {} MiB": Source("PASSWORD_MEMORY_COST_KIB", divisor=1024),
        "waits end after {} min": Source("LOGIN_DELAY_SECONDS_MAX", divisor=60),
    },
    f"{SERVICE}/deploy/compose/README.md": {
        "the newest {} are kept": Source(COMPOSE, r"BACKUPS_KEPT:-(\d+)"),
        "addresses every {} s": Source("deploy/compose/nginx-site/http.conf", r"valid=(\d+)s"),
        "PostgreSQL {} on one": Source(COMPOSE, r"library/postgres:(\d+)"),
    },
    f"{SERVICE}/deploy/kubernetes/README.md": {
        "starts 2 to {} of them": Source(
            "deploy/kubernetes/base/autoscaler.yaml", r"maxReplicas: (\d+)"
        ),
        "one core and {} connections": Source("server/capacity.py", r"POOL_SIZE_MAX = (\d+)"),
        "leaves sleeps for {} s": Source(POD, r"preStop \((\d+) s\)"),
        "is killed after {} s": Source(POD, r"terminationGracePeriodSeconds: (\d+)"),
    },
    f"{SERVICE}/deploy/systemd/README.md": {
        "not up within {} s": Source("deploy/systemd/install.sh", r"READY_WITHIN_SECONDS:-(\d+)"),
    },
}
