"""Ports for the servers that tests start."""

import secrets
import socket
from contextlib import suppress

# Below those that systems give to outgoing connections: Linux from 32768, others from 49152.
LISTENING_PORTS = range(20_000, 32_768)


def free_port() -> int:
    """One that no outgoing connection takes before somebody listens there."""
    for port in secrets.SystemRandom().sample(LISTENING_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise AssertionError("none of 100 ports is free")
