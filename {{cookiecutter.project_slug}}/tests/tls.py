"""nginx with deploy/nginx/site-tls as it is shipped: only ports and certificate are replaced."""

import datetime
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from development import nginx
from development.ports import free_port
from tests.servers import find_binary, running_nginx

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


@contextmanager
def running_tls(folder: Path, app_port: int) -> Iterator[tuple[int, int]]:
    """The ports of http and https."""
    http, https = free_port(), free_port()
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
    with running_nginx(folder, https):
        yield http, https


def unverified() -> ssl.SSLContext:
    """For a client that takes that certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
