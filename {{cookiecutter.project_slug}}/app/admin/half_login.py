"""Between password and second factor: a mark in the cookie that opens nothing but the next page."""

import hmac
import time
from typing import cast

from starlette.requests import Request

from app.accounts import repository as accounts
from app.accounts.repository import Credentials
from app.admin.model_views import database_of
from app.settings import Settings

_NAME = "half_login"
# To find the phone, or to install the app.
_SECONDS = 600


def begin(request: Request, settings: Settings, credentials: Credentials) -> None:
    request.session[_NAME] = {
        "email": credentials.email,
        "until": int(time.time()) + _SECONDS,
        "proof": _proof(settings, credentials),
    }


async def find(request: Request, settings: Settings) -> Credentials | None:
    """None when it has expired, or when the password was changed or the user disabled since."""
    kept = cast("dict[str, str] | None", request.session.get(_NAME))
    if kept is None or float(kept["until"]) < time.time():
        return None
    credentials = await accounts.get_credentials(database_of(request), kept["email"])
    if credentials and hmac.compare_digest(_proof(settings, credentials), kept["proof"]):
        return credentials
    return None


def _proof(settings: Settings, credentials: Credentials) -> str:
    # Whoever has the cookie can read it: the hash of the password must not be in there.
    return settings.keyed_hash(b"half login\0" + credentials.password_hash.encode()).hex()
