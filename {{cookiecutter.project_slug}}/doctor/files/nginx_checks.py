"""What must hold in an nginx configuration, and the timeouts that it sets or leaves at defaults."""

import re
from collections.abc import Iterator
from pathlib import Path

from doctor.files.nginx import MAIN, Block
from doctor.finding import Entry, Finding, mistake, parse_bytes, parse_seconds
from doctor.rules import broken_rules, read_rules
from doctor.settings import trusts_everybody
from doctor.timeouts import Value

_RULES = Path(__file__).with_name("nginx.toml")
# A body or a log is a file beside the connection.
_FILES_PER_CONNECTION = 2
# Directives that a deeper one of the same name replaces, all of them at once.
_REPLACED = ("proxy_set_header", "add_header", "proxy_hide_header", "limit_req", "limit_conn")
# What the client may not say itself: the header, and what nginx has to write. Empty: not sent.
_OWN_HEADERS = {
    "X-Forwarded-For": ("$remote_addr",),
    "X-Forwarded-Host": ("$host_and_port", "$host"),
    "X-Forwarded-Proto": ("$client_scheme", "$scheme"),
    "X-Real-IP": ("$remote_addr",),
    "X-Request-ID": ("$request_id",),
    "Forwarded": ("",),
    "X-Forwarded-Port": ("", "$server_port"),
    "X-Forwarded-Prefix": ("",),
    "Proxy": ("",),
    "Host": ("$host_and_port", "$host"),
    "Connection": ("$connection_upgrade", ""),
    "Upgrade": ("$websocket_upgrade", ""),
}
_ADDRESS_HEADERS = ("X-Forwarded-For", "X-Real-IP")
# What every answer carries; nginx sends none of them by itself.
_ANSWER_HEADERS = (
    "X-Request-ID",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Strict-Transport-Security",
)
_FRAME_OPTIONS = ("DENY", "SAMEORIGIN")
# What the public must not reach without a list of who may; below another path too, where
# ROOT_PATH is set.
_PRIVATE_PATHS = ("/admin", "/admin/login", "/shop/admin/login", "/metrics", "/metrics/x")
# What a client may have written itself.
_FROM_CLIENT = ("$http_x_forwarded_for", "$proxy_add_x_forwarded_for", "$http_x_real_ip")
# nginx's own defaults, in seconds; 0 means that there is no limit. https://nginx.org/en/docs/
_TIMEOUTS_OF_A_LOCATION = {
    "proxy_connect_timeout": ("proxy_connect", "60s"),
    "proxy_next_upstream_timeout": ("next_upstream", "0"),
}
_NO_LIMIT_AT_ZERO = ("proxy_next_upstream_timeout", "worker_shutdown_timeout")


def nginx_timeouts(tree: Block) -> dict[str, list[Value]]:
    """In force where requests are proxied, defaults of nginx included."""
    values = {"nginx_shutdown": [_seconds(tree, "worker_shutdown_timeout", "0")]}
    for location in _proxied(tree):
        for name, (timeout, default) in _TIMEOUTS_OF_A_LOCATION.items():
            values.setdefault(timeout, []).append(_seconds(location, name, default))
        read = "stream_read" if _streams(location) else "proxy_read"
        values.setdefault(read, []).append(_seconds(location, "proxy_read_timeout", "60s"))
        client = _seconds(location, "keepalive_timeout", "75s")
        values.setdefault("client_keepalive", []).append(client)
    values["upstream_keepalive"] = [
        _seconds(upstream, "keepalive_timeout", "60s", own=True)
        for upstream in tree.called("upstream")
    ]
    return values


def check_nginx(tree: Block, max_body_bytes: int) -> Iterator[Finding]:
    rules = read_rules(_RULES)
    yield from broken_rules(rules["main"], tree.entry, str(MAIN))
    yield from _check_files(tree)
    for events in tree.called("events"):
        yield from broken_rules(rules["events"], events.entry, events.where)
    for http in tree.called("http"):
        yield from broken_rules(rules["http"], http.entry, http.where)
    for upstream in tree.called("upstream"):
        yield from broken_rules(rules["upstream"], upstream.entry, upstream.where)
    for server in tree.called("server"):
        if any("ssl" in listen.arguments for listen in server.own("listen")):
            yield from broken_rules(rules["tls"], server.entry, server.where)
            yield from _check_certificate(server)
        yield from _check_server(server)
    for location in _proxied(tree):
        yield from broken_rules(rules["location"], location.entry, location.where)
        if len(location.arguments) == 1:
            yield from broken_rules(rules["prefix"], location.entry, location.where)
        yield from _check_headers(location)
        yield from _check_answer_headers(location)
        yield from _check_buffering(location)
        yield from _check_body_limit(location, max_body_bytes)
    for block in tree.walk():
        yield from _check_replaced(block)
        yield from _check_limits(block)
    yield from _check_upstreams(tree)
    yield from _check_balancer(tree)
    yield from _check_log_format(tree)


