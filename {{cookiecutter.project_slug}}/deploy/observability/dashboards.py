"""Writes the dashboards of Grafana: `python3 dashboards.py`, after a change here."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "grafana/dashboards"
REQUESTS = "http_server_request_duration_seconds"
# Probes are nobody's requests.
ALL = 'job="$job",route!~"/livez|/readyz"'
RATE = "[$__rate_interval]"

JOB = '{job="$job"}'

# Title, unit, and the queries by what stands for their series; [route] is the label of that name.
Panel = tuple[str, str, dict[str, str]]


def rate_of(metric: str, labels: str) -> str:
    return f"rate({metric}" + "{" + labels + "}" + RATE + ")"


def quantile(q: float, metric: str, labels: str, by: str = "") -> str:
    return f"histogram_quantile({q}, sum by (le{by}) ({rate_of(metric + '_bucket', labels)}))"


def rate(metric: str, by: str, labels: str = 'job="$job"') -> str:
    return f"sum by ({by}) ({rate_of(metric, labels)})"


def each(metric: str, by: str = "instance") -> str:
    return f"sum by ({by}) ({metric}{JOB})"


def share(part: str, whole: str) -> str:
    return f"({part}) / ({whole})"


SQL_SECONDS = f"sum(rate(app_sql_seconds_total{JOB}{RATE}))"
ALL_SECONDS = f"sum({rate_of(REQUESTS + '_sum', ALL)})"
ALL_COUNT = f"sum({rate_of(REQUESTS + '_count', ALL)})"
POOL_USE: Panel = (
    "Connections in use",
    "percentunit",
    {
        "[instance]": share(
            rate("app_database_pool_busy_seconds_total", "instance"), each("app_database_pool_size")
        )
    },
)
POOL_WAIT: Panel = (
    "Wait for a connection, of those that waited",
    "s",
    {"p99": quantile(0.99, "app_database_pool_wait_seconds", 'job="$job"')},
)
LOOP_LAG: Panel = (
    "Lag of the event loop",
    "s",
    {"p99 [instance]": quantile(0.99, "server_loop_lag_seconds", 'job="$job"', by=", instance")},
)
CPU: Panel = (
    "CPU of workers",
    "percentunit",
    {"[pid]": rate("server_process_cpu_seconds_total", "pid", 'job="$job",role="worker"')},
)

DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "service": (
        "Service: rate, errors, duration",
        [
            ("Requests", "reqps", {"[route]": rate(f"{REQUESTS}_count", "route", ALL)}),
            ("Statuses", "reqps", {"[status]": rate(f"{REQUESTS}_count", "status", ALL)}),
            ("Errors, of all", "percentunit", {"5 min": 'job:errors:ratio_rate5m{job="$job"}'}),
            ("Slow, of all", "percentunit", {"5 min": 'job:slow:ratio_rate5m{job="$job"}'}),
            (
                "Duration",
                "s",
                {f"p{q * 100:g}": quantile(q, REQUESTS, ALL) for q in (0.5, 0.95, 0.99)},
            ),
            (
                "p95 of each route",
                "s",
                {"[route]": quantile(0.95, REQUESTS, ALL, by=", route")},
            ),
            ("Under way", "short", {"[instance]": each("server_requests_in_flight")}),
            ("Shed", "reqps", {"[reason]": rate("app_requests_shed_total", "reason")}),
        ],
    ),
    "workers": (
        "Workers and pool: utilisation, saturation, errors",
        [
            CPU,
            (
                "Memory",
                "bytes",
                {"[role] [pid]": each("server_process_resident_bytes", "role, pid")},
            ),
            LOOP_LAG,
            (
                "Since the last sign of life",
                "s",
                {"[pid]": 'time() - server_loop_tick_timestamp_seconds{job="$job"}'},
            ),
            POOL_USE,
            POOL_WAIT,
            (
                "Workers",
                "short",
                {
                    "serving": each("server_workers", "job"),
                    "planned": each("server_planned_workers", "job"),
                },
            ),
            (
                "Ends of workers",
                "short",
                {"[reason]": rate("server_worker_ends_total", "reason")},
            ),
            (
                "Garbage collection",
                "percentunit",
                {"[instance]": rate("server_gc_pause_seconds_total", "instance")},
            ),
            (
                "Connections of the plan",
                "short",
                {
                    "planned": 'max(server_planned_connections{job="$job"})',
                    "budget": 'max(server_connection_budget{job="$job"})',
                },
            ),
        ],
    ),
    "accounts": (
        "Accounts",
        [
            (
                "Logins",
                "cps",
                {
                    "[event] [door]": rate(
                        "app_security_events_total",
                        "event, door",
                        'job="$job",event=~"login_.*|attempt_throttled"',
                    )
                },
            ),
            (
                "Other events",
                "cps",
                {
                    "[event]": rate(
                        "app_security_events_total",
                        "event",
                        'job="$job",event!~"login_.*|attempt_throttled"',
                    )
                },
            ),
            (
                "Password hashes that run or wait",
                "short",
                {"[instance]": each("app_password_hashes_pending")},
            ),
        ],
    ),
    "jobs": (
        "Jobs",
        [
            # Each process of the jobs shows all of them.
            (
                "In the queue",
                "short",
                {"[job] [status]": "max by (job, status) (app_jobs)"},
            ),
            (
                "The oldest that waits",
                "s",
                {"[job]": "max by (job) (app_jobs_oldest_seconds)"},
            ),
            (
                "Runs",
                "cps",
                {
                    "[task] [outcome]": rate(
                        "app_job_duration_seconds_count", "job, task, outcome", ""
                    )
                },
            ),
            (
                "p95 of each task",
                "s",
                {"[task]": quantile(0.95, "app_job_duration_seconds", "", by=", job, task")},
            ),
        ],
    ),
    "nginx": (
        "nginx",
        [
            (
                "Requests",
                "reqps",
                {"[instance]": rate("nginx_http_requests_total", "instance", "")},
            ),
            (
                "Connections",
                "short",
                {
                    state: f"sum(nginx_connections_{state})"
                    for state in ("active", "reading", "writing", "waiting")
                },
            ),
            (
                "Not accepted",
                "cps",
                {
                    "dropped": f"sum(rate(nginx_connections_accepted{RATE}))"
                    f" - sum(rate(nginx_connections_handled{RATE}))"
                },
            ),
        ],
    ),
    "us-or-the-database": (
        "Us or the database?",
        [
            (
                "Time of a request",
                "s",
                {
                    "SQL": share(SQL_SECONDS, ALL_COUNT),
                    "the rest": share(f"{ALL_SECONDS} - {SQL_SECONDS}", ALL_COUNT),
                },
            ),
            ("Part of SQL", "percentunit", {"SQL": share(SQL_SECONDS, ALL_SECONDS)}),
            (
                "One statement",
                "s",
                {
                    "[route]": share(
                        rate("app_sql_seconds_total", "route"),
                        rate("app_sql_statements_total", "route"),
                    )
                },
            ),
            (
                "Statements of a request",
                "short",
                {
                    "[route]": share(
                        rate("app_sql_statements_total", "route"),
                        rate(f"{REQUESTS}_count", "route", ALL),
                    )
                },
            ),
            POOL_USE,
            POOL_WAIT,
            LOOP_LAG,
            CPU,
        ],
    ),
}


def write_legend(text: str) -> str:
    """[route] becomes what Grafana takes for the label `route`."""
    return text.replace("[", "{" * 2).replace("]", "}" * 2)


def write_panel(number: int, panel: Panel) -> dict[str, object]:
    title, unit, queries = panel
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": write_legend(legend)}
            for index, (legend, query) in enumerate(queries.items())
        ],
    }


def write_dashboard(name: str, title: str, panels: list[Panel]) -> dict[str, object]:
    return {
        "uid": f"service-{name}",
        "title": title,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "tags": ["service"],
        "links": [
            {"type": "dashboards", "tags": ["service"], "asDropdown": True, "title": "Dashboards"}
        ],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "job",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "$datasource"},
                    "query": "label_values(server_workers, job)",
                    "refresh": 2,
                },
            ]
        },
        "panels": [write_panel(number, panel) for number, panel in enumerate(panels)],
    }


def render() -> dict[str, str]:
    """File names and their texts."""
    return {
        f"{name}.json": json.dumps(write_dashboard(name, title, panels), indent=1) + "\n"
        for name, (title, panels) in DASHBOARDS.items()
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
