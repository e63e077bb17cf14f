"""Uvicorn's WebSockets, with an answer for every handshake that is none."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_BODY = b'{"type":"about:blank","title":"Bad Request","status":400}'
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_BODY), _BODY)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A POST, a body, too many headers: Uvicorn would say nothing and keep the connection, and
        # closing that one raises an AssertionError.
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()) or _ANSWER)
            self.transport.close()