def upstream_servers(tree: Block) -> list[Entry]:
    return [
        Entry(server.arguments[0], server.where)
        for upstream in tree.called("upstream")
        for server in upstream.own("server")
        if "down" not in server.arguments
    ]


def local_addresses(tree: Block) -> list[Entry]:
    """Of servers without a name, which serve everything, /admin included."""
    return [
        Entry(one.arguments[0], one.where)
        for server in tree.called("server")
        for one in server.own("listen")
        if not server.own("server_name") and "default_server" not in one.arguments
    ]


def listening_ports(tree: Block) -> set[str]:
    """Of servers that are asked for; the default ones are there for all others."""
    listens = [
        one.arguments[0]
        for server in tree.called("server")
        for one in server.own("listen")
        if "default_server" not in one.arguments
    ]
    return {address.rpartition(":")[2] for address in listens}


def _proxied(tree: Block) -> Iterator[Block]:
    return (block for block in tree.walk() if block.own("proxy_pass"))


def _streams(location: Block) -> bool:
    return any(one.arguments == ("off",) for one in location.own("proxy_buffering"))


def _seconds(block: Block, name: str, default: str, *, own: bool = False) -> Value:
    entry = None if own and not block.own(name) else block.entry(name)
    seconds = parse_seconds((entry.value if entry else default).partition(" ")[0])
    if not seconds and name in _NO_LIMIT_AT_ZERO:
        seconds = float("inf")
    return Value(seconds or 0.0, entry.where if entry else block.where)


def _check_files(tree: Block) -> Iterator[Finding]:
    """Without a limit of its own, nginx has that of the shell: a rule of nginx.toml."""
    files = parse_bytes((tree.entry("worker_rlimit_nofile") or Entry("", "")).value)
    for events in tree.called("events"):
        entry = events.entry("worker_connections") or Entry("512", events.where)
        connections = parse_bytes(entry.value) or 0
        if files is not None and files < connections * _FILES_PER_CONNECTION:
            yield mistake("files_of_nginx", entry.where, connections=connections, files=files)


def _check_server(server: Block) -> Iterator[Finding]:
    """What the public must not reach, in each server that has a name: others are local."""
    is_default = any("default_server" in one.arguments for one in server.own("listen"))
    proxied = [*_proxied(server)]
    if is_default and proxied:
        yield mistake("default_server_serves", server.where)
    if not server.own("server_name") or not proxied:
        return
    for path in _PRIVATE_PATHS:
        location = _location_of(server, path)
        if location is None or not location.own("proxy_pass"):
            continue
        if location.arguments == ("/",):
            yield mistake("location_missing", server.where, path=path)
            continue
        yield from _check_access(location)
        yield from broken_rules(read_rules(_RULES)["admin"], location.entry, location.where)


def _location_of(server: Block, path: str) -> Block | None:
    """As nginx chooses: an exact one, else the first expression, else the longest prefix.

    https://nginx.org/en/docs/http/ngx_http_core_module.html#location
    """
    prefix: Block | None = None
    expression: Block | None = None
    for location in server.called("location"):
        *modifier, pattern = location.arguments
        if modifier == ["="]:
            if pattern == path:
                return location
        elif modifier in (["~"], ["~*"]):
            if expression is None and _matches(pattern, path):
                expression = location
        elif path.startswith(pattern) and (
            prefix is None or len(pattern) > len(prefix.arguments[-1])
        ):
            prefix = location
    return expression or prefix


def _matches(pattern: str, path: str) -> bool:
    """What only PCRE understands is taken for one that does not match."""
    try:
        return re.search(pattern.replace(r"\z", r"\Z"), path) is not None
    except re.error:
        return False


def _check_access(location: Block) -> Iterator[Finding]:
    allowed = [one.arguments[0] for one in location.effective("allow")]
    is_closed = any(one.arguments == ("all",) for one in location.effective("deny"))
    if not is_closed or "all" in allowed or trusts_everybody(",".join(allowed)):
        yield mistake("admin_open", location.where)


