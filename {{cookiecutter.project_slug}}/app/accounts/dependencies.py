"""Who is calling: the token is checked, then session and user are read in one statement."""

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer

from app.accounts import repository
from app.accounts.passwords import Passwords
from app.accounts.repository import Caller
from app.accounts.tokens import TokenKeys, read_access_token
from app.database import DatabaseDep
from app.errors import UnauthorizedError

# auto_error off: its own 401 is not a problem document.
_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/token", auto_error=False)


async def get_token_keys(request: Request) -> TokenKeys:
    return cast("TokenKeys", request.state.token_keys)


async def get_passwords(request: Request) -> Passwords:
    return cast("Passwords", request.state.passwords)


TokenKeysDep = Annotated[TokenKeys, Depends(get_token_keys)]
PasswordsDep = Annotated[Passwords, Depends(get_passwords)]


async def get_caller(
    database: DatabaseDep, keys: TokenKeysDep, token: Annotated[str | None, Depends(_bearer)]
) -> Caller:
    if token is None:
        raise UnauthorizedError("Send an access token: Authorization: Bearer <token>.")
    claims = read_access_token(keys, token)
    caller = await repository.get_caller(database, claims.sid, claims.sub)
    if caller is None:
        raise UnauthorizedError("The session has ended.")
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]
