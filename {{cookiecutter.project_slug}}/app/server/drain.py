"""How a worker that leaves tells the app, so that streams end and probes say no.

Made by the lifespan and yielded as `drain`; the next hop is `app.server.graceful`, which begins it.
"""

import asyncio


class Drain:
    """`leaving` ends this worker's streams; `stopping` means that no other worker takes over."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.stopping = False

    def begin(self, *, stopping: bool) -> None:
        self.stopping = stopping
        self.leaving.set()
