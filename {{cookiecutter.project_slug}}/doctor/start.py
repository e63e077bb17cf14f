"""What the log says once at the start: settings that are wrong in production."""

import logging
import os
from typing import NoReturn

from doctor.settings import AllSettings, check_production


def tell_what_is_wrong(log: logging.Logger) -> NoReturn:
    """In a process that ends with it, and that must not look like a worker that failed."""
    try:
        settings = AllSettings.load()
        if settings.environment == "production":
            found = [f"{one.where}: {one.what} {one.fix}" for one in check_production(settings)]
            if found:
                log.error("In production: %s See manage doctor.", " ".join(found))
    except (Exception, SystemExit):  # noqa: S110 (the workers tell which setting is invalid)
        pass
    finally:
        os._exit(0)
