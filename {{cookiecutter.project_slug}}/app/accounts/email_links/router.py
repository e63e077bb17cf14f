"""Routes of the links sent by email; the next hop is `service.py`."""

from typing import Annotated, cast

from fastapi import APIRouter, BackgroundTasks, Depends, Request, status

from app.accounts.client import ClientDep
from app.accounts.dependencies import AccountOwnerDep, PasswordsDep
from app.accounts.email_links import service
from app.accounts.email_links.service import EmailLinks
from app.accounts.schemas import EmailVerification, PasswordReset, PasswordResetRequest
from app.database import DatabaseDep
from app.errors import problem_responses

router = APIRouter(prefix="/auth", tags=["auth"])


async def get_email_links(request: Request) -> EmailLinks:
    return cast("EmailLinks", request.state.email_links)


EmailLinksDep = Annotated[EmailLinks, Depends(get_email_links)]


@router.post(
    "/verify-email/request",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(401, 403, 429),
)
async def request_email_verification(
    database: DatabaseDep,
    links: EmailLinksDep,
    caller: AccountOwnerDep,
    client: ClientDep,
    background: BackgroundTasks,
) -> None:
    """Send the caller another link that verifies the email address."""
    await service.admit_request(database, caller.email, client)
    background.add_task(service.send_verification, database, links, caller.id, caller.email)


@router.post(
    "/verify-email", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(403)
)
async def verify_email(database: DatabaseDep, body: EmailVerification) -> None:
    """Show with the token of a link that the email address is one's own."""
    await service.verify_email(database, body.token.get_secret_value())


@router.post(
    "/password-reset/request",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problem_responses(429),
)
async def request_password_reset(
    database: DatabaseDep,
    links: EmailLinksDep,
    client: ClientDep,
    body: PasswordResetRequest,
    background: BackgroundTasks,
) -> None:
    """Send a link to reset the password; the answer is the same when nobody has the address."""
    await service.admit_request(database, body.email, client)
    background.add_task(service.send_password_reset, database, links, body.email)


@router.post(
    "/password-reset", status_code=status.HTTP_204_NO_CONTENT, responses=problem_responses(403)
)
async def reset_password(
    database: DatabaseDep, passwords: PasswordsDep, client: ClientDep, body: PasswordReset
) -> None:
    """Choose a new password with the token of a link; all sessions end."""
    token, password = body.token.get_secret_value(), body.new_password.get_secret_value()
    await service.reset_password(database, passwords, client, token, password)
