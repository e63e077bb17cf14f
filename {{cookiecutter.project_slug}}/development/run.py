"""`make run`: one process that reloads on every change; the next hop is `app.main`."""

import sys

import uvicorn

from development import ports
from server.settings import ServerSettings


def main() -> int:
    port = ServerSettings.load().app_port
    try:
        ports.check_free("APP_PORT", port, ["127.0.0.1"])
    except ports.PortError as error:
        print(error, file=sys.stderr)
        return 1
    uvicorn.run("app.main:app", port=port, reload=True, reload_dirs=["app"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
