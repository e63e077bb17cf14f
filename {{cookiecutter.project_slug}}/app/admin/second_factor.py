"""Pages of the second factor: at login after the password, and for whoever is logged in."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import cast
from uuid import UUID

from fastapi.responses import RedirectResponse
from sqladmin import Admin, Flash
from sqladmin.authentication import login_required
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.accounts.authentication import Authenticator, Login
from app.accounts.dependencies import get_login_origin
from app.accounts.repository import Credentials
from app.admin import half_login
from app.admin import service as administration
from app.admin.audit import Actor, actor_of
from app.admin.authentication import AdminAuthentication, form_text
from app.admin.model_views import actor_of as current_actor
from app.admin.model_views import database_of
from app.errors import TryAgainError
from app.second_factor import codes, repository, service
from app.second_factor.models import SecondFactor
from app.second_factor.service import Owner
from app.settings import Settings

_WRONG_CODE = "The code is wrong or was used before."
_PENDING = "second_factor_secret"


class SecondFactorAdmin(Admin):
    """sqladmin with these pages."""

    authentication: AdminAuthentication

    def second_factor_routes(self) -> Sequence[Route]:
        both = ["GET", "POST"]
        return [
            Route("/login/code", self.ask_code, name="login-code", methods=both),
            Route("/login/set-up", self.set_up_at_login, name="login-set-up", methods=both),
            Route("/second-factor", self.second_factor, name="second-factor", methods=both),
        ]

    async def ask_code(self, request: Request) -> Response:
        settings = _settings(request)
        credentials = await half_login.find(request, settings)
        if credentials is None:
            return _redirect(request, "login")
        if request.method == "GET":
            return await self.show(request, "login_code")
        owner = _owner(request, credentials.user_id, credentials.email)
        try:
            is_good = await service.check(
                database_of(request), settings, owner, await form_text(request, "code"), time.time()
            )
        except TryAgainError as error:
            return await self.show_wait(request, "login_code", error)
        if not is_good:
            claimed = actor_of(request, owner.id, owner.email)
            await administration.record_failed_login(database_of(request), claimed)
            return await self.show(request, "login_code", _WRONG_CODE)
        return await self._enter(request, credentials) or _redirect(request, "index")

    async def set_up_at_login(self, request: Request) -> Response:
        credentials = await half_login.find(request, _settings(request))
        if credentials is None:
            return _redirect(request, "login")
        user_id, email = credentials.user_id, credentials.email
        if await repository.find(database_of(request), user_id):
            return _redirect(request, "login-code")
        secret = _pending_secret(request, user_id)
        if request.method == "GET":
            return await self._show_secret(request, "login_set_up", secret, email)
        actor = actor_of(request, user_id, email)
        recovery_codes = await self._confirm(request, actor, secret, credentials)
        if recovery_codes is None:
            return await self._show_secret(
                request, "login_set_up", secret, email, error=_WRONG_CODE
            )
        return await self._enter(request, credentials) or await self._show_codes(
            request, recovery_codes
        )

    @login_required
    async def second_factor(self, request: Request) -> Response:
        """Password and code again, for a stolen session must not become an account."""
        actor = current_actor(request)
        found = await repository.find(database_of(request), actor.id)
        error = None
        if request.method == "POST":
            try:
                done = await self._change(request, actor, is_set_up=found is not None)
            except TryAgainError as busy:
                return await self.show_wait(request, "second_factor", busy, found=found)
            if done is not None:
                return done
            error = "The password or the code is wrong."
        if found:
            return await self.show(request, "second_factor", error, found=found)
        secret = _pending_secret(request, actor.id)
        return await self._show_secret(request, "second_factor", secret, actor.email, error=error)

    async def _change(self, request: Request, actor: Actor, *, is_set_up: bool) -> Response | None:
        """None when the password or the code is wrong."""
        authenticator = cast("Authenticator", request.state.authenticator)
        password, origin = await form_text(request, "password"), await get_login_origin(request)
        login = Login(actor.email, password, origin, door="admin-login")
        credentials = await authenticator.authenticate(login)
        if credentials is None:
            return None
        if not is_set_up:
            secret = _pending_secret(request, actor.id)
            added = await self._confirm(request, actor, secret, credentials)
            return await self._show_codes(request, added) if added else None
        owner = _owner(request, actor.id, actor.email)
        code, database = await form_text(request, "code"), database_of(request)
        if not await service.check(database, _settings(request), owner, code, time.time()):
            return None
        if await form_text(request, "action") == "remove":
            await administration.remove_second_factor(database, actor, actor.id)
            Flash.success(request, "Your second factor is off.")
            return _redirect(request, "second-factor")
        renewed = await administration.renew_recovery_codes(database, actor)
        return await self._show_codes(request, renewed) if renewed else None

    async def _confirm(
        self, request: Request, actor: Actor, secret: str, credentials: Credentials
    ) -> Sequence[str] | None:
        """The recovery codes, once the app has shown that it has the secret."""
        step = codes.matching_step(secret, await form_text(request, "code"), time.time())
        if step is None:
            return None
        encrypted = codes.encrypt_secret(_settings(request), actor.id, secret)
        # The first code is spent by showing that the app has the secret.
        row = SecondFactor(user_id=actor.id, encrypted_secret=encrypted, last_step=step)
        added = await administration.set_up_second_factor(
            database_of(request), actor, credentials, row
        )
        request.session.pop(_PENDING, None)
        return added

    async def _enter(self, request: Request, credentials: Credentials) -> Response | None:
        """None when they are in."""
        entered = await self.authentication.enter(request, credentials)
        return None if entered else _redirect(request, "login")

    async def _show_secret(
        self, request: Request, page: str, secret: str, email: str, *, error: str | None = None
    ) -> Response:
        uri = codes.otpauth_uri(secret, email, _settings(request).service_title)
        groups = [secret[start : start + 4] for start in range(0, len(secret), 4)]
        qr_code = codes.draw_qr_code(uri)
        return await self.show(request, page, error, qr_code=qr_code, uri=uri, groups=groups)

    async def _show_codes(self, request: Request, recovery_codes: Sequence[str]) -> Response:
        return await self.show(request, "recovery_codes", codes=recovery_codes)

    async def show_wait(
        self, request: Request, page: str, busy: TryAgainError, **context: object
    ) -> Response:
        """The page again, with what to wait for."""
        error = f"{busy.detail} Try again in {busy.retry_after_seconds} s."
        response = await self.show(request, page, error, status=busy.status_code, **context)
        response.headers.update(busy.headers or {})
        return response

    async def show(
        self,
        request: Request,
        page: str,
        error: str | None = None,
        *,
        status: int | None = None,
        **context: object,
    ) -> Response:
        status = status or (HTTPStatus.BAD_REQUEST if error else HTTPStatus.OK)
        return await self.templates.TemplateResponse(
            request, f"sqladmin/{page}.html", {"error": error, **context}, status_code=int(status)
        )


def _pending_secret(request: Request, user_id: UUID) -> str:
    """In this browser's cookie alone, so that nobody who was here before knows it."""
    settings, kept = _settings(request), request.session.get(_PENDING)
    secret = codes.decrypt_secret(settings, user_id, bytes.fromhex(kept)) if kept else None
    if secret is None:
        secret = codes.new_secret()
        request.session[_PENDING] = codes.encrypt_secret(settings, user_id, secret).hex()
    return secret


def _settings(request: Request) -> Settings:
    return cast("Settings", request.state.settings)


def _owner(request: Request, user_id: UUID, email: str) -> Owner:
    return Owner(user_id, email, request.client.host if request.client else None)


def _redirect(request: Request, name: str) -> RedirectResponse:
    return RedirectResponse(request.url_for(f"admin:{name}"), HTTPStatus.SEE_OTHER)
