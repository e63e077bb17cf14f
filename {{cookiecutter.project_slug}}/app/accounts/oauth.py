"""OAuth 2 in the words of its clients: the forms they send and the document they begin with."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from app.accounts import roles, sessions
from app.accounts.authentication import Authenticator, Login, LoginOrigin
from app.accounts.schemas import TokenPair, read_email
from app.accounts.tokens import TokenKeys
from app.errors import OAuthError, UnauthorizedError
from app.openapi import TOKEN_PATH
from app.settings import Settings

_GRANTS = ("password", "refresh_token")


class _ClientForm(BaseModel):
    """Clients are public: what they send as `client_id` and `client_secret`, or in a Basic header,
    proves nothing and is not looked at."""

    model_config = ConfigDict(extra="ignore")


class TokenForm(_ClientForm):
    """RFC 6749, 4.3.2 and 6; what is empty counts as not sent (3.2)."""

    grant_type: str = Field("password", json_schema_extra={"enum": list(_GRANTS)})
    username: str | None = Field(None, description="The email, for the grant `password`.")
    password: str | None = Field(None, json_schema_extra={"format": "password"})
    refresh_token: str | None = Field(None, description="For the grant `refresh_token`.")
    scope: str = Field("", description="Fewer scopes than one may have, with spaces.")


class RevocationForm(_ClientForm):
    """RFC 7009, 2.1. `token_type_hint` would only make the search shorter."""

    token: str


class ServerMetadata(BaseModel):
    """RFC 8414, 2; only what exists."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    scopes_supported: list[str]
    # Required; those of an authorization endpoint, and there is none.
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]


async def refuse_repeated(request: Request) -> None:
    form = await request.form()
    if len(form) != len(form.multi_items()):
        raise OAuthError("invalid_request", "A parameter is sent more than once.")


async def issue_tokens(
    authenticator: Authenticator, keys: TokenKeys, origin: LoginOrigin, form: TokenForm
) -> TokenPair:
    if form.grant_type not in _GRANTS:
        raise OAuthError("unsupported_grant_type", f"It is one of {', '.join(_GRANTS)}.")
    scopes = tuple(form.scope.split())
    if form.grant_type == "refresh_token":
        token = _required(form, "refresh_token")
        try:
            return await sessions.refresh(authenticator.database, keys, origin, token, scopes)
        except UnauthorizedError as error:
            raise OAuthError("invalid_grant", error.detail) from error
    email = read_email(_required(form, "username"))
    return await sessions.log_in(
        authenticator, keys, Login(email, _required(form, "password"), origin, scopes)
    )


def _required(form: TokenForm, name: str) -> str:
    value = getattr(form, name)
    if value is None:
        raise OAuthError("invalid_request", f"The grant {form.grant_type} needs {name}.")
    return str(value)


def describe_server(settings: Settings) -> ServerMetadata:
    issuer = _issuer(settings)
    return ServerMetadata(
        issuer=issuer,
        token_endpoint=f"{issuer}{TOKEN_PATH}",
        revocation_endpoint=f"{issuer}/api/v1/auth/revoke",
        jwks_uri=f"{issuer}/.well-known/jwks.json",
        scopes_supported=list(roles.SCOPES),
        response_types_supported=[],
        grant_types_supported=list(_GRANTS),
        token_endpoint_auth_methods_supported=["none"],
        revocation_endpoint_auth_methods_supported=["none"],
    )


def issuer_path(settings: Settings) -> str:
    return urlsplit(_issuer(settings)).path


def _issuer(settings: Settings) -> str:
    # Who has written ROOT_PATH into PUBLIC_URL too does not get it twice.
    address = str(settings.public_url).rstrip("/").removesuffix(settings.root_path)
    return address + settings.root_path
