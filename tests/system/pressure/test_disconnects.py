"""500 clients that leave in mid-request take no connection to the database with them."""

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from tests.servers import wait_until
from tests.system.load import Target
from tests.system.pressure.answers import ask_at_once, percentile_ms, statuses
from tests.system.pressure.parts import lock, query
from tests.system.processes import children, master_pid
from tests.system.stack import Stack

pytestmark = pytest.mark.alone

Record = Callable[[str, object], None]

POOL_SIZE = 2
WORKERS = 2
# Leaving sends RST, as a client that crashes or a phone that loses its network.
ABORT = struct.pack("ii", 1, 0)
OF_SERVICE = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'my-service:%'"


def test_connections_come_back_when_500_clients_leave_in_mid_request(
    frugal_stack: Stack, frugal_target: Target, record_property: Record
) -> None:
    with lock(frugal_stack, "item"):
        clients = _send(frugal_stack, frugal_target)
        waiting = f"{OF_SERVICE} AND wait_event_type = 'Lock'"
        wait_until(
            lambda: query(frugal_stack, waiting) == POOL_SIZE * WORKERS, "all slots are taken"
        )
        for client in clients:
            client.close()
        # Some wait for a slot and some for the lock, both in vain and for nobody.
        wait_until(lambda: query(frugal_stack, waiting) == 0, "nobody waits for the lock")
    answers = asyncio.run(ask_at_once(frugal_target.port, 16, 1, frugal_target.request))
    assert set(statuses(answers)) == {200, 201}
    record_property("slowest request after 500 disconnects, ms", percentile_ms(answers, 1))
    busy = f"{OF_SERVICE} AND state <> 'idle'"
    wait_until(lambda: query(frugal_stack, busy) == 0, "the service is idle")
    wait_until(lambda: len(children(master_pid(frugal_stack))) == WORKERS, "two workers")
    # Each worker has one more, on which it hears of events.
    assert 0 < query(frugal_stack, OF_SERVICE) <= (POOL_SIZE + 1) * WORKERS


def _send(stack: Stack, target: Target) -> list[socket.socket]:
    """Through nginx a whole request; to gunicorn itself a whole one or half of its body."""
    app_port = int(stack.environment["APP_PORT"])
    clients = []
    for number in range(500):
        request = target.request(number % 8)
        port = (target.port, target.port, app_port, app_port)[number % 4]
        half = request[:-5] if number % 4 == 2 else request
        client = socket.create_connection(("127.0.0.1", port), timeout=10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        client.sendall(half)
        clients.append(client)
    return clients
