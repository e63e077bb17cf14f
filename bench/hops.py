"""The processes on the way of a request besides the server: nginx, PgBouncer, a slower network."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from development import nginx, ports

HERE = Path(__file__).resolve().parent
# Of a round trip: another machine of the same data centre, or another zone.
NETWORK_SECONDS = 0.001
# A key as certificates have them now; RSA costs several times as much.
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    " -subj /CN=localhost -keyout key.pem -out certificate.pem"
)
TLS_LISTEN = """\
listen 127.0.0.1:{port} ssl;
ssl_certificate certificate.pem;
ssl_certificate_key key.pem;
"""
PGBOUNCER = """\
[databases]
* = host={host} port={database_port} {login}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
"""


@dataclass(frozen=True)
class Hop:
    name: str
    command: Sequence[str]
    folder: Path
    stop_signal: signal.Signals = signal.SIGTERM
    # Its CPU is part of what a request costs.
    counts: bool = True


def before_server(folder: Path, port: int, tls_port: int, bind: str, way: str) -> Hop:
    """The nginx of the service, but for what `way` asks."""
    nginx.prepare(folder, port, 0)
    (folder / "site" / "upstream.conf").write_text(f"server {bind};\n")
    if "close" in way:
        proxy = folder / "http" / "proxy.conf"
        text = proxy.read_text()
        changed = re.sub(r"^ +keepalive.*\n", "", text, flags=re.MULTILINE)
        proxy.write_text(changed.replace("Connection $connection_upgrade", "Connection close"))
    if "tls" in way:
        subprocess.run(CERTIFICATE.split(), cwd=folder, check=True, capture_output=True)
        with (folder / "site" / "listen.conf").open("a") as listen:
            listen.write(TLS_LISTEN.format(port=tls_port))
    return Hop("nginx", nginx.command(nginx.find_binary(), folder), folder, signal.SIGQUIT)


def before_database(what: str, folder: Path, database_url: str) -> tuple[Hop, str]:
    """And the address that leads through it."""
    database, port = urlsplit(database_url), ports.free_port()
    login, _, _ = database.netloc.rpartition("@")
    through = database._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()
    make = {"pgbouncer": start_pgbouncer, "network": start_network}[what]
    return make(folder, port, database), through


def start_network(folder: Path, port: int, database: SplitResult) -> Hop:
    arguments = map(str, (port, database.port, NETWORK_SECONDS))
    command = [sys.executable, str(HERE / "relay.py"), *arguments]
    # A real one costs this machine nothing.
    return Hop("network", command, folder, counts=False)


def start_pgbouncer(folder: Path, port: int, database: SplitResult) -> Hop:
    # Debian keeps it in sbin, which is not on a user's PATH.
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        raise SystemExit("PgBouncer is not installed: apt-get install pgbouncer.")
    login = f"user={database.username}"
    if database.password:
        login += f" password={unquote(database.password)}"
    file = folder / "pgbouncer.ini"
    values = {"host": database.hostname, "database_port": database.port, "port": port}
    file.write_text(PGBOUNCER.format(**values, login=login))
    # It refuses to run as root.
    user = ["--user", "nobody"] if os.geteuid() == 0 else []
    return Hop("PgBouncer", [binary, "--quiet", *user, str(file)], folder)