def _check_headers(location: Block) -> Iterator[Finding]:
    found = {
        one.arguments[0].lower(): one
        for one in location.effective("proxy_set_header")
        if len(one.arguments) > 1
    }
    for name, allowed in _OWN_HEADERS.items():
        directive = found.get(name.lower())
        if directive and directive.arguments[1] in allowed:
            continue
        yield mistake(
            "address_header" if name in _ADDRESS_HEADERS else "request_header",
            directive.where if directive else location.where,
            name=name,
            value=directive.arguments[1] if directive else "not set",
            path=" ".join(location.arguments),
            wanted=allowed[0] or '""',
        )


def _check_answer_headers(location: Block) -> Iterator[Finding]:
    found = {
        one.arguments[0].lower(): one.arguments[1]
        for one in location.effective("add_header")
        if one.arguments[-1] == "always"
    }
    if found.get("x-frame-options", "DENY").upper() not in _FRAME_OPTIONS:
        del found["x-frame-options"]
    for name in _ANSWER_HEADERS:
        if name.lower() not in found:
            yield mistake(
                "answer_header_missing",
                location.where,
                path=" ".join(location.arguments),
                name=name,
            )


def _check_replaced(block: Block) -> Iterator[Finding]:
    """nginx takes these from one level only: the nearest that has any."""
    for name in _REPLACED:
        inner = block.own(name)
        outer = block.parent.effective(name) if inner and block.parent else []
        kept = {one.arguments[:1] for one in inner}
        lost = [one.arguments[0] for one in outer if one.arguments[:1] not in kept]
        if lost:
            message = "headers_dropped" if "header" in name else "limits_dropped"
            yield mistake(message, inner[0].where, name=name, lost=", ".join(lost))


def _check_limits(block: Block) -> Iterator[Finding]:
    """Each zone is used, counts what nginx sees itself, and lets a page load its parts."""
    used = {
        argument
        for other in block.walk()
        for one in (*other.own("limit_req"), *other.own("limit_conn"))
        for argument in one.arguments
    }
    for one in block.own("limit_req_zone"):
        zone = next((word for word in one.arguments if word.startswith("zone=")), "")
        if zone.partition(":")[0] not in used:
            yield mistake("zone_unused", one.where, zone=zone)
    for one in block.own("limit_req"):
        if not any(word.startswith("burst=") for word in one.arguments):
            yield mistake("no_burst", one.where)
    for one in block.directives if block.name in ("map", "geo") else ():
        if set(_FROM_CLIENT).intersection(one.arguments):
            yield mistake("client_chooses", one.where, name=one.arguments[0])


def _check_upstreams(tree: Block) -> Iterator[Finding]:
    names = {upstream.arguments[0] for upstream in tree.called("upstream")}
    for location in _proxied(tree):
        proxy_pass = location.own("proxy_pass")[-1]
        if re.split(r"//|/", proxy_pass.arguments[0])[1] not in names:
            yield mistake("past_upstream", proxy_pass.where, address=proxy_pass.arguments[0])
    for upstream in tree.called("upstream"):
        for server in upstream.own("server"):
            is_name = re.match(r"(?!unix:|localhost)[a-z]", server.arguments[0])
            if is_name and "resolve" not in server.arguments:
                yield mistake("name_kept", server.where, address=server.arguments[0])


def _check_certificate(server: Block) -> Iterator[Finding]:
    has_one = server.effective("ssl_certificate") and server.effective("ssl_certificate_key")
    if not has_one and not server.own("ssl_reject_handshake"):
        yield mistake("no_certificate", server.where)


def _check_buffering(location: Block) -> Iterator[Finding]:
    """A stream says so in its own location."""
    buffering = location.entry("proxy_buffering")
    is_whole = location.arguments[-1:] == ("/",)
    if buffering and buffering.value == "off" and (is_whole or not _streams(location)):
        yield mistake("not_buffered", buffering.where)


def _check_body_limit(location: Block, max_body_bytes: int) -> Iterator[Finding]:
    entry = location.entry("client_max_body_size") or Entry("1m", location.where)
    if parse_bytes(entry.value) != max_body_bytes:
        yield mistake("body_limit", entry.where, entry=entry.value, max_body_bytes=max_body_bytes)


def _check_balancer(tree: Block) -> Iterator[Finding]:
    networks = [one for block in tree.walk() for one in block.own("set_real_ip_from")]
    if trusts_everybody(",".join(one.arguments[0] for one in networks)):
        yield mistake("everybody_is_balancer", networks[0].where)


def _check_log_format(tree: Block) -> Iterator[Finding]:
    leaks = re.compile(
        r"\$(request|request_uri|args|query_string|http_authorization|http_cookie|http_referer)\b"
    )
    for one in (one for block in tree.walk() for one in block.own("log_format")):
        for match in leaks.finditer(" ".join(one.arguments)):
            yield mistake("log_leaks", one.where, variable=match[0])
