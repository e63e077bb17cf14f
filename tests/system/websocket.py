"""A WebSocket client as small as it gets: short text out, frames in, the code of the close."""

import os
import socket
import struct

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# https://www.rfc-editor.org/rfc/rfc6455#section-5.2
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_FINAL, _MASKED = 0x80, 0x80
_WAITS_SECONDS = 60


class WebSocket:
    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_WAITS_SECONDS)
        self._socket.sendall(_HANDSHAKE.format(path=path).encode())
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        assert b" 101 " in status, status
        while self._file.readline() != b"\r\n":
            pass

    def send(self, data: bytes, kind: int = TEXT) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self._socket.sendall(bytes([_FINAL | kind, _MASKED | len(data)]) + mask + masked)

    def receive(self) -> tuple[int, bytes]:
        """Kind and payload."""
        head, length = self._file.read(2)
        return head & 0x0F, self._file.read(length)

    def wait_for_close(self) -> int:
        """The code; answers as the protocol wants it."""
        kind, payload = self.receive()
        while kind != CLOSE:
            if kind == PING:
                self.send(payload, PONG)
            kind, payload = self.receive()
        self.send(payload, CLOSE)
        code: int = struct.unpack("!H", payload[:2])[0]
        return code

    def close(self) -> None:
        self._file.close()
        self._socket.close()
