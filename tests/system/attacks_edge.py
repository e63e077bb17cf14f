"""Attacks on what stands before the service: paths, requests, hosts, methods, upgrades."""

from collections.abc import Iterator

from tests.system.attack import CLOSED, NOT_SPOKEN, REFUSED, Attack, Target

HELD_OR_CLOSED = REFUSED | {CLOSED}
# Spellings of a path with a segment that nobody at this door may reach.
SPELLINGS = (
    *("/{}", "/{}/", "//{}/login", "/./{}/login", "/x/../{}/login", "/x/%2e%2e/{}/login"),
    *("/%2e/{}", "/%2f{}/login", "/x%2f{}/login", "/x/%2e%2e%2f{}/login", "/{}%2flogin"),
    *("/{}/%2e/login", "/{}/../{}/login", "/{}//login", "/{};x=1/login", "/x;y/{}/login"),
    *("/{}?x=/livez", "/{}/login#x", "/{}%0a", "/{}%0d", "/{}%09", "/{}%00", "/%0a/{}/login"),
    *("/x%0a/{}/login", "/{}%0a/login", "/{}/login%0a", "/%0d%0a/{}", "/x%7f/{}/login"),
    *("/livez/../{}/login", "/livez%2f..%2f{}/login", "/api/v1/../../{}/login"),
    *("/api/v1/events/../../../{}/login", "/.well-known/acme-challenge/../../{}/login"),
    *("/x/..;/{}/login", "/x\\..\\{}/login", "/%5c{}/login", "/%252f{}/login", "/x/%252e%252e/{}"),
    *("/%c0%af{}/login", "/%c0%ae%c0%ae/{}/login", "/%e0%80%af{}/login", "/%uff0f{}/login"),
    *("/\u2215{}/login", "/a/b/c/d/{}/x/y", "/{}/{}", "/{}.json", "/{}%20/login", "/%20/{}/login"),
)
PREFIXES = ("", "/api/orders", "/shop")
SMUGGLED = b"GET /admin/login HTTP/1.1\r\nHost: localhost\r\n\r\n"


def paths(_at: Target) -> Iterator[Attack]:
    for prefix in PREFIXES:
        for spelling in SPELLINGS:
            target = prefix + spelling.replace("{}", "admin")
            yield Attack("path to /admin", target, target)
    for spelling in SPELLINGS[:34]:
        target = f"/api/orders{spelling.replace('{}', 'metrics').replace('/login', '')}"
        yield Attack("path to /metrics", target, target)
    for word in ("Admin", "ADMIN", "%61dmin", "adm%69n", "ad%6din", "\u0430dmin", "admin%E2%80%8B"):
        for prefix in ("", "/api/orders"):
            yield Attack("path to /admin", word + prefix, f"{prefix}/{word}/login")
    for form in (
        "http://localhost{}",
        "http://x@localhost{}",
        "https://localhost{}",
        "HTTP://localhost{}",
    ):
        for prefix in ("", "/api/orders"):
            target = form.format(f"{prefix}/admin/login")
            yield Attack("path to /admin", target, target)
    for version in ("HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3"):
        held = HELD_OR_CLOSED | NOT_SPOKEN
        target = "/api/orders/admin/login"
        yield Attack("path to /admin", version, target, version=version, held=held)
    for name in (
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Path",
        "X-Original-URI",
        "X-Accel-Redirect",
    ):
        for method in ("GET", "POST"):
            headers = (f"{name}: /admin/login", "X-Forwarded-For: 127.0.0.1")
            what = f"{method} {name}"
            yield Attack("path to /admin", what, "/nothing", method, headers)


def smuggling(_at: Target) -> Iterator[Attack]:
    """One request that is two to somebody on the way: the second must never be answered."""
    post = b"POST /livez HTTP/1.1\r\nHost: localhost\r\n"
    held = HELD_OR_CLOSED | NOT_SPOKEN
    codings = (
        b"chunked, identity", b"identity, chunked", b"xchunked", b"chunked\x0b", b"\x0bchunked",
        b" chunked", b"Chunked, chunked", b"gzip, chunked", b'"chunked"', b"chunked;x=1",
    )  # fmt: skip
    for coding in codings:
        body = b"0\r\n\r\n" + SMUGGLED
        head = post + b"Transfer-Encoding: " + coding + b"\r\nContent-Length: 4\r\n\r\n"
        yield Attack("smuggling", f"TE {coding!r} and CL", raw=head + body, held=held)
    lengths = (
        b"+5", b"-1", b"0x5", b"5, 5", b"5,6", b"5 5", b"05e0", b"99999999999999999999", b"",
        b"\x0b5", b"5\x00", b"5.0", b"\xd9\xa5",
    )  # fmt: skip
    for length in lengths:
        raw = post + b"Content-Length: " + length + b"\r\n\r\nhello" + SMUGGLED
        yield Attack("smuggling", f"Content-Length {length!r}", raw=raw, held=held)
    heads = (
        b"Content-Length: 0\r\nContent-Length: 46\r\n", b"Content-Length : 46\r\n",
        b" Content-Length: 46\r\n", b"Content-Length\t: 46\r\n", b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n", b"Transfer-Encoding\n: chunked\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\n", b"X: y\rTransfer-Encoding: chunked\r\n",
        b"Foo\x00: x\r\n", b"Host: evil\r\n", b": empty\r\n", b"no colon\r\n", b"X: \x00\r\n",
    )  # fmt: skip
    for head in heads:
        # What is only an odd header is answered as such, once.
        raw = post + b"Connection: close\r\n" + head + b"\r\n" + SMUGGLED
        yield Attack(
            "smuggling",
            f"{head!r}",
            raw=raw,
            held=held,
            is_held=lambda answer: answer.statuses <= 1,
        )


