"""`make run`: the service and its jobs, which both reload on every change."""

import os
import queue
import sys

import uvicorn

from development import DevelopmentError, ports, serve, supervisor
from server.settings import ServerSettings


def main() -> int:
    port = ServerSettings.load().app_port
    try:
        ports.check_free("APP_PORT", port, ["127.0.0.1"])
    except DevelopmentError as error:
        print(error, file=sys.stderr)
        return 1
    # uvicorn's own.
    watcher = ("watchfiles", "--filter", "python", "--verbosity", "warning")
    jobs = serve.start_jobs(os.environ, *watcher)
    try:
        # The middleware writes a line for each request.
        uvicorn.run("app.main:app", port=port, reload=True, reload_dirs=["app"], access_log=False)
    finally:
        supervisor.stop([jobs], queue.SimpleQueue(), serve.STOP_WITHIN_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
