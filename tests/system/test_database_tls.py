"""DATABASE_URL as libpq has it: with verify-full the certificate must be that of the host."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Bake
from tests.system.database import run_in, running_postgres

SWITCH_ON = """
import asyncio, asyncpg, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    await connection.execute("ALTER SYSTEM SET ssl = on")
    await connection.execute("SELECT pg_reload_conf()")
asyncio.run(main())
"""
ASK = """
import asyncio, sys
from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from app.database import Address
from app.settings import DatabaseUrl
async def main():
    address = Address.of(TypeAdapter(DatabaseUrl).validate_python(sys.argv[1]))
    engine = create_async_engine(address.url, connect_args=address.tls)
    try:
        async with engine.connect() as connection:
            own = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            print(await connection.scalar(text(own)))
    except Exception as error:
        print(type(error).__name__)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def project(bake_once: Bake) -> Path:
    return bake_once("tls")


@pytest.fixture(scope="module")
def address(project: Path, uv: str) -> Iterator[str]:
    """Of a server whose certificate says `localhost`."""
    with running_postgres(project, uv) as url:
        data = project / ".local/postgres/data"
        files = ["-keyout", data / "server.key", "-out", data / "server.crt"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *map(str, files)],
            check=True,
            capture_output=True,
        )
        owner = data.stat()
        for name in ("server.key", "server.crt"):
            os.chown(data / name, owner.st_uid, owner.st_gid)
        (data / "server.key").chmod(0o600)
        plain = url.replace("+asyncpg", "")
        run_in(project, uv, "python", "-c", SWITCH_ON, plain)
        yield plain


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("localhost?sslmode=verify-full&sslrootcert={file}", "True"),
        ("127.0.0.1?sslmode=verify-full&sslrootcert={file}", "SSLCertVerificationError"),
        ("127.0.0.1?sslmode=verify-ca&sslrootcert={file}", "True"),
        ("localhost?sslmode=verify-full", "SSLCertVerificationError"),
        ("127.0.0.1?sslmode=require", "True"),
        ("127.0.0.1?sslmode=disable", "False"),
    ],
)
def test_connection_is_made_when_the_certificate_is_as_asked(
    project: Path, uv: str, address: str, asked: str, answer: str
) -> None:
    host, _, query = asked.format(file=project / ".local/postgres/data/server.crt").partition("?")
    url = f"{address.replace('127.0.0.1', host)}?{query}"
    assert run_in(project, uv, "python", "-c", ASK, url) == answer
