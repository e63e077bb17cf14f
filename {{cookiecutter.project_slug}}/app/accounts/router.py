"""Routes of users and their logins; the next hop is `service.py`."""

from collections.abc import Sequence
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Request, Response, status
from fastapi.security import OAuth2PasswordRequestForm

from app.accounts import email_links, service, sessions
from app.accounts.dependencies import (
    AccountOwnerDep,
    CurrentUser,
    LoginOriginDep,
    PasswordHasherDep,
    TokenKeysDep,
)
from app.accounts.email_links import EmailLinks
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
from app.accounts.sessions import Login
from app.accounts.tokens import public_keys
from app.database import DatabaseDep
from app.errors import ForbiddenError, problem_responses
from app.settings import SettingsDep

auth = APIRouter(prefix="/auth", tags=["auth"])
users = APIRouter(prefix="/users", tags=["users"])
well_known = APIRouter(prefix="/.well-known", tags=["auth"])


async def get_email_links(request: Request) -> EmailLinks:
    return cast("EmailLinks", request.state.email_links)


EmailLinksDep = Annotated[EmailLinks, Depends(get_email_links)]


async def forbid_caching(response: Response) -> None:
    # RFC 6749, 5.1: no cache on the way may keep a token.
    response.headers["Cache-Control"] = "no-store"


async def refuse_when_closed(settings: SettingsDep) -> None:
    if not settings.sign_up_open:
        raise ForbiddenError("Signing up is closed: ask an administrator for an account.")


@auth.post(
    "/token",
    responses=problem_responses(401, 403, 429),
    response_model_exclude_none=True,
    dependencies=[Depends(forbid_caching)],
)
async def log_in(
    database: DatabaseDep,
    hasher: PasswordHasherDep,
    keys: TokenKeysDep,
    origin: LoginOriginDep,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
) -> TokenPair:
    """Trade an email and a password for an access and a refresh token."""
    email = form.username.strip().lower()
    login = Login(email, form.password, origin, tuple(form.scopes))
    return await sessions.log_in(database, hasher, keys, login)


@auth.post(
    "/refresh",
    responses=problem_responses(401),
    response_model_exclude_none=True,
    dependencies=[Depends(forbid_caching)],
)
async def refresh(
    database: DatabaseDep, keys: TokenKeysDep, origin: LoginOriginDep, body: RefreshRequest
) -> TokenPair:
    """Trade a refresh token for a new pair; the old one is spent."""
    return await sessions.refresh(database, keys, body.refresh_token.get_secret_value(), origin)


@auth.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def log_out(database: DatabaseDep, body: RefreshRequest) -> None:
    """End the session of a refresh token; its access tokens stop working at once."""
    await sessions.log_out(database, body.refresh_token.get_secret_value())


@auth.post(
    "/logout-all", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(401, 403)
)
async def log_out_everywhere(database: DatabaseDep, current_user: AccountOwnerDep) -> None:
    """End every session of the current_user."""
    await sessions.log_out_everywhere(database, current_user.id)


@auth.get("/sessions", responses=problem_responses(401, 403))
async def list_sessions(
    database: DatabaseDep, current_user: AccountOwnerDep
) -> Sequence[SessionOut]:
    """The caller's sessions, the one used last first."""
    return [
        SessionOut(**row._asdict(), current=row.id == current_user.session_id)
        for row in await sessions.list_sessions(database, current_user)
    ]


@auth.delete(
    "/sessions/{session_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(401, 403, 404),
)
async def end_session(
    database: DatabaseDep, current_user: AccountOwnerDep, session_id: UUID
) -> None:
    """End one of the caller's sessions; its access tokens stop working at once."""
    await sessions.end_session(database, current_user, session_id)


@auth.post(
    "/verify-email/request",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(401, 403, 429),
)
async def request_email_verification(
    database: DatabaseDep,
    links: EmailLinksDep,
    current_user: AccountOwnerDep,
    origin: LoginOriginDep,
    background: BackgroundTasks,
) -> None:
    """Send the caller another link that verifies the email address."""
    await email_links.admit_request(database, current_user.email, origin)
    background.add_task(
        email_links.send_verification, database, links, current_user.id, current_user.email
    )


@auth.post(
    "/verify-email", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(403)
)
async def verify_email(database: DatabaseDep, body: EmailVerification) -> None:
    """Show with the token of a link that the email address is one's own."""
    await email_links.verify_email(database, body.token.get_secret_value())


@auth.post(
    "/password-reset/request",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(429),
)
async def request_password_reset(
    database: DatabaseDep,
    links: EmailLinksDep,
    origin: LoginOriginDep,
    body: PasswordResetRequest,
    background: BackgroundTasks,
) -> None:
    """Send a link to reset the password; the answer is the same when nobody has the address."""
    await email_links.admit_request(database, body.email, origin)
    background.add_task(email_links.send_password_reset, database, links, body.email)


@auth.post(
    "/password-reset", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(403)
)
async def reset_password(
    database: DatabaseDep, hasher: PasswordHasherDep, origin: LoginOriginDep, body: PasswordReset
) -> None:
    """Choose a new password with the token of a link; all sessions end."""
    token, password = body.token.get_secret_value(), body.new_password.get_secret_value()
    await email_links.reset_password(database, hasher, origin, token, password)


@users.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(403, 409),
    dependencies=[Depends(refuse_when_closed)],
)
async def register_user(
    database: DatabaseDep,
    hasher: PasswordHasherDep,
    links: EmailLinksDep,
    body: UserCreate,
    background: BackgroundTasks,
) -> UserOut:
    """Sign up."""
    user = await service.register_user(database, hasher, body)
    if links.is_mail_set_up:
        background.add_task(email_links.send_verification, database, links, user.id, user.email)
    return UserOut.model_validate(user)


@users.get("/me", responses=problem_responses(401))
async def read_me(current_user: CurrentUser) -> UserOut:
    """The current_user."""
    return UserOut.model_validate(current_user)


@users.patch("/me", responses=problem_responses(401, 403))
async def update_me(
    database: DatabaseDep, current_user: AccountOwnerDep, body: UserUpdate
) -> UserOut:
    """Change the caller's name."""
    return UserOut.model_validate(await service.update_user(database, current_user.id, body))


@users.put(
    "/me/password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(401, 403, 429),
)
async def change_password(
    database: DatabaseDep,
    hasher: PasswordHasherDep,
    current_user: AccountOwnerDep,
    origin: LoginOriginDep,
    body: PasswordChange,
) -> None:
    """Change the caller's password; all other sessions end."""
    await service.change_password(database, hasher, current_user, origin, body)


@well_known.get("/jwks.json")
async def read_key_set(keys: TokenKeysDep, response: Response) -> KeySet:
    """The public keys of access tokens (RFC 7517); none when a shared secret signs."""
    # As long as others may keep a key that was taken out of the ring.
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet(keys=list(public_keys(keys)))
