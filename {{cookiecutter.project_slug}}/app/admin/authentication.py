"""Who may enter: the cookie names a session, which is looked up for every request."""

from http import HTTPStatus
from typing import Final, cast
from uuid import UUID

from sqladmin.authentication import AuthenticationBackend
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.accounts import repository as accounts
from app.accounts.authentication import Authenticator, Login
from app.accounts.dependencies import get_login_origin
from app.accounts.repository import AuthenticatedUser, Credentials
from app.accounts.roles import ADMIN
from app.accounts.schemas import read_email
from app.admin import half_login, service
from app.admin.audit import NO_ROW, Actor, actor_of
from app.admin.model_views import database_of
from app.second_factor import repository as second_factor
from app.security_events import SecurityEvent, hash_email, record_event
from app.settings import Settings

# With the prefix, browsers take it from HTTPS only, so a page at plain HTTP cannot plant one.
# Not `__Host-`: that must be sent to every path, and this one is for /admin alone.
_COOKIE = "admin_session"
_COOKIE_IN_PRODUCTION = f"__Secure-{_COOKIE}"
_DOOR: Final = "admin-login"


class AdminAuthentication(AuthenticationBackend):
    """The cookie holds two ids, signed; what they are worth is decided by the database."""

    def __init__(self, settings: Settings) -> None:
        is_production = settings.environment == "production"
        super().__init__(
            secret_key=_cookie_key(settings),
            session_cookie=_COOKIE_IN_PRODUCTION if is_production else _COOKIE,
            # From the login on; using it does not prolong it. Default: 14 days.
            max_age=settings.admin_session_seconds,
            path=f"{settings.root_path}/admin",
            # Links from other sites arrive without it. Default: lax.
            same_site="strict",
            # Over plain HTTP, as in development, a Secure cookie would not come back.
            # Default: False.
            https_only=is_production,
        )
        self._settings = settings

    async def login(self, request: Request) -> Response | bool:
        database = database_of(request)
        authenticator = cast("Authenticator", request.state.authenticator)
        # PostgreSQL stores no NUL character, and no email has one.
        email = read_email((await form_text(request, "username")).replace("\x00", ""))
        password = await form_text(request, "password")
        # For the form, when it is shown again.
        request.state.login_email = email
        origin = await get_login_origin(request)
        credentials = await authenticator.authenticate(Login(email, password, origin, door=_DOOR))
        if credentials is None:
            await service.record_failed_login(database, await self._claimed(request, email))
            return False
        if ADMIN in credentials.role.scopes:
            next_page = await self._second_factor_page(request, credentials)
            if next_page is not None:
                half_login.begin(request, self._settings, credentials)
                return RedirectResponse(request.url_for(next_page), HTTPStatus.SEE_OTHER)
        return await self.enter(request, credentials)

    async def _second_factor_page(self, request: Request, credentials: Credentials) -> str | None:
        if await second_factor.find(database_of(request), credentials.user_id):
            return "admin:login-code"
        return "admin:login-set-up" if self._settings.totp_is_required else None

    async def enter(self, request: Request, credentials: Credentials) -> bool:
        """Both factors were shown, or there is one only: the session begins."""
        actor = actor_of(request, credentials.user_id, credentials.email)
        origin = await get_login_origin(request)
        row = service.new_session(actor.id, origin, self._settings.admin_session_seconds)
        session_id = await service.start_session(
            database_of(request), actor, credentials, row, _id(request, "session_id")
        )
        if session_id is None:
            record_event(SecurityEvent.LOGIN_FAILED, actor.id, door=_DOOR, reason="no admin")
            await service.record_failed_login(database_of(request), actor)
            return False
        record_event(
            SecurityEvent.LOGIN_SUCCEEDED, actor.id, door=_DOOR, session_id=str(session_id)
        )
        request.session.clear()
        request.session.update(session_id=str(session_id), user_id=str(actor.id))
        request.state.actor = actor
        return True

    async def _claimed(self, request: Request, email: str) -> Actor:
        """Whose email was given; of an unknown one only a hash is kept, it may be a password."""
        user_id = await accounts.find_user_id(database_of(request), email)
        if user_id is None:
            return actor_of(request, NO_ROW, f"unknown {hash_email(self._settings, email)}")
        return actor_of(request, user_id, email)

    async def logout(self, request: Request) -> bool:
        current_user = await _current_user(request)
        if current_user is not None:
            actor = actor_of(request, current_user.id, current_user.email)
            await service.end_session(database_of(request), actor, current_user.session_id)
        request.session.clear()
        return False

    async def authenticate(self, request: Request) -> bool:
        current_user = await _current_user(request)
        if current_user is None or ADMIN not in current_user.role.scopes:
            return False
        request.state.actor = actor_of(request, current_user.id, current_user.email)
        return True


async def _current_user(request: Request) -> AuthenticatedUser | None:
    session_id, user_id = _id(request, "session_id"), _id(request, "user_id")
    if session_id is None or user_id is None:
        return None
    return await accounts.get_current_user(database_of(request), session_id, user_id)


def _cookie_key(settings: Settings) -> str:
    """Of its own, so that nothing signed for another purpose is ever taken for a cookie."""
    return settings.keyed_hash(b"admin session cookie").hex()


def _id(request: Request, name: str) -> UUID | None:
    value = request.session.get(name)
    return UUID(value) if value else None


async def form_text(request: Request, name: str) -> str:
    value = (await request.form()).get(name)
    return value if isinstance(value, str) else ""
