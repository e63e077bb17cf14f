"""Writes the secrets of compose.yaml, random, and keeps every one that exists; run it once."""

import secrets
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"
RANDOM_BYTES = 48


def main() -> None:
    # The folder keeps people out; containers see single files, as users the host does not know.
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    FOLDER.chmod(0o700)
    password = write("postgres_password", secrets.token_urlsafe(RANDOM_BYTES))
    write("secret_key", secrets.token_urlsafe(RANDOM_BYTES))
    for host, port in (("postgres", 5432), ("pgbouncer", 6432)):
        address = f"postgresql://service:{password}@{host}:{port}/service"
        write(f"database_url_{host}", address)
    write("pgbouncer_users", f'"service" "{password}"\n')
    # A second line of defence to the service's .gitignore.
    write(".gitignore", "*\n")


def write(name: str, value: str) -> str:
    file = FOLDER / name
    if not file.exists():
        file.write_text(value, encoding="utf-8")
        file.chmod(0o444)
    return file.read_text(encoding="utf-8").strip()


if __name__ == "__main__":
    main()
