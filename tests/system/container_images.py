"""The images that Dockerfile, Compose and Kubernetes name, made without a registry."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.system.archives import archive
from tests.system.image import CA_BUNDLE

# That of PgBouncer is made from it and installs the package itself.
DEBIAN = "docker.io/library/debian:trixie-slim"
PYTHON = "docker.io/library/python:3.13-slim-trixie"
NGINX = "docker.io/library/nginx:1.30"
POSTGRES = "docker.io/library/postgres:18-trixie"

PYTHON_PACKAGES = ("ca-certificates", "python-is-python3", "python3", "python3-venv")
# One for both: each release that is fetched takes about 40 s.
SERVER_PACKAGES = ("curl", "nginx-light", "postgresql-18")
# A proxy before the package index may have a certificate that only this machine knows.
_PYTHON_IMAGE = f"""
FROM {DEBIAN}
COPY ca.crt {CA_BUNDLE}
ENV PIP_CERT={CA_BUNDLE} SSL_CERT_FILE={CA_BUNDLE}
"""
# User, folder and entrypoint of the official image, as far as compose.yaml makes use of them.
_POSTGRES_IMAGE = f"""
FROM {NGINX}
RUN groupmod --non-unique --gid 999 postgres && usermod --non-unique --uid 999 --gid 999 postgres \\
    && rm -rf /var/lib/postgresql/* && mkdir --parents /run/postgresql \\
    && chown -R 999:999 /var/lib/postgresql /run/postgresql
COPY entrypoint.sh /
ENV PATH=/usr/lib/postgresql/18/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/18/docker
VOLUME /var/lib/postgresql
ENTRYPOINT ["sh", "/entrypoint.sh"]
"""
_POSTGRES_ENTRYPOINT = """
set -eu
[ -s "$PGDATA/PG_VERSION" ] || {
    initdb --username="${POSTGRES_USER:-postgres}" --pwfile="$POSTGRES_PASSWORD_FILE" \\
        $POSTGRES_INITDB_ARGS >/dev/null
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
}
exec "$@"
"""


# As the official images have it; one that was imported has none.
ENVIRONMENT = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Builder(Protocol):
    def import_image(self, file: Path, name: str) -> None: ...

    def build_image(self, name: str, dockerfile: str, **files: str) -> None: ...


def make_images(builder: Builder, require: Callable[[str], str]) -> None:
    builder.import_image(archive(require, "forky", SERVER_PACKAGES), NGINX)
    builder.build_image(POSTGRES, _POSTGRES_IMAGE, entrypoint_sh=_POSTGRES_ENTRYPOINT)
    builder.import_image(archive(require, "trixie", PYTHON_PACKAGES), DEBIAN)
    builder.build_image(PYTHON, _PYTHON_IMAGE, ca_crt=CA_BUNDLE.read_text())


def write_context(folder: Path, dockerfile: str, files: dict[str, str]) -> Path:
    """`ca_crt` becomes `ca.crt`."""
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder
