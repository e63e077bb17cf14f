"""The pages of the jobs in the admin app."""

from uuid import UUID

import pytest
from httpx2 import AsyncClient
from sqlalchemy import select, update

from app.accounts.jobs import send_verification
from app.jobs.models import Job
from app.lifespan import State
from tests.admins import OWN_ORIGIN, entries
from tests.job_runner import run_jobs


@pytest.fixture
async def job_id(state: State, admin_id: UUID) -> str:
    async with state["database"].transaction() as session:
        return str(UUID(int=await send_verification.enqueue(session, user_id=str(admin_id))))


async def set_status(state: State, status: str) -> None:
    async with state["database"].transaction() as session:
        await session.execute(update(Job).values(status=status))


async def get_job(state: State) -> Job:
    async with state["database"].transaction() as session:
        return (await session.scalars(select(Job))).one()


async def act(admin: AsyncClient, action: str, job_id: str) -> None:
    path = f"/admin/job/action/{action}"
    response = await admin.post(path, data={"pks": job_id}, headers=OWN_ORIGIN)
    assert response.status_code < 400


async def test_failed_jobs_are_listed_and_run_when_an_admin_retries_them(
    admin: AsyncClient, state: State, job_id: str
) -> None:
    await set_status(state, "failed")
    assert job_id in (await admin.get("/admin/job/list?status=failed")).text
    assert "accounts.verify-email" in (await admin.get(f"/admin/job/details/{job_id}")).text
    await act(admin, "retry", job_id)
    assert await run_jobs(state["database"], state["settings"]) == ["accounts.verify-email"]
    _, action, before, after = (await entries(state))[-1]
    assert (action, before, after) == ("retry", {"status": "failed"}, {"status": "todo"})


@pytest.mark.parametrize(
    ("status", "cancelled"), [("todo", ("cancelled", False)), ("doing", ("doing", True))]
)
async def test_job_is_cancelled_or_told_to_stop_by_an_admin(
    admin: AsyncClient, state: State, job_id: str, status: str, cancelled: tuple[str, bool]
) -> None:
    await set_status(state, status)
    await act(admin, "cancel", job_id)
    job = await get_job(state)
    assert (job.status, job.abort_requested) == cancelled


async def test_running_job_is_not_queued_again(
    admin: AsyncClient, state: State, job_id: str
) -> None:
    await set_status(state, "doing")
    await act(admin, "retry", job_id)
    assert (await get_job(state)).status == "doing"
