"""Probes: alive without any I/O, ready only when a query is answered."""

import asyncio

import structlog
from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import select

from app.database import DatabaseDep
from app.errors import AppError, UnavailableError
from app.settings import READY_WITHIN_SECONDS, SettingsDep

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


class Version(BaseModel):
    name: str
    version: str
    git_revision: str | None


@router.get("/livez")
async def livez() -> Health:
    """The process answers; touches nothing else, so a lost database restarts nobody."""
    return Health(status="ok")


@router.get("/readyz")
async def readyz(request: Request, database: DatabaseDep) -> Health:
    """A query was answered within one second; 503 otherwise and while draining."""
    if request.state.drain.stopping:
        raise UnavailableError("This worker is leaving.")
    try:
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            await database.read_one(select(1))
    except (TimeoutError, AppError) as error:
        log.warning("not ready", reason=str(error) or "no answer within 1 s")
        raise UnavailableError("The database does not answer.") from error
    return Health(status="ok")


@router.get("/version")
async def version(settings: SettingsDep) -> Version:
    """What runs here."""
    return Version(
        name=settings.service_name,
        version=settings.service_version,
        # It tells strangers which mistakes are in it; admins see it on the home page of their app.
        git_revision=None if settings.environment == "production" else settings.git_revision,
    )
