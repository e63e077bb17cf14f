"""The two ports of this machine: APP_PORT (gunicorn) and HTTP_PORT (nginx)."""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from dotenv import dotenv_values

_PORT_MAX = 65_535


class PortError(Exception):
    """One sentence that says what is wrong and what would be right."""


def read_environment(root: Path) -> dict[str, str]:
    """As the settings see it: the environment wins over `.env`, and empty is not set."""
    in_file = {name: value for name, value in dotenv_values(root / ".env").items() if value}
    return {**in_file, **{name: value for name, value in os.environ.items() if value}}


def read_port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isdecimal() and 1 <= int(text) <= _PORT_MAX):
        raise PortError(f"{name} is {text!r}: it must be a number from 1 to {_PORT_MAX}.")
    return int(text)


def check_free(name: str, port: int, hosts: Sequence[str]) -> None:
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            # Connections of the last run that are still in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), port))
                probe.listen()
            except OSError as error:
                raise PortError(
                    f"Port {port} of {host} cannot be used ({error.strerror}):"
                    f" stop what listens there or set {name} to a free port."
                ) from error


def loopback_hosts() -> list[str]:
    """Browsers try ::1 first for localhost, where the machine has it."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "[::1]"]
