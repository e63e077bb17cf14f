"""Where a login comes from; shown in the list of sessions and used to slow down guessing."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

# Browsers send about 120; the rest is for the curious.
_USER_AGENT_LENGTH_MAX = 200


@dataclass(frozen=True)
class Client:
    address: str | None = None
    user_agent: str | None = None


async def get_client(request: Request) -> Client:
    # uvicorn has put the address there that a trusted proxy names.
    address = request.client.host if request.client else None
    sent = request.headers.get("user-agent", "")[:_USER_AGENT_LENGTH_MAX]
    printable = "".join(character for character in sent if character.isprintable())
    return Client(address, printable or None)


ClientDep = Annotated[Client, Depends(get_client)]
