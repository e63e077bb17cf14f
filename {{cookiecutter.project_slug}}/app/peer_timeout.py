"""Notices on both sides that the other host is gone: TCP sends nothing while nobody writes."""

import asyncio
import socket

from sqlalchemy.engine.interfaces import DBAPIConnection


def peer_settings(timeout_seconds: int) -> dict[str, str]:
    """PostgreSQL's side: a worker that is cut off holds its locks no longer than this.

    https://www.postgresql.org/docs/current/runtime-config-connection.html
    """
    return {
        "tcp_user_timeout": str(timeout_seconds * 1000),
        **{f"tcp_{name}": str(number) for name, number in _keepalive(timeout_seconds).items()},
    }


def _keepalive(timeout_seconds: int) -> dict[str, int]:
    """The first question after half of the time, then two more."""
    interval = timeout_seconds // 4
    return {
        "keepalives_idle": timeout_seconds - 2 * interval,
        "keepalives_interval": interval,
        "keepalives_count": 2,
    }


def watch_peer(connection: DBAPIConnection, _record: object, *, timeout_seconds: int) -> None:
    # The driver has no option for it.
    transport: asyncio.Transport = connection.driver_connection._transport
    peer: socket.socket = transport.get_extra_info("socket")
    if peer.family == socket.AF_UNIX or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    keepalive = _keepalive(timeout_seconds)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, keepalive["keepalives_idle"]),
        (socket.TCP_KEEPINTVL, keepalive["keepalives_interval"]),
        (socket.TCP_KEEPCNT, keepalive["keepalives_count"]),
        (socket.TCP_USER_TIMEOUT, timeout_seconds * 1000),
    ):
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
