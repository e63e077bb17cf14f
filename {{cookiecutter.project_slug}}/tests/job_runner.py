"""Runs the jobs that a test has enqueued, in the test's own database and one after the other."""

from procrastinate.jobs import Status
from procrastinate.manager import JobManager

from app.database import Database
from app.jobs.process import Connector
from app.jobs.queue import TASKS, Work
from app.mail import build_mailer
from app.settings import Settings


async def run_jobs(database: Database, settings: Settings) -> list[str]:
    """The names of those that ran; the first that fails fails the test."""
    manager = JobManager(Connector(database))
    worker_id = await manager.register_worker()
    work, names = Work(database, settings, build_mailer(settings)), list[str]()
    while job := await manager.fetch_job(None, worker_id):
        await TASKS[job.task_name].run(work, **job.task_kwargs)
        await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
        names.append(job.task_name)
    return names
