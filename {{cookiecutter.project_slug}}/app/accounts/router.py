"""Routes of users and their logins; the next hop is `service.py`."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Response, status
from fastapi.security import OAuth2PasswordRequestForm

from app.accounts import service, sessions
from app.accounts.client import ClientDep
from app.accounts.dependencies import (
    AccountOwnerDep,
    CallerDep,
    PasswordsDep,
    TokenKeysDep,
)
from app.accounts.email_links.router import EmailLinksDep
from app.accounts.email_links.service import send_verification
from app.accounts.schemas import (
    KeySet,
    PasswordChange,
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
    passwords: PasswordsDep,
    keys: TokenKeysDep,
    client: ClientDep,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
) -> TokenPair:
    """Trade an email and a password for an access and a refresh token."""
    email = form.username.strip().lower()
    login = Login(email, form.password, client, tuple(form.scopes))
    return await sessions.log_in(database, passwords, keys, login)


@auth.post(
    "/refresh",
    responses=problem_responses(401),
    response_model_exclude_none=True,
    dependencies=[Depends(forbid_caching)],
)
async def refresh(
    database: DatabaseDep, keys: TokenKeysDep, client: ClientDep, body: RefreshRequest
) -> TokenPair:
    """Trade a refresh token for a new pair; the old one is spent."""
    return await sessions.refresh(database, keys, body.refresh_token.get_secret_value(), client)


@auth.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def log_out(database: DatabaseDep, body: RefreshRequest) -> None:
    """End the session of a refresh token; its access tokens stop working at once."""
    await sessions.log_out(database, body.refresh_token.get_secret_value())


@auth.post(
    "/logout-all", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(401, 403)
)
async def log_out_everywhere(database: DatabaseDep, caller: AccountOwnerDep) -> None:
    """End every session of the caller."""
    await sessions.log_out_everywhere(database, caller.id)


@auth.get("/sessions", responses=problem_responses(401, 403))
async def list_sessions(database: DatabaseDep, caller: AccountOwnerDep) -> Sequence[SessionOut]:
    """The caller's sessions, the one used last first."""
    return [
        SessionOut(**row._asdict(), current=row.id == caller.session_id)
        for row in await sessions.list_sessions(database, caller)
    ]


@auth.delete(
    "/sessions/{session_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(401, 403, 404),
)
async def end_session(database: DatabaseDep, caller: AccountOwnerDep, session_id: UUID) -> None:
    """End one of the caller's sessions; its access tokens stop working at once."""
    await sessions.end_session(database, caller, session_id)


@users.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(403, 409),
    dependencies=[Depends(refuse_when_closed)],
)
async def register_user(
    database: DatabaseDep,
    passwords: PasswordsDep,
    links: EmailLinksDep,
    body: UserCreate,
    background: BackgroundTasks,
) -> UserOut:
    """Sign up."""
    user = await service.register_user(database, passwords, body)
    if links.is_mail_set_up:
        background.add_task(send_verification, database, links, user.id, user.email)
    return UserOut.model_validate(user)


@users.get("/me", responses=problem_responses(401))
async def read_me(caller: CallerDep) -> UserOut:
    """The caller."""
    return UserOut.model_validate(caller)


@users.patch("/me", responses=problem_responses(401, 403))
async def update_me(database: DatabaseDep, caller: AccountOwnerDep, body: UserUpdate) -> UserOut:
    """Change the caller's name."""
    return UserOut.model_validate(await service.update_user(database, caller.id, body))


@users.put(
    "/me/password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(401, 403, 429),
)
async def change_password(
    database: DatabaseDep,
    passwords: PasswordsDep,
    caller: AccountOwnerDep,
    client: ClientDep,
    body: PasswordChange,
) -> None:
    """Change the caller's password; all other sessions end."""
    await service.change_password(database, passwords, caller, client, body)


@well_known.get("/jwks.json")
async def read_key_set(keys: TokenKeysDep, response: Response) -> KeySet:
    """The public keys of access tokens (RFC 7517); none when a shared secret signs."""
    # As long as others may keep a key that was taken out of the ring.
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet(keys=list(public_keys(keys)))
