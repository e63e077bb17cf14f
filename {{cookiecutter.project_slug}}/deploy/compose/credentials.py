"""Writes .env and the secrets of compose.yaml, random, and keeps every one that exists."""

import re
import secrets
import zlib
from pathlib import Path

COMPOSE = Path(__file__).resolve().parent
FOLDER = COMPOSE / "secrets"
RANDOM_BYTES = 48


def main() -> None:
    # The folder keeps people out; containers see single files, as users the host does not know.
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    FOLDER.chmod(0o700)
    # A second line of defence to the service's .gitignore.
    write(".gitignore", "*\n")
    write("secret_key", secrets.token_urlsafe(RANDOM_BYTES))
    write("postgres_password", secrets.token_urlsafe(RANDOM_BYTES))
    owner = write("owner_password", secrets.token_urlsafe(RANDOM_BYTES))
    service = write("service_password", secrets.token_urlsafe(RANDOM_BYTES))
    write("database_owner_url", f"postgresql://service_owner:{owner}@postgres:5432/service")
    for host, port in (("postgres", 5432), ("pgbouncer", 6432)):
        write(f"database_url_{host}", f"postgresql://service:{service}@{host}:{port}/service")
    write("pgbouncer_users", f'"service" "{service}"\n')
    write_settings(COMPOSE / ".env")


def write(name: str, value: str) -> str:
    file = FOLDER / name
    if not file.exists():
        file.write_text(value, encoding="utf-8")
        file.chmod(0o444)
    return file.read_text(encoding="utf-8").strip()


def write_settings(file: Path) -> None:
    if file.exists():
        return
    text = file.with_name(".env.example").read_text(encoding="utf-8")
    # Another network for every name; `docker compose up` says so in the rare case of two alike.
    [name] = re.findall(r"^name: (.+)$", (COMPOSE / "compose.yaml").read_text("utf-8"), re.M)
    network = f"172.30.{zlib.crc32(name.encode()) % 256}"
    text = re.sub(r"^# EDGE_NETWORK=.*$", f"EDGE_NETWORK={network}", text, flags=re.M)
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
