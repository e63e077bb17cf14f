"""Routes that the template does not ship, put into a baked service as its owner would."""

from pathlib import Path

_ROUTES = '''"""Sleeps, streams and stalls."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import StreamingResponse

router = APIRouter()


@router.get("/trial/pid")
async def pid() -> int:
    return os.getpid()


@router.get("/trial/sleep")
async def sleep(seconds: float) -> int:
    print("sleeps", flush=True)
    await asyncio.sleep(seconds)
    return os.getpid()


@router.post("/trial/run")
async def run(request: Request) -> None:
    exec((await request.body()).decode(), {})


@router.post("/trial/stall")
async def stall(seconds: float) -> None:
    time.sleep(seconds)


@router.get("/api/v1/events/trial")
async def stream(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        print("streams", flush=True)
        yield "data: first\\n\\n"
        await request.state.drain.leaving.wait()
        yield "data: last\\n\\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@router.websocket("/api/v1/events/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
'''
# What they write to the log, each time.
SLEEPS, STREAMS = "sleeps\n", "streams\n"
STALLING_LINE = 1 + _ROUTES.splitlines().index("    time.sleep(seconds)")


def add_trial_routes(project: Path) -> Path:
    (project / "app/trial.py").write_text(_ROUTES)
    main = project / "app/main.py"
    text = replace_once(main.read_text(), "import health\n", "import health, trial\n")
    # Before those of the service, one of which has the same path.
    errors = "    errors = problem_responses("
    text = replace_once(text, errors, f"    app.include_router(trial.router)\n{errors}")
    main.write_text(text)
    return project


def replace_once(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)
