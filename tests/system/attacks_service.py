"""Attacks on the service itself: tokens, OAuth, bodies, lists, the admin app, values in fields."""

import base64
import json
from collections.abc import Iterator

from tests.system.attack import FORM, REFUSED, Attack, Target, form

JSON = "Content-Type: application/json"
FORM_HEADER = f"Content-Type: {FORM}"
ITEMS, TOKEN = "/api/v1/items", "/api/v1/auth/token"


def _segment(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def tokens(at: Target) -> Iterator[Attack]:
    head, payload, signature = at["token"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    heads: tuple[object, ...] = (
        {"alg": "nOnE"}, {"alg": "HS512"}, {"alg": ["HS256"]}, {"alg": None}, {"typ": "JWE"}, [], "x",
        {"alg": "HS256", "kid": None}, {"alg": "HS256", "kid": "secret-key", "b64": False, "crit": ["b64"]},
        {"alg": "HS256", "x5u": "http://127.0.0.1/"}, {"alg": "HS256", "zip": "DEF"}, {"alg": ""},
        {"alg": "dir", "enc": "A256GCM"}, {"alg": "PS256"}, {"alg": "HS256", "cty": "JWT"},
    )  # fmt: skip
    bearers = [f"{_segment(odd)}.{payload}.{signature}" for odd in heads]
    bearers += [f"{_segment(odd)}.{payload}." for odd in heads[:4]]
    changes: tuple[dict[str, object], ...] = (
        {"sub": at["other_id"]}, {"scope": "account admin items:read items:write"}, {"exp": 9e18},
        {"aud": ["service", "x"]}, {"sid": at["other_id"]}, {"typ": "refresh"},
    )  # fmt: skip
    bearers += [f"{head}.{_segment(claims | change)}.{signature}" for change in changes]
    bearers += [
        at["refresh"], f"{at['token']}.x.y", f"{at['token']}=", f" {at['token']} x", "null", "undefined",
        "[object Object]", "..", f"{head}..{signature}", f"{head}.{payload}.{signature[:-4]}AAAA", "\u202e" * 9,
    ]  # fmt: skip
    for bearer in bearers:
        headers = (f"Authorization: Bearer {bearer}",)
        yield Attack("token", bearer[:40], "/api/v1/users/me", headers=headers)
    elsewhere = (
        f"Authorization: Basic {at['token']}", f"Cookie: access_token={at['token']}",
        f"Authorization: Token {at['token']}", f"X-Access-Token: {at['token']}",
        f"Proxy-Authorization: Bearer {at['token']}", f"Authorization: {at['token']}",
        f"Authorization: Bearer,{at['token']}", f"Cookie: admin_session={at['token']}",
    )  # fmt: skip
    for header in elsewhere:
        yield Attack("token", header[:40], "/api/v1/users/me", headers=(header,))
    for name in ("access_token", "token", "authorization"):
        yield Attack("token", f"query {name}", f"/api/v1/users/me?{name}={at['token']}")


def grants(at: Target) -> Iterator[Attack]:
    login = {"username": at["email"], "password": "wrong"}
    grants = (
        "authorization_code", "client_credentials", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange", "Password", " password", "password\x00", "refresh", "*",
    )  # fmt: skip
    forms = [form(**login, grant_type=grant, code="x", assertion="x") for grant in grants]
    forms += [form(grant_type="refresh_token", refresh_token=text) for text in
              (at["token"], "", "x" * 9000, "\x00", "' OR 1=1 --", "../../etc/passwd", "\u0661" * 43)]  # fmt: skip
    forms += [
        form(**login) + b"&username=" + at["email"].encode(), form(**login) + b"&grant_type=password&grant_type=x",
        b"username[]=x&password[]=y", b"username=%ff&password=%fe", b"username=a&username=b", b"=&=&=",
        b"&" * 5000, b"%", form(username=at["email"], password="x" * 100_000), form(password="x"),
        form(username="{$ne: 1}", password="{$ne: 1}"), form(username="*)(uid=*", password="x"),
        form(username=at["email"] + "\n", password="wrong"), form(**login, scope="admin " * 2000),
        form(**login, client_id="admin", client_secret="' OR ''='"), form(**login, redirect_uri="http://evil"),
        form(username=at["admin_email"], password=""), form(username=at["admin_email"], password="\x00"),
    ]  # fmt: skip
    never = ('"access_token"',)
    for body in forms:
        what = body[:60].decode("latin-1")
        yield Attack("OAuth", what, TOKEN, "POST", (FORM_HEADER,), body, never=never)


def oauth(at: Target) -> Iterator[Attack]:
    """Beside the grants: media types, addresses that do not exist, revocation."""
    never = ('"access_token"',)
    types = (
        "application/json",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"{FORM}; charset=utf-16",
    )
    for media_type in types:
        headers = (f"Content-Type: {media_type}",)
        yield Attack("OAuth", media_type, TOKEN, "POST", headers, b'{"username":"x"}', never=never)
    for target in (
        f"{TOKEN}?username=x&password=y",
        f"{TOKEN}/",
        "/api/v1/auth/authorize",
        "/api/v1/auth/introspect",
    ):
        yield Attack("OAuth", target, target, never=never)
    for path in ("x", "../x", "%2e%2e", "shop%0a", "a" * 3000):
        target = f"/.well-known/oauth-authorization-server/{path}"
        yield Attack("OAuth", target[:70], target, never=("token_endpoint",))
    for token in (at["refresh_of_other"][:-1], at["other_id"], at["token"][:-9], "*", "%"):
        # 200 for what nobody knows: what counts is that the sessions are alive afterwards.
        body = form(token=token, token_type_hint="refresh_token")
        yield Attack("OAuth", f"revoke {token[:20]}", "/api/v1/auth/revoke", "POST", (FORM_HEADER,), body, held=REFUSED | {200})  # fmt: skip


def bodies(at: Target) -> Iterator[Attack]:
    headers = (JSON, f"Authorization: Bearer {at['token']}")
    raws = (
        b"", b"null", b"[]", b'"x"', b"1", b"{", b"}", b"{}}", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
        b'{"title":1}', b'{"title":null}', b'{"title":["x"]}', b'{"title":{"x":1}}', b'{"title":true}',
        b'{"title":"\\u0000"}', b'{"title":"\\ud800"}', b'{"title":"\xff"}', b'{"title":""}', b'{"title":"  "}',
        b'{"title":"x","id":1}', b'{"title":"x","owner_id":"x"}', b'{"title":"x","__proto__":{}}',
        b'{"title":"x","price":1e400}', b'{"title":"x","price":-1}', b'{"title":"x","price":1e-400}',
        b'{"title":"x","price":"NaN"}', b'{"title":"x","price":"1e9999999"}', b'{"title":"x","price":99999999999999999999}',
        b'{"title":"x","due_on":"9999-99-99"}', b'{"title":"x","due_on":"0000-01-01"}', b'{"title":"x","due_on":1e30}',
        b'{"title":"x","tags":"x"}', b'{"title":"x","tags":[1]}', b'{"title":"x","tags":["\\u0000"]}',
        b'{"title":"x","status":"admin"}', b'{"title":"x","created_at":"now"}', b"[" * 50_000,
        b'{"title":"' + b"x" * 5000 + b'"}', b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"title":"x"' + b',"y":1' * 9000 + b"}",
        b'{"title":"x","price":' + b"9" * 50_000 + b"}",
    )  # fmt: skip
    for raw in raws:
        # The parser of JSON reads it as 0, which is a price.
        held = REFUSED | ({201} if b"1e-400" in raw else set())
        yield Attack("body", raw[:50].decode("latin-1"), ITEMS, "POST", headers, raw, held=held)
    for encoding in ("gzip", "br", "deflate", "zstd", "compress", "identity, gzip"):
        more = (*headers, f"Content-Encoding: {encoding}")
        yield Attack("body", f"encoded {encoding}", ITEMS, "POST", more, b"\x1f\x8b\x08\x00 zip")
    for media_type in (
        "text/plain",
        "application/xml",
        "application/x-yaml",
        "image/svg+xml",
        "application/json5",
    ):
        other = (f"Content-Type: {media_type}", headers[1])
        body = b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>'
        yield Attack("body", media_type, ITEMS, "POST", other, body)


def lists(at: Target) -> Iterator[Attack]:
    bearer = (f"Authorization: Bearer {at['token']}",)
    cursors = (
        "", "A" * 22, "A" * 21, "A" * 23, "-" * 22, "%00" * 22, "=" * 22, "../" * 7, "' OR 1=1 --", "*",
        at["item_of_other"], "\u0661" * 22, "A" * 8000, "AAAAAAAAAAAAAAAAAAAAA!", "A%0a", "[object]",
    )  # fmt: skip
    for cursor in cursors:
        # A cursor that could be one leads to the attacker's own items, and they are nobody else's.
        held = REFUSED | {200}
        never = (at["title_of_other"],)
        yield Attack("list", f"cursor {cursor[:30]}", f"{ITEMS}?cursor={cursor.replace(' ', '+')}", headers=bearer, held=held, never=never)  # fmt: skip
    for limit in (
        "0",
        "-1",
        "101",
        "1e2",
        "9" * 400,
        "0x10",
        "NaN",
        "true",
        "1.5",
        "%00",
        "\u0665",
    ):
        yield Attack("list", f"limit {limit[:20]}", f"{ITEMS}?limit={limit}", headers=bearer)
    odd_ids = ("0", "-1", "null", "%00", "..%2f", "x" * 5000, at["item_of_other"], at["item_of_other"].upper(), "{" + at["item_of_other"] + "}", "urn:uuid:" + at["item_of_other"], "0" * 32, "*")  # fmt: skip
    for odd in odd_ids:
        for method in ("GET", "DELETE", "PATCH"):
            headers = (*bearer, JSON)
            body = b'{"title":"mine"}' if method == "PATCH" else b""
            yield Attack("list", f"{method} {odd[:30]}", f"{ITEMS}/{odd}", method, headers, body, never=(at["title_of_other"],))  # fmt: skip


def cors(at: Target) -> Iterator[Attack]:
    origins = ("null", "https://evil.example", "http://localhost.evil.example", "https://app.example.com.evil.example", "https://app.example.com@evil", "file://", "*", "https://APP.example.com", "https://app.example.com:444", "http://app.example.com")  # fmt: skip
    for origin in origins:
        for method in ("GET", "OPTIONS"):
            headers = (f"Origin: {origin}", "Access-Control-Request-Method: DELETE", f"Authorization: Bearer {at['token']}")  # fmt: skip
            held = REFUSED | {200}
            yield Attack("CORS", f"{method} {origin}", "/api/v1/users/me", method, headers, held=held, never=("access-control-allow-origin", "Access-Control-Allow-Origin"))  # fmt: skip


def admin(at: Target) -> Iterator[Attack]:
    """Through the door of the machine itself, which knows /admin: with a password, and no code."""
    own = f"Origin: http://localhost:{at.local_port}"
    cookie = f"Cookie: __Secure-admin_session={at['half_login']}"
    held = REFUSED | {302, 303}
    inside = ("Newest changes", 'id="content"', "argon2")
    pages = ("", "user/list", "user/create", "session/list", "audit-entry/list", "second-factor", "user/export/csv", "item/list?search=%25", f"user/details/{at['other_id']}", f"user/action/make-admin?pks={at['other_id']}", "user/list?sortBy=password_hash", "assets/../../settings.py")  # fmt: skip
    for page in pages:
        yield Attack("admin", f"half a login, {page}", f"/admin/{page}", headers=(cookie,), held=held, never=inside, door="local")  # fmt: skip
    codes = ("", "000000", "123456", "0", "-00001", "+12345", "1e5", "12345\u0661", "\uff11" * 6, "000000\n", "0" * 5000, "null", "a" * 16, "\x00" * 6, "1 2 3 4 5 6", "aaaa-aaaa-aaaa-aaaa")  # fmt: skip
    for code in codes:
        body = form(code=code)
        headers = (cookie, own, FORM_HEADER)
        yield Attack("second factor", f"code {code[:20]!r}", "/admin/login/code", "POST", headers, body, held=held, never=inside, door="local")  # fmt: skip
    for path in ("login/code", "login/set-up", "second-factor", "login", "logout", "user/create", f"user/action/make-admin?pks={at['other_id']}"):  # fmt: skip
        for site in ("Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "X: none"):  # fmt: skip
            body = form(code="000000", username=at["admin_email"], password="x")
            yield Attack("CSRF", f"{path} {site}", f"/admin/{path}", "POST", (cookie, site, FORM_HEADER), body, door="local", never=inside)  # fmt: skip
    cookies = ("x", "e30=", f"{at['half_login']}x", at["half_login"].rsplit(".", 1)[0] + ".AAAA", _segment({"session_id": at["other_id"], "user_id": at["other_id"]}), at["token"], "%00", "A" * 5000)  # fmt: skip
    for value in cookies:
        for name in ("__Secure-admin_session", "admin_session"):
            sent = (f"Cookie: {name}={value}",)
            yield Attack("cookie", f"{name} {value[:20]}", "/admin/user/list", headers=sent, held=held, never=inside, door="local")  # fmt: skip


def values(at: Target) -> Iterator[Attack]:
    """They are stored, and must be text wherever they come out: the file of an export is looked at."""
    headers = (JSON, f"Authorization: Bearer {at['token']}")
    texts = (
        "=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "=HYPERLINK(\"http://evil\")", "=cmd|'/c calc'!A0", "%0A=1",
        "\uff1d1+1", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "gopher://127.0.0.1:5432/_x",
        "<script>alert(1)</script>", "{{7*7}}", "${7*7}", "'; DROP TABLE item; --", "../../../../etc/passwd",
        "\u202egnp.exe", "a\u0301" * 50, "javascript:alert(1)",
    )  # fmt: skip
    for text in texts:
        body = json.dumps({"title": text}).encode()
        yield Attack("value", text[:40], ITEMS, "POST", headers, body, held=frozenset({201, 422}))


GROUPS = (tokens, grants, oauth, bodies, lists, cors, admin, values)
