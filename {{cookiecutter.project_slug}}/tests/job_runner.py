"""Runs the jobs that a test has enqueued, in the test's own database and one after the other."""

from procrastinate import JobContext
from procrastinate.jobs import Status
from procrastinate.manager import JobManager

from app.database import Database
from app.jobs.queue import SessionConnector, Work, queue
from app.mail import build_mailer
from app.settings import Settings


async def run_jobs(database: Database, settings: Settings) -> list[str]:
    """The names of those that ran; the first that fails fails the test."""
    manager = JobManager(SessionConnector(database))
    worker_id = await manager.register_worker()
    work, names = Work(database, settings, build_mailer(settings)), list[str]()
    while job := await manager.fetch_job(None, worker_id):
        context = JobContext(
            app=queue,
            job=job,
            start_timestamp=0,
            additional_context={"work": work},
            abort_reason=lambda: None,
        )
        await queue.tasks[job.task_name](context, **job.task_kwargs)
        await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
        names.append(job.task_name)
    return names
