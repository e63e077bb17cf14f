"""What must hold in an nginx configuration, and the timeouts that it sets or leaves at defaults."""

import re
from collections.abc import Iterator, Sequence

from doctor.files import nginx_rules as rules
from doctor.files.nginx import MAIN, Block, Directive
from doctor.finding import Entry, Finding, error, parse_bytes, parse_seconds
from doctor.rules import broken_rules
from doctor.settings import trusts_everybody
from doctor.timeouts import Value

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
_ANSWER_HEADERS = ("X-Request-ID", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy")
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
    yield from broken_rules(rules.MAIN_RULES, tree.entry, str(MAIN))
    yield from _check_files(tree)
    for http in tree.called("http"):
        yield from broken_rules(rules.HTTP_RULES, http.entry, http.where)
    for upstream in tree.called("upstream"):
        yield from broken_rules(rules.UPSTREAM_RULES, upstream.entry, upstream.where)
    for server in tree.called("server"):
        if any("ssl" in listen.arguments for listen in server.own("listen")):
            yield from broken_rules(rules.TLS_RULES, server.entry, server.where)
        yield from _check_server(server)
    for location in _proxied(tree):
        yield from broken_rules(rules.LOCATION_RULES, location.entry, location.where)
        if len(location.arguments) == 1:
            yield from broken_rules(rules.PREFIX_RULES, location.entry, location.where)
        yield from _check_headers(location)
        yield from _check_answer_headers(location)
        yield from _check_buffering(location)
        yield from _check_body_limit(location, max_body_bytes)
    for block in tree.walk():
        yield from _check_replaced(block)
    yield from _check_balancer(tree)
    yield from _check_log_format(tree)


def upstream_servers(tree: Block) -> list[Entry]:
    return [
        Entry(server.arguments[0], server.where)
        for upstream in tree.called("upstream")
        for server in upstream.own("server")
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
    """Without a limit of its own, nginx has that of the shell: see nginx_rules.py."""
    files = parse_bytes((tree.entry("worker_rlimit_nofile") or Entry("", "")).value)
    for events in tree.called("events"):
        entry = events.entry("worker_connections") or Entry("512", events.where)
        connections = parse_bytes(entry.value) or 0
        if files is not None and files < connections * rules.FILES_PER_CONNECTION:
            yield error(
                "capacity",
                f"worker_connections is {connections}, worker_rlimit_nofile {files}.",
                entry.where,
                "Bodies and logs are files too; over the limit nobody is accepted.",
                "Allow two files for each connection.",
            )


def _check_server(server: Block) -> Iterator[Finding]:
    """What the public must not reach, in each server that has a name: others are local."""
    is_default = any("default_server" in one.arguments for one in server.own("listen"))
    proxied = [*_proxied(server)]
    if is_default and proxied:
        yield error(
            "hosts",
            "Hosts that nobody asked for reach the service.",
            server.where,
            "Attacks with a Host header need one.",
            "Give them a server of their own that returns 421.",
        )
    if not server.own("server_name") or not proxied:
        return
    locations = server.called("location")
    for path in ("/admin", "/metrics"):
        if not any(_is_for(one, path) for one in locations):
            yield error(
                "access",
                f"There is no location {path}.",
                server.where,
                "location / hands it on, to everybody.",
                f"Write a location {path} that refuses.",
            )
    for block in locations:
        if _is_for(block, "/admin") and block.own("proxy_pass"):
            yield from _check_access(block)
            yield from broken_rules(rules.ADMIN_RULES, block.entry, block.where)


def _is_for(location: Block, path: str) -> bool:
    """A location of this path, and not of everything."""
    *modifier, pattern = location.arguments
    if modifier in (["~"], ["~*"]):
        return re.search(pattern, path) is not None and not re.search(pattern, "/")
    return pattern == path or (modifier != ["="] and pattern != "/" and path.startswith(pattern))


def _check_access(location: Block) -> Iterator[Finding]:
    allowed = [one.arguments[0] for one in location.effective("allow")]
    is_closed = any(one.arguments == ("all",) for one in location.effective("deny"))
    if not is_closed or "all" in allowed or trusts_everybody(",".join(allowed)):
        yield error(
            "access",
            "The admin app is open to everybody.",
            location.where,
            "Only a password stands between the internet and every account.",
            "List who may come in site/admin_access.conf, then deny all;",
        )


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
        check = "trusted proxies" if name in _ADDRESS_HEADERS else "headers"
        what = f"{name} is {directive.arguments[1]}" if directive else f"{name} is not set"
        where = directive.where if directive else location.where
        why = "What the client sent reaches the app, or the connection is not kept."
        fix = f"Write proxy_set_header {name} " + (allowed[0] or '""') + ";"
        yield error(check, f"{what} for {' '.join(location.arguments)}.", where, why, fix)


def _check_answer_headers(location: Block) -> Iterator[Finding]:
    found = {one.arguments[0].lower() for one in location.effective("add_header")}
    for name in _ANSWER_HEADERS:
        if name.lower() not in found:
            yield error(
                "headers",
                f"Answers of {' '.join(location.arguments)} have no {name}.",
                location.where,
                "Browsers guess types and show pages in frames, or answers cannot be traced.",
                "Include http/response.conf.",
            )


def _check_replaced(block: Block) -> Iterator[Finding]:
    """nginx takes these from one level only: the nearest that has any."""
    for name in _REPLACED:
        inner = block.own(name)
        outer = block.parent.effective(name) if inner and block.parent else []
        kept = {one.arguments[:1] for one in inner}
        lost = [one.arguments[0] for one in outer if one.arguments[:1] not in kept]
        if lost:
            yield error(
                "headers" if "header" in name else "limits",
                f"This {name} drops those around it: {', '.join(lost)}.",
                inner[0].where,
                "nginx takes them from one level only.",
                "Move it to where the others are, or repeat them here.",
            )


def _check_buffering(location: Block) -> Iterator[Finding]:
    """A stream says so in its own location."""
    buffering = location.entry("proxy_buffering")
    is_whole = location.arguments[-1:] == ("/",)
    if buffering and buffering.value == "off" and (is_whole or not _streams(location)):
        yield error(
            "proxy",
            "Answers are not buffered.",
            buffering.where,
            "A slow client holds a worker while it reads.",
            "Write proxy_buffering off; only where events are streamed.",
        )


def _check_body_limit(location: Block, max_body_bytes: int) -> Iterator[Finding]:
    entry = location.entry("client_max_body_size") or Entry("1m", location.where)
    if parse_bytes(entry.value) != max_body_bytes:
        yield error(
            "body limit",
            f"client_max_body_size is {entry.value}, MAX_BODY_BYTES {max_body_bytes}.",
            entry.where,
            "The smaller one decides, whatever the other says.",
            f"Write client_max_body_size {max_body_bytes}; or change MAX_BODY_BYTES.",
        )


def _check_balancer(tree: Block) -> Iterator[Finding]:
    networks = [one for block in tree.walk() for one in block.own("set_real_ip_from")]
    if trusts_everybody(",".join(one.arguments[0] for one in networks)):
        yield error(
            "trusted proxies",
            "Everybody counts as a load balancer.",
            networks[0].where,
            "Every client chooses its own address in logs and limits.",
            "Write the networks of the balancer only.",
        )


def _check_log_format(tree: Block) -> Iterator[Finding]:
    leaks = re.compile(
        r"\$(request|request_uri|args|query_string|http_authorization|http_cookie)\b"
    )
    formats: Sequence[Directive] = [one for block in tree.walk() for one in block.own("log_format")]
    for one in formats:
        for match in leaks.finditer(" ".join(one.arguments)):
            yield error(
                "log",
                f"The log holds {match[0]}.",
                one.where,
                "Tokens and addresses of people end up there.",
                "Write $request_path, which has no query string.",
            )
