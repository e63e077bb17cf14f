"""TLS as deploy/nginx/site-tls configures it: HTTP/2, names, redirects."""

import socket
import ssl
import struct
from collections.abc import Iterator

import pytest
from httpx2 import Client

from tests.edge import assert_is_problem, running_application
from tests.tls import running_tls, unverified

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of http and https."""
    with (
        running_application() as app_port,
        running_tls(tmp_path_factory.mktemp("nginx"), app_port) as ports,
    ):
        yield ports


def handshake(port: int, name: str, protocol: ssl.TLSVersion) -> str | None:
    context = unverified()
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = protocol
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.selected_alpn_protocol()


@pytest.mark.parametrize("protocol", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_http2_is_agreed_on(ports: tuple[int, int], protocol: ssl.TLSVersion) -> None:
    assert handshake(ports[1], "localhost", protocol) == "h2"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def ask_over_http2(port: int, path: str) -> int:
    """A status of HPACK's static table, for no library sends such a path. RFC 9113, RFC 7541."""
    context = unverified()
    context.set_alpn_protocols(["h2"])
    fields = [(b"\x01", f"localhost:{port}"), (b"\x04", path)]
    block = b"\x82\x87" + b"".join(
        name + bytes([len(value)]) + value.encode() for name, value in fields
    )
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        connection.sendall(preface + frame(4, 0, 0) + frame(1, 5, 1, block))
        answer = connection.makefile("rb")
        while (head := answer.read(9))[3] != 1:
            answer.read(int.from_bytes(head[:3], "big"))
        return {0x88: 200, 0x8C: 400, 0x8D: 404}[answer.read(1)[0]]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/orders/admin/login", 404),
        ("/api/orders/x/..//admin", 404),
        ("/x%0a/admin/login", 400),
        ("/metrics%0a", 400),
        ("/api/orders/metrics", 404),
        ("//metrics", 404),
    ],
)
def test_path_is_closed_over_http2_too(ports: tuple[int, int], path: str, status: int) -> None:
    # What gets past nginx's rules is a 200 of the application.
    assert ask_over_http2(ports[1], path) == status


def test_handshake_is_refused_when_the_name_is_unknown(ports: tuple[int, int]) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized"):
        handshake(ports[1], "evil.example", ssl.TLSVersion.TLSv1_3)


def test_strict_transport_security_is_sent_over_https_only(ports: tuple[int, int]) -> None:
    with Client(verify=unverified()) as client:
        secured = client.get(f"https://localhost:{ports[1]}/")
        assert secured.headers["strict-transport-security"] == "max-age=31536000"
        plain = client.get(f"http://localhost:{ports[0]}/")
        assert "strict-transport-security" not in plain.headers


def test_http_is_sent_to_https(ports: tuple[int, int]) -> None:
    with Client() as client:
        response = client.post(f"http://localhost:{ports[0]}/a?b=c")
        assert (response.status_code, response.headers["location"]) == (
            308,
            "https://localhost/a?b=c",
        )
        unknown = client.get(f"http://localhost:{ports[0]}/", headers={"Host": "evil.example"})
        assert_is_problem(unknown, 421)
