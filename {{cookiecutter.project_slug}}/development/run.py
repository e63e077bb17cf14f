"""`make run`: one process that reloads on every change."""

import sys

import uvicorn

from development import DevelopmentError, ports
from server.settings import ServerSettings


def main() -> int:
    port = ServerSettings.load().app_port
    try:
        ports.check_free("APP_PORT", port, ["127.0.0.1"])
    except DevelopmentError as error:
        print(error, file=sys.stderr)
        return 1
    # The middleware writes a line for each request.
    uvicorn.run("app.main:app", port=port, reload=True, reload_dirs=["app"], access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
