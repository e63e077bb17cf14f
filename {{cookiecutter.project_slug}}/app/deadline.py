"""A request that takes too long is cancelled and answered with a 504; next hop: a router."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import problem_response


class DeadlineMiddleware:
    """Counts until the response starts, so streams may take as long as they like.

    What is cancelled rolls back and stops its statement in PostgreSQL. Only when the deadline
    passes while PostgreSQL commits, a 504 may be for something that is done.
    Gunicorn's `timeout` does not do this: it watches the event loop, not requests.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_and_lift(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                # Once it has passed it cannot be moved.
                if not deadline.expired():
                    deadline.reschedule(None)
            await send(message)

        deadline = asyncio.timeout(self.seconds)
        try:
            async with deadline:
                await self.app(scope, receive, send_and_lift)
        except TimeoutError:
            if started or not deadline.expired():
                raise
            request_id = scope["state"]["request_id"]
            detail = f"The request was not answered within {self.seconds:g} s."
            await problem_response(request_id, 504, detail)(scope, receive, send)
