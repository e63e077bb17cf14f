"""The ports of this machine: APP_PORT (gunicorn), HTTP_PORT (nginx), and free ones."""

import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress

from development import DevelopmentError

# Below those that systems give to outgoing connections: Linux from 32768, others from 49152.
# https://docs.kernel.org/networking/ip-sysctl.html (ip_local_port_range)
_LISTENING_PORTS = range(20_000, 32_768)


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
                raise DevelopmentError(
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


def free_port() -> int:
    """One that no outgoing connection takes before somebody listens there."""
    for port in secrets.SystemRandom().sample(_LISTENING_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise DevelopmentError("None of 100 ports from 20000 to 32767 is free: end what listens there.")
