"""The service with routes that fail, for tests of what the log and error reports say of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import APIRouter, BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from pydantic import BaseModel
from sqlalchemy import func, select

from app.database import DatabaseDep
from app.main import create_app as create_service

router = APIRouter()
SECRET = "s3cret-that-nobody-may-read"


class Answer(BaseModel):
    number: int


def fail(password: str = SECRET) -> None:
    try:
        raise LookupError(f"Authorization: Bearer {password}")
    except LookupError as error:
        raise RuntimeError(f"postgresql://app:{password}@database/app is away") from error


async def half_an_answer() -> AsyncIterator[str]:
    yield "half"
    fail()


@router.get("/fails")
async def fails() -> None:
    fail()


@router.get("/breaks-off")
async def breaks_off() -> StreamingResponse:
    return StreamingResponse(half_an_answer())


@router.get("/fails-afterwards")
async def fails_afterwards(tasks: BackgroundTasks) -> None:
    tasks.add_task(fail)


@router.get("/answers-nonsense", response_model=Answer)
async def answers_nonsense() -> dict[str, str]:
    return {"number": SECRET}


@router.get("/span")
async def has_span() -> bool:
    return trace.get_current_span().get_span_context().is_valid


@router.websocket("/fails/ws")
async def fails_late(websocket: WebSocket) -> None:
    await websocket.accept()
    fail()


@router.get("/waits")
async def waits(seconds: float) -> None:
    await asyncio.sleep(seconds)


@router.get("/blocks")
async def blocks(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 (that is what it does)


@router.get("/holds")
async def holds(seconds: float, database: DatabaseDep) -> None:
    async with database.transaction() as session:
        await session.execute(select(func.pg_sleep(seconds)))


def create_app() -> FastAPI:
    if Path("broken").exists():
        raise RuntimeError("this release is broken")
    app = create_service()
    app.include_router(router)
    return app
