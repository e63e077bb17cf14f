"""How a worker is: the lag of its event loop, its connections, its garbage collection."""

import gc
import time
from collections.abc import Callable

from server.metrics import LAG_EDGES, Counter, Gauge, Histogram

# Uvicorn's, between two calls of on_tick. Its sleep counts with the loop's clock, which uvloop
# moves in steps of a millisecond.
TICK_SECONDS = 0.1
TICKS_PER_SECOND = 10

_LAG = Histogram("server_loop_lag_seconds", "How late a timer of 0.1 s was", edges=LAG_EDGES)
# A stuck worker cannot say so: time() minus this does.
_TICKED_AT = Gauge("server_loop_tick_timestamp_seconds", "Last sign of life", each=True)
_IN_FLIGHT = Gauge("server_requests_in_flight", "Requests at work, streams included")
_CONNECTIONS = Gauge("server_connections", "Open, idle ones included")
_COLLECTIONS = Counter("server_gc_collections_total", "Runs", "generation")
_PAUSE = Counter("server_gc_pause_seconds_total", "All code stands still", "generation")


class Vitals:
    def __init__(self) -> None:
        self._ticked_at = time.perf_counter()
        self._collecting_since = 0.0
        # Of each generation since the last second: runs, seconds.
        self._collected = {0: (0, 0.0), 1: (0, 0.0), 2: (0, 0.0)}
        gc.callbacks.append(self._watch_collection)

    def tick(self) -> None:
        now = time.perf_counter()
        _LAG.observe(max(0.0, now - self._ticked_at - TICK_SECONDS))
        self._ticked_at = now

    def tell(self, requests: int, connections: int, measure: Callable[[], None] | None) -> None:
        """Every second; `measure` is the app's part."""
        _TICKED_AT.set(time.time())
        _IN_FLIGHT.set(requests)
        _CONNECTIONS.set(connections)
        for generation, (runs, seconds) in self._collected.items():
            if runs:
                _COLLECTIONS.add(runs, str(generation))
                _PAUSE.add(seconds, str(generation))
                self._collected[generation] = (0, 0.0)
        if measure is not None:
            measure()

    def _watch_collection(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting_since = now
        else:
            runs, seconds = self._collected[info["generation"]]
            pause = now - self._collecting_since
            self._collected[info["generation"]] = (runs + 1, seconds + pause)
