"""What the server is told at each start: its port and settings, in one file in the data folder.

Next hop: development/postgres_process.py.
"""

import re
from contextlib import suppress
from pathlib import Path

from development.postgres_account import Account, write_private

FILE = "development.conf"

SETTINGS = """\
listen_addresses = '127.0.0.1'
# No socket file: its path would have to stay below 108 bytes.
unix_socket_directories = ''
# Workers with their pools, their successors during a reload, tests beside them. Default: 100.
max_connections = 100
# A commit does not wait for the disk: a crash of the machine loses at most the last 0.6 s and,
# unlike with fsync = off, damages nothing. Default: on.
# https://www.postgresql.org/docs/current/wal-async-commit.html
synchronous_commit = off
"""


def write(data: Path, port: int, account: Account) -> None:
    write_private(data / FILE, f"port = {port}\n{SETTINGS}", account)


def read_port(data: Path) -> int:
    """0 before the first start."""
    with suppress(FileNotFoundError):
        port = re.match(r"port = (\d+)\n", (data / FILE).read_text("utf-8"))
        return int(port[1]) if port else 0
    return 0
