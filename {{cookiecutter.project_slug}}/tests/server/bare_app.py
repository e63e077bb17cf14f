"""An ASGI app without any framework: says which packages of the service its worker has loaded."""

import sys
from collections.abc import Awaitable, Callable, MutableMapping

Message = MutableMapping[str, object]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})
        return
    loaded = sys.modules.keys() & {"app", "server", "doctor", "manage", "fastapi", "sqlalchemy"}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": " ".join(sorted(loaded)).encode()})
