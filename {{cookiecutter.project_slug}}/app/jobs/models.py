"""The table of the jobs as the admin app sees it; procrastinate makes and fills it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Dialect, Enum, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Model

STATUSES = ("todo", "doing", "succeeded", "failed", "cancelled", "aborting", "aborted")
FINISHED = {"failed", "cancelled", "aborted"}
CANCELLABLE = {"todo", "doing"}


class JobId(TypeDecorator[UUID]):
    """The number of a job, as a UUID like the ids of all other rows."""

    impl = BigInteger
    cache_ok = True
    python_type = UUID

    def process_bind_param(self, value: UUID | None, _dialect: Dialect) -> int | None:
        # No sequence comes that far: an id that is no job's finds none.
        return None if value is None else value.int % 2**63

    def process_result_value(self, value: int | None, _dialect: Dialect) -> UUID | None:
        return None if value is None else UUID(int=value)


class Job(Model):
    __tablename__ = "procrastinate_jobs"

    id: Mapped[UUID] = mapped_column(JobId, primary_key=True)
    task_name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Enum(*STATUSES, name="procrastinate_job_status"))
    attempts: Mapped[int]
    # None: as soon as possible.
    scheduled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    abort_requested: Mapped[bool]
    args: Mapped[dict[str, object]] = mapped_column(JSONB)
