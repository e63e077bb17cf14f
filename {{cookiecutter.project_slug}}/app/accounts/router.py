"""Routes of users and their logins."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response

from app.accounts import email_links, jobs, oauth, service, sessions
from app.accounts.dependencies import (
    AccountOwnerDep,
    AuthenticatorDep,
    CurrentUser,
    LoginOriginDep,
    TokenKeysDep,
)
from app.accounts.oauth import RevocationForm, ServerMetadata, TokenForm, refuse_repeated
from app.accounts.schemas import (
    EmailVerification,
    KeySet,
    PasswordChange,
    PasswordReset,
    PasswordResetRequest,
    RefreshRequest,
    SessionOut,
    TokenPair,
    UserCreate,
    UserOut,
    UserUpdate,
)
from app.accounts.tokens import public_keys
from app.database import DatabaseDep, SessionDep
from app.errors import ForbiddenError, NotFoundError, problem_responses
from app.settings import SettingsDep

auth = APIRouter(prefix="/auth", tags=["auth"])
users = APIRouter(prefix="/users", tags=["users"])
well_known = APIRouter(prefix="/.well-known", tags=["auth"])


async def refuse_when_closed(settings: SettingsDep) -> None:
    if not settings.sign_up_open:
        raise ForbiddenError("Signing up is closed: ask an administrator for an account.")


@auth.post(
    "/token",
    responses=problem_responses(401, 429),
    response_model_exclude_none=True,
    dependencies=[Depends(refuse_repeated)],
)
async def issue_tokens(
    authenticator: AuthenticatorDep,
    keys: TokenKeysDep,
    origin: LoginOriginDep,
    form: Annotated[TokenForm, Form()],
) -> TokenPair:
    """Trade an email and a password, or a refresh token, for an access and a refresh token."""
    return await oauth.issue_tokens(authenticator, keys, origin, form)


@auth.post("/revoke", response_class=Response, dependencies=[Depends(refuse_repeated)])
async def revoke_token(
    session: SessionDep, keys: TokenKeysDep, form: Annotated[RevocationForm, Form()]
) -> None:
    """End the session of a token of either kind (RFC 7009); also 200 when nobody knows it."""
    await sessions.revoke(session, keys, form.token)


@auth.post("/refresh", responses=problem_responses(401, 429), response_model_exclude_none=True)
async def refresh(
    database: DatabaseDep, keys: TokenKeysDep, origin: LoginOriginDep, body: RefreshRequest
) -> TokenPair:
    """Trade a refresh token for a new pair; the old one is spent."""
    spent_token = body.refresh_token.get_secret_value()
    return await sessions.refresh(database, keys, origin, spent_token)


@auth.post("/logout", status_code=204)
async def log_out(session: SessionDep, body: RefreshRequest) -> None:
    """End the session of a refresh token; its access tokens stop working at once."""
    await sessions.log_out(session, body.refresh_token.get_secret_value())


@auth.post("/logout-all", status_code=204, responses=problem_responses(401, 403))
async def log_out_everywhere(current_user: AccountOwnerDep, session: SessionDep) -> None:
    """End all of your sessions."""
    await sessions.log_out_everywhere(session, current_user)


@auth.get("/sessions", responses=problem_responses(401, 403))
async def list_sessions(
    database: DatabaseDep, current_user: AccountOwnerDep
) -> Sequence[SessionOut]:
    """Your sessions, the one used last first."""
    return await sessions.list_sessions(database, current_user)


@auth.delete("/sessions/{session_id}", status_code=204, responses=problem_responses(401, 403, 404))
async def end_session(current_user: AccountOwnerDep, session: SessionDep, session_id: UUID) -> None:
    """End one of your sessions; its access tokens stop working at once."""
    await sessions.end_session(session, current_user, session_id)


@auth.post("/verify-email/request", status_code=202, responses=problem_responses(401, 403, 429))
async def request_email_verification(
    database: DatabaseDep,
    settings: SettingsDep,
    current_user: AccountOwnerDep,
    origin: LoginOriginDep,
) -> None:
    """Send you another link that verifies your email address."""
    await email_links.admit_request(database, settings, "verify-email", current_user.email, origin)
    async with database.transaction() as session:
        await jobs.send_verification.enqueue(session, user_id=str(current_user.id))


@auth.post("/verify-email", status_code=204, responses=problem_responses(403))
async def verify_email(session: SessionDep, body: EmailVerification) -> None:
    """Show with the token of a link that the email address is yours."""
    await email_links.verify_email(session, body.token.get_secret_value())


@auth.post("/password-reset/request", status_code=202, responses=problem_responses(429))
async def request_password_reset(
    database: DatabaseDep, settings: SettingsDep, origin: LoginOriginDep, body: PasswordResetRequest
) -> None:
    """Send a link to reset the password; the answer is the same when nobody has the address."""
    await email_links.admit_request(database, settings, "reset-password", body.email, origin)
    async with database.transaction() as session:
        await jobs.send_password_reset.enqueue(session, email=body.email)


@auth.post("/password-reset", status_code=204, responses=problem_responses(403))
async def reset_password(
    authenticator: AuthenticatorDep, origin: LoginOriginDep, body: PasswordReset
) -> None:
    """Choose a new password with the token of a link; all sessions end."""
    await email_links.reset_password(authenticator, origin, body)


@users.post(
    "",
    status_code=201,
    responses=problem_responses(403, 409, 429),
    dependencies=[Depends(refuse_when_closed)],
)
async def register_user(
    authenticator: AuthenticatorDep, origin: LoginOriginDep, body: UserCreate
) -> UserOut:
    """Sign up."""
    database, settings = authenticator.database, authenticator.settings
    await email_links.admit_request(database, settings, "sign-up", body.email, origin)
    return await service.sign_up(authenticator, body)


@users.get("/me", responses=problem_responses(401))
async def read_me(current_user: CurrentUser) -> UserOut:
    """Your account."""
    return UserOut.model_validate(current_user)


@users.patch("/me", responses=problem_responses(401, 403))
async def update_me(
    current_user: AccountOwnerDep, session: SessionDep, body: UserUpdate
) -> UserOut:
    """Change your name."""
    return await service.update_user(session, current_user.id, body)


@users.put("/me/password", status_code=204, responses=problem_responses(401, 403, 429))
async def change_password(
    authenticator: AuthenticatorDep,
    current_user: AccountOwnerDep,
    origin: LoginOriginDep,
    body: PasswordChange,
) -> None:
    """Change your password; all other sessions end."""
    await service.change_password(authenticator, current_user, origin, body)


@well_known.get("/jwks.json")
async def read_key_set(keys: TokenKeysDep, response: Response) -> KeySet:
    """The public keys of access tokens (RFC 7517); none when a shared secret signs."""
    # As long as others may keep a key that was taken out of the ring.
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet(keys=list(public_keys(keys)))


@well_known.get("/oauth-authorization-server", response_model_exclude_none=True)
@well_known.get("/oauth-authorization-server/{root_path:path}", include_in_schema=False)
async def read_server_metadata(
    request: Request, settings: SettingsDep, response: Response
) -> ServerMetadata:
    """What a client of OAuth 2 has to know (RFC 8414)."""
    # The RFC puts the path of the issuer behind; a proxy that cuts ROOT_PATH off sends the other.
    behind = request.path_params.get("root_path")
    if behind and f"/{behind}" != oauth.issuer_path(settings):
        raise NotFoundError("This is another issuer's address.")
    response.headers["Cache-Control"] = "public, max-age=300"
    return oauth.describe_server(settings)
