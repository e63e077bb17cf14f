"""Routes of users and their logins; the next hop is `service.py`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response, status
from fastapi.security import OAuth2PasswordRequestForm

from app.accounts import service
from app.accounts.dependencies import CallerDep, PasswordsDep, TokenKeysDep
from app.accounts.schemas import (
    KeySet,
    PasswordChange,
    RefreshRequest,
    TokenPair,
    UserCreate,
    UserOut,
    UserUpdate,
)
from app.accounts.tokens import public_keys
from app.database import DatabaseDep
from app.errors import problem_responses

auth = APIRouter(prefix="/auth", tags=["auth"])
users = APIRouter(prefix="/users", tags=["users"])
well_known = APIRouter(prefix="/.well-known", tags=["auth"])


async def forbid_caching(response: Response) -> None:
    # RFC 6749, 5.1: no cache on the way may keep a token.
    response.headers["Cache-Control"] = "no-store"


@auth.post("/token", responses=problem_responses(401), dependencies=[Depends(forbid_caching)])
async def log_in(
    database: DatabaseDep,
    passwords: PasswordsDep,
    keys: TokenKeysDep,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
) -> TokenPair:
    """Trade an email and a password for an access and a refresh token."""
    return await service.log_in(
        database,
        passwords,
        keys,
        email=form.username.strip().lower(),
        password=form.password,
    )


@auth.post("/refresh", responses=problem_responses(401), dependencies=[Depends(forbid_caching)])
async def refresh(database: DatabaseDep, keys: TokenKeysDep, body: RefreshRequest) -> TokenPair:
    """Trade a refresh token for a new pair; the old one is spent."""
    return await service.refresh(database, keys, body.refresh_token.get_secret_value())


@auth.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def log_out(database: DatabaseDep, body: RefreshRequest) -> None:
    """End the session of a refresh token; its access tokens stop working at once."""
    await service.log_out(database, body.refresh_token.get_secret_value())


@auth.post("/logout-all", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(401))
async def log_out_everywhere(database: DatabaseDep, caller: CallerDep) -> None:
    """End every session of the caller."""
    await service.log_out_everywhere(database, caller.id)


@users.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(409),
)
async def register_user(
    database: DatabaseDep, passwords: PasswordsDep, body: UserCreate
) -> UserOut:
    """Sign up."""
    return UserOut.model_validate(await service.register_user(database, passwords, body))


@users.get("/me", responses=problem_responses(401))
async def read_me(caller: CallerDep) -> UserOut:
    """The caller."""
    return UserOut.model_validate(caller)


@users.patch("/me", responses=problem_responses(401))
async def update_me(database: DatabaseDep, caller: CallerDep, body: UserUpdate) -> UserOut:
    """Change the caller's name."""
    return UserOut.model_validate(await service.update_user(database, caller.id, body))


@users.put(
    "/me/password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(401, 403),
)
async def change_password(
    database: DatabaseDep, passwords: PasswordsDep, caller: CallerDep, body: PasswordChange
) -> None:
    """Change the caller's password; all other sessions end."""
    await service.change_password(database, passwords, caller, body)


@well_known.get("/jwks.json")
async def read_key_set(keys: TokenKeysDep, response: Response) -> KeySet:
    """The public keys of access tokens (RFC 7517); none when a shared secret signs."""
    # As long as others may keep a key that was taken out of the ring.
    response.headers["Cache-Control"] = "public, max-age=300"
    return KeySet(keys=list(public_keys(keys)))
