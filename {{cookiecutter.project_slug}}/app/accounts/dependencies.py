"""Who is calling: the token is checked, then session and user are read in one statement."""

from typing import Annotated, cast

from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes

from app.accounts import repository, scopes
from app.accounts.passwords import Passwords
from app.accounts.rows import Caller
from app.accounts.tokens import TokenKeys, read_access_token
from app.database import DatabaseDep
from app.errors import ForbiddenError, InsufficientScopeError, UnauthorizedError
from app.openapi import TOKEN_PATH

# auto_error off: its own 401 is not a problem document.
_bearer = OAuth2PasswordBearer(tokenUrl=TOKEN_PATH, scopes=scopes.DESCRIPTIONS, auto_error=False)


async def get_token_keys(request: Request) -> TokenKeys:
    return cast("TokenKeys", request.state.token_keys)


async def get_passwords(request: Request) -> Passwords:
    return cast("Passwords", request.state.passwords)


TokenKeysDep = Annotated[TokenKeys, Depends(get_token_keys)]
PasswordsDep = Annotated[Passwords, Depends(get_passwords)]


async def get_caller(
    required: SecurityScopes,
    database: DatabaseDep,
    keys: TokenKeysDep,
    token: Annotated[str | None, Depends(_bearer)],
) -> Caller:
    if token is None:
        raise UnauthorizedError("Send an access token: Authorization: Bearer <token>.")
    claims = read_access_token(keys, token)
    caller = await repository.get_caller(database, claims.sid, claims.sub)
    if caller is None:
        raise UnauthorizedError("The session has ended.")
    if not set(required.scopes).issubset(claims.scope.split()):
        raise InsufficientScopeError(required.scope_str)
    return caller


# Whoever is signed in; a route that needs a scope says so: Security(get_caller, scopes=[...]).
CallerDep = Annotated[Caller, Security(get_caller)]
AccountOwnerDep = Annotated[Caller, Security(get_caller, scopes=[scopes.ACCOUNT])]


async def get_admin(
    caller: Annotated[Caller, Security(get_caller, scopes=[scopes.ADMIN])],
) -> Caller:
    # The token says what was granted at login, the row what is true now.
    if not caller.is_admin:
        raise ForbiddenError("Only an administrator may do this.")
    return caller


AdminDep = Annotated[Caller, Depends(get_admin)]
