"""deploy/nginx/site-tls as it is shipped: only ports and the certificate are replaced."""

import datetime
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from httpx2 import Client
from websockets.sync.client import connect

from development import nginx
from development.ports import free_port
from tests.edge import assert_is_problem, running_application
from tests.servers import find_binary, running_nginx

pytestmark = pytest.mark.system

SITE = nginx.SOURCE / "site-tls"
# The first version that knows `http2 on;`.
HTTP2_DIRECTIVE = (1, 25, 1)


def version() -> tuple[int, ...]:
    printed = subprocess.run(
        [find_binary("nginx"), "-v"], capture_output=True, text=True, check=True
    )
    return tuple(int(part) for part in re.findall(r"nginx/([\d.]+)", printed.stderr)[0].split("."))


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(secret)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of http and https."""
    folder, http, https = tmp_path_factory.mktemp("nginx"), free_port(), free_port()
    app_port = free_port()
    nginx.prepare(folder, http, app_port)
    listen = "listen.conf" if version() >= HTTP2_DIRECTIVE else "listen.nginx-1.24.conf"
    for name in (listen, "listen_default.conf", "redirect.conf"):
        text = (SITE / name).read_text()
        text = text.replace("listen 80", f"listen 127.0.0.1:{http}")
        text = text.replace("listen 443", f"listen 127.0.0.1:{https}")
        (folder / "site" / name.replace(".nginx-1.24", "")).write_text(text)
    certificate = (SITE / "certificate.conf").read_text()
    certificate = certificate.replace("/etc/nginx/tls/fullchain.pem", "certificate.pem")
    certificate = certificate.replace("/etc/nginx/tls/privkey.pem", "key.pem")
    (folder / "site" / "certificate.conf").write_text(certificate)
    write_certificate(folder)
    with running_application(app_port), running_nginx(folder, https):
        yield http, https


def handshake(port: int, name: str, protocol: ssl.TLSVersion) -> str | None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
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


def test_event_arrives_over_http2_while_the_stream_is_open(ports: tuple[int, int]) -> None:
    curl = [find_binary("curl"), "--http2", "--insecure", "--include", "--no-buffer", "--silent"]
    url = f"https://localhost:{ports[1]}/api/v1/events"
    with subprocess.Popen([*curl, "--max-time", "20", url], stdout=subprocess.PIPE) as stream:
        assert stream.stdout
        lines = iter(stream.stdout.readline, b"")
        assert next(lines).startswith(b"HTTP/2 200")
        assert next(line for line in lines if line.startswith(b"{"))
        assert stream.poll() is None
        stream.kill()


def test_websocket_is_passed_on_over_tls(ports: tuple[int, int]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"wss://localhost:{ports[1]}/api/v1/events/ws"
    with connect(url, ssl=context, open_timeout=5) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=5) == "hello"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def ask_over_http2(port: int, path: str) -> int:
    """A status of HPACK's static table, for no library sends such a path. RFC 9113, RFC 7541."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
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
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Client(verify=context) as client:
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
