"""What a WebSocket needs beyond a request: a token, a check of its origin, a code when it ends."""

from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

# A browser can set no other header: `new WebSocket(url, ["v1", "bearer." + token])`.
_TOKEN_PREFIX = "bearer."  # noqa: S105 (no secret)
# RFC 6455, 7.4.2: 4000 to 4999 are an application's own; 4401 says what 401 says.
CLOSE_CODES = 4000
# RFC 6455, 5.5: 125 bytes, and the code takes two.
_REASON_BYTES_MAX = 123


def find_token(connection: HTTPConnection) -> str | None:
    """The access token among the subprotocols, where no access log writes it down."""
    for offered in _subprotocols(connection):
        if offered.startswith(_TOKEN_PREFIX):
            return offered.removeprefix(_TOKEN_PREFIX)
    return None


def choose_subprotocol(connection: HTTPConnection) -> str | None:
    """For `accept`: browsers insist on one of those they offered, and it must not be the token."""
    offered = _subprotocols(connection)
    return next((name for name in offered if not name.startswith(_TOKEN_PREFIX)), None)


def is_own_origin(connection: HTTPConnection) -> bool:
    """Browsers send it always and check nothing; whoever sends none is no browser."""
    origin = connection.headers.get("origin")
    secure = connection.scope["scheme"] in {"https", "wss"}
    own = f"{'https' if secure else 'http'}://{connection.headers.get('host')}"
    return origin in {None, own, *connection.state.settings.cors_origins}


async def close_with_error(websocket: WebSocket, error: HTTPException) -> None:
    """Closes with 4401 for a 401 and so on; what it raised before it was accepted is heard too."""
    if websocket.application_state is WebSocketState.DISCONNECTED:
        return
    # The client may have gone meanwhile.
    with suppress(WebSocketDisconnect):
        if websocket.application_state is WebSocketState.CONNECTING:
            # A handshake that is refused is 1006 to a browser, whatever the reason.
            await websocket.accept(choose_subprotocol(websocket))
        reason = str(error.detail).encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
        await websocket.close(CLOSE_CODES + error.status_code, reason)


def _subprotocols(connection: HTTPConnection) -> list[str]:
    return list(connection.scope.get("subprotocols", ()))
