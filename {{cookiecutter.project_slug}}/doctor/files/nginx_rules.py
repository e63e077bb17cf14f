"""What a directive of nginx must say, by the block in which it is in force."""

from doctor.finding import Severity, parse_bytes, parse_seconds
from doctor.rules import Rule, among, at_least, is_set, without

FILES_PER_CONNECTION = 2
_SLOW_CLIENT_SECONDS = 60
# Of a request or an answer, with a token in it.
_HEADER_BYTES_MIN = 4096

MAIN_RULES = (
    Rule(
        "worker_shutdown_timeout",
        "0",
        lambda text: bool(parse_seconds(text)),
        "timeouts",
        "One open event stream keeps an old nginx worker alive for ever.",
        "Write worker_shutdown_timeout 35s;",
    ),
    Rule(
        "worker_rlimit_nofile",
        "1024",
        at_least(1024 * FILES_PER_CONNECTION, parse_bytes),
        "capacity",
        "Every request takes two files; over the limit nobody is accepted.",
        "Write worker_rlimit_nofile 10240;",
    ),
)
HTTP_RULES = (
    Rule(
        "limit_conn_status",
        "503",
        among("429"),
        "limits",
        "A client that is too fast reads that the service is broken.",
        "Write limit_conn_status 429;",
    ),
    Rule(
        "large_client_header_buffers",
        "4 8k",
        lambda text: (parse_bytes(text.split()[-1]) or 0) >= _HEADER_BYTES_MIN,
        "limits",
        "A token in a header is refused.",
        "Write large_client_header_buffers 4 8k;",
    ),
    Rule(
        "server_tokens",
        "on",
        among("off"),
        "headers",
        "Scanners read the version.",
        "Write server_tokens off;",
        Severity.WARNING,
    ),
    Rule(
        "client_header_timeout",
        "60s",
        lambda text: 0 < (parse_seconds(text) or 0) <= _SLOW_CLIENT_SECONDS,
        "limits",
        "Slow clients hold connections.",
        "Write client_header_timeout 10s;",
    ),
    Rule(
        "limit_req_status",
        "503",
        among("429"),
        "limits",
        "A client that is too fast reads that the service is broken.",
        "Write limit_req_status 429;",
        Severity.WARNING,
    ),
    Rule(
        "access_log",
        "combined",
        lambda text: text.endswith(" json"),
        "log",
        "Requests cannot be found again, or their query strings are written down.",
        "Write access_log … json;",
    ),
)
LOCATION_RULES = (
    Rule(
        "proxy_send_timeout",
        "60s",
        lambda text: 0 < (parse_seconds(text) or 0) < _SLOW_CLIENT_SECONDS,
        "proxy",
        "A stuck worker holds the request longer than a balancer waits.",
        "Write proxy_send_timeout 10s;",
    ),
    Rule(
        "proxy_next_upstream_tries",
        "0",
        lambda text: text != "0",
        "retry",
        "A request is tried on every replica, one after the other.",
        "Write proxy_next_upstream_tries 2;",
    ),
    Rule(
        "proxy_buffer_size",
        "4k",
        at_least(_HEADER_BYTES_MIN, parse_bytes),
        "proxy",
        "An answer with longer headers becomes 502.",
        "Write proxy_buffer_size 8k;",
    ),
    Rule(
        "send_timeout",
        "60s",
        lambda text: 0 < (parse_seconds(text) or 0) <= _SLOW_CLIENT_SECONDS,
        "limits",
        "Clients that do not read hold connections.",
        "Write send_timeout 15s;",
    ),
    Rule(
        "error_page",
        "",
        is_set,
        "proxy",
        "Errors of nginx are pages and no problem documents.",
        "Include server/problem.conf.",
    ),
    Rule(
        "proxy_http_version",
        "1.0",
        among("1.1", "2"),
        "proxy",
        "Neither kept connections nor WebSockets work.",
        "Write proxy_http_version 1.1;",
    ),
    Rule(
        "proxy_next_upstream",
        "error timeout",
        without("non_idempotent"),
        "retry",
        "nginx sends a POST again, and what was done once may be done twice.",
        "Leave non_idempotent out.",
    ),
    Rule(
        "proxy_request_buffering",
        "on",
        among("on"),
        "proxy",
        "A slow client holds a worker while it sends.",
        "Write proxy_request_buffering on;",
    ),
    Rule(
        "proxy_intercept_errors",
        "off",
        among("off"),
        "proxy",
        "The app's own problem documents are replaced by nginx's.",
        "Write proxy_intercept_errors off;",
    ),
    Rule(
        "limit_req",
        "",
        is_set,
        "limits",
        "One client may take the whole machine.",
        "Include site/limits.conf in http.",
    ),
)
PREFIX_RULES = (
    Rule(
        "proxy_pass",
        "",
        lambda text: "$" in text or text.count("/") > 2,  # noqa: PLR2004 (two of them in http://)
        "access",
        "The raw path is handed on: /metrics/../x is another place for nginx than for the app.",
        "Repeat the path of the location in proxy_pass.",
    ),
)
ADMIN_RULES = (
    Rule(
        "gzip",
        "off",
        among("off"),
        "access",
        "A cookie signs in here, and compression tells secrets in a page (BREACH).",
        "Write gzip off; in this location.",
    ),
)
UPSTREAM_RULES = (
    Rule(
        "keepalive",
        "0",
        lambda text: text not in ("", "0"),
        "proxy",
        "Every request opens a connection of its own.",
        "Write keepalive 32;",
    ),
)
TLS_RULES = (
    Rule(
        "ssl_protocols",
        "TLSv1 TLSv1.1 TLSv1.2",
        without("SSLv2", "SSLv3", "TLSv1", "TLSv1.1"),
        "tls",
        "Broken protocols can be negotiated, which RFC 8996 forbids.",
        "Write ssl_protocols TLSv1.2 TLSv1.3;",
    ),
    Rule(
        "ssl_session_tickets",
        "on",
        among("off"),
        "tls",
        "Their key never changes while nginx runs, which undoes forward secrecy.",
        "Write ssl_session_tickets off;",
    ),
)
