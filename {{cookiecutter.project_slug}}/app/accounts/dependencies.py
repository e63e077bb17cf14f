"""Who is signed in: the token is checked, then session and user are read in one statement."""

from typing import Annotated, cast

from fastapi import Depends, Security
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.requests import HTTPConnection

from app.accounts import repository, roles
from app.accounts.authentication import Authenticator, LoginOrigin
from app.accounts.repository import AuthenticatedUser
from app.accounts.tokens import AccessClaims, TokenKeys, read_access_token
from app.database import Database, get_database
from app.errors import ForbiddenError, InsufficientScopeError, UnauthorizedError
from app.metrics import current_record
from app.openapi import TOKEN_PATH
from app.websockets import find_token, is_own_origin

# Browsers send about 120; the rest is for the curious.
_USER_AGENT_LENGTH_MAX = 200


async def get_token_keys(connection: HTTPConnection) -> TokenKeys:
    return cast("TokenKeys", connection.state.token_keys)


async def get_authenticator(connection: HTTPConnection) -> Authenticator:
    return cast("Authenticator", connection.state.authenticator)


TokenKeysDep = Annotated[TokenKeys, Depends(get_token_keys)]
AuthenticatorDep = Annotated[Authenticator, Depends(get_authenticator)]


class _CurrentUserScheme(SecurityBase):
    """The bearer token of a request or WebSocket, and whose it is.

    One dependency and not six: each that FastAPI solves costs 15 to 25 us for every request. As a
    security scheme of its own it stands in the OpenAPI document too.
    """

    def __init__(self) -> None:
        scheme = OAuth2PasswordBearer(tokenUrl=TOKEN_PATH, scopes=roles.SCOPES)
        self.model, self.scheme_name = scheme.model, scheme.scheme_name

    async def __call__(
        self, connection: HTTPConnection, required: SecurityScopes
    ) -> AuthenticatedUser:
        keys, database = await get_token_keys(connection), await get_database(connection)
        token = find_access_token(connection)
        if not token:
            raise UnauthorizedError("Send an access token: Authorization: Bearer <token>.")
        claims = read_access_token(keys, token)
        return await authenticate(database, claims, required)


async def authenticate(
    database: Database, claims: AccessClaims, required: SecurityScopes
) -> AuthenticatedUser:
    current_user = await repository.get_current_user(database, claims.sid, claims.sub)
    if current_user is None:
        raise UnauthorizedError("The session has ended.")
    record = current_record.get()
    if record is not None:
        record.account = {"user_id": str(claims.sub), "session_id": str(claims.sid)}
    # The token says what was granted at login, the role what is true now.
    granted = current_user.role.scopes.intersection(claims.scope.split())
    if not granted.issuperset(required.scopes):
        raise InsufficientScopeError(required.scope_str)
    return current_user


def find_access_token(connection: HTTPConnection) -> str:
    """Empty when there is none."""
    scheme, token = get_authorization_scheme_param(connection.headers.get("authorization"))
    if scheme.lower() != "bearer":
        token = ""
    if connection.scope["type"] == "websocket":
        if not is_own_origin(connection):
            raise ForbiddenError("CORS_ORIGINS does not name this origin.")
        token = token or find_token(connection) or ""
    return token


get_current_user = _CurrentUserScheme()


# Whoever is signed in; with a scope: Security(get_current_user, scopes=[...]).
CurrentUser = Annotated[AuthenticatedUser, Security(get_current_user)]
AccountOwnerDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[roles.ACCOUNT])]
AdminDep = Annotated[AuthenticatedUser, Security(get_current_user, scopes=[roles.ADMIN])]


async def get_login_origin(connection: HTTPConnection) -> LoginOrigin:
    # uvicorn has put the address there that a trusted proxy names.
    address = connection.client.host if connection.client else None
    sent = connection.headers.get("user-agent", "")[:_USER_AGENT_LENGTH_MAX]
    printable = "".join(character for character in sent if character.isprintable())
    return LoginOrigin(address, printable or None)


LoginOriginDep = Annotated[LoginOrigin, Depends(get_login_origin)]