def request_lines(_at: Target) -> Iterator[Attack]:
    lines = (
        b"GET  /admin/login HTTP/1.1", b"GET\t/admin/login HTTP/1.1", b"GET /admin/login",
        b"GET /admin/login HTTP/1.1 HTTP/1.1", b"\x00GET /admin HTTP/1.1", b"GET admin HTTP/1.1",
        b"GET /\x01admin HTTP/1.1", b"GET /adm\rin HTTP/1.1", b"G\xc3\x89T / HTTP/1.1",
        b"GET /%zz HTTP/1.1", b"GET /% HTTP/1.1", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\x05\x01\x00",
        b"PRI * HTTP/2.0", b"GET * HTTP/1.1", b"GET /" + b"a" * 9000 + b" HTTP/1.1",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2",
    )  # fmt: skip
    for line in lines:
        raw = line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        held = HELD_OR_CLOSED | NOT_SPOKEN
        yield Attack("request line", f"{line[:40]!r}", raw=raw, held=held)


def hosts(_at: Target) -> Iterator[Attack]:
    odd = (
        "evil.example", "localhost.evil.example", "evil.example:80", "localhost@evil.example", "",
        "localhost\\evil", "[::1", "127.0.0.1.nip.io", "localhost, evil.example", "LOCALHOST.",
        "localhost:99999999", "localhost:80@evil", "xn--80ak6aa92e.com", "%6cocalhost", "a" * 300,
    )  # fmt: skip
    for host in odd:
        # A name that is ours with a dot or a port behind is ours: nothing of it may come back.
        held = REFUSED | {200, 307}
        never = ("evil", "nip.io", ":99999999", "a" * 40, "xn--")
        headers = (f"Host: {host}",)
        yield Attack("host", host[:40], "/.well-known/oauth-authorization-server", headers=headers, held=held, never=never)  # fmt: skip
    loopback = (
        "X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: ::1, 127.0.0.1", "X-Real-IP: 127.0.0.1",
        "X-Forwarded-Host: 127.0.0.1", "Forwarded: for=127.0.0.1;host=localhost;proto=https",
        "X-Client-IP: 127.0.0.1", "True-Client-IP: 127.0.0.1", "CF-Connecting-IP: 127.0.0.1",
        "X-Forwarded: 127.0.0.1", "X-Originating-IP: 127.0.0.1", "X_Forwarded_For: 127.0.0.1",
        "X-Forwarded-For: unix:", "X-Forwarded-Prefix: /admin", "X-Forwarded-Port: 8081",
        "X-Forwarded-Proto: https", "Proxy: http://127.0.0.1", "Via: 1.1 localhost",
    )  # fmt: skip
    for header in loopback:
        for target in ("/admin/login", "/api/orders/admin/login"):
            yield Attack("forwarded", f"{header} {target}", target, headers=(header,))


def methods(at: Target) -> Iterator[Attack]:
    odd = (
        "TRACE", "TRACK", "CONNECT", "PROPFIND", "MOVE", "COPY", "PURGE", "DEBUG", "SEARCH", "get",
        "OPTIONS", "LINK", "A" * 400, "MKCOL", "LOCK", "BREW",
    )  # fmt: skip
    for method in odd:
        held = HELD_OR_CLOSED | NOT_SPOKEN
        yield Attack("method", method[:20], "/api/v1/users/me", method, held=held)
    for override in (
        "X-HTTP-Method-Override: DELETE",
        "X-Method-Override: PUT",
        "X-HTTP-Method: PATCH",
    ):
        headers = (override, f"Authorization: Bearer {at['token']}")
        yield Attack("method", override, f"/api/v1/items/{at['item_of_other']}", "POST", headers)
    upgrades = (
        ("websocket", "GET", "/api/v1/users/me"), ("websocket", "POST", "/api/v1/auth/token"),
        ("h2c", "GET", "/admin/login"), ("h2c", "GET", "/metrics"), ("websocket", "GET", "/admin/ws"),
        ("websocket", "GET", "/api/orders/admin/ws"), ("TLS/1.0", "OPTIONS", "/admin/login"),
        ("websocket, h2c", "GET", "/admin/ws"), ("WebSocket", "GET", "/metrics/ws"),
        ("websocket", "GET", "/nothing/ws"), ("HTTP/2.0", "GET", "/admin"), ("quic", "GET", "/metrics"),
    )  # fmt: skip
    for protocol, method, target in upgrades:
        asked = (
            "Connection: Upgrade, HTTP2-Settings, close", f"Upgrade: {protocol}",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )  # fmt: skip
        yield Attack("upgrade", f"{protocol} {method} {target}", target, method, asked)


GROUPS = (paths, smuggling, request_lines, hosts, methods)
