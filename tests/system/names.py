"""Docker's name server in small: every name is at the addresses of this moment."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TYPE_A = 1
# Docker's own; nginx must not believe it.
TTL_SECONDS = 600
HEADER = struct.Struct("!6H")
ANSWER = struct.Struct("!HHHIH4s")
POINTER_TO_QUESTION = 0xC00C
RESPONSE_FLAGS = 0x8180


@dataclass
class Names:
    port: int
    addresses: list[str] = field(default_factory=list)

    def answer(self, query: bytes) -> bytes:
        number = struct.unpack_from("!H", query)[0]
        end = query.index(b"\0", HEADER.size) + 5
        asked = struct.unpack_from("!H", query, end - 4)[0]
        records = [
            ANSWER.pack(POINTER_TO_QUESTION, TYPE_A, 1, TTL_SECONDS, 4, socket.inet_aton(address))
            for address in (self.addresses if asked == TYPE_A else [])
        ]
        head = HEADER.pack(number, RESPONSE_FLAGS, 1, len(records), 0, 0)
        return head + query[HEADER.size : end] + b"".join(records)


@contextmanager
def name_server() -> Iterator[Names]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.11", 0))
        names = Names(server.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(server, names))
        thread.start()
        try:
            yield names
        finally:
            # Wakes the thread, which closing the socket would not.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", server.getsockname())
            thread.join()


def _serve(server: socket.socket, names: Names) -> None:
    while True:
        query, client = server.recvfrom(512)
        if not query:
            return
        server.sendto(names.answer(query), client)
