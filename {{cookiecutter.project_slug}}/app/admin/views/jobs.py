"""The pages of the jobs: those that wait, run, have failed or were cancelled."""

from typing import cast

from sqladmin.filters import StaticValuesFilter

from app.admin import service
from app.admin.model_views import Action, AuditedView
from app.jobs.models import CANCELLABLE, FINISHED, STATUSES, Job

_STATUSES = [(status, status.capitalize()) for status in STATUSES]


class JobView(AuditedView, model=Job):
    icon = "fa-solid fa-gears"
    figure = "Failed jobs"
    figure_condition = Job.status == "failed"
    title_column = "task_name"
    column_list = [Job.id, Job.task_name, Job.status, Job.attempts, Job.scheduled_at]
    column_labels = {Job.id: "Job", Job.task_name: "Task", Job.args: "Arguments"}
    column_searchable_list = [Job.task_name]
    column_filters = [StaticValuesFilter(Job.status, _STATUSES, "Status")]
    actions = {
        "retry": Action(
            "Retry",
            "queued again",
            "They run as soon as a process is free; the log tells why they failed.",
            service.retry_jobs,
            lambda job: cast("Job", job).status in FINISHED,
        ),
        "cancel": Action(
            "Cancel",
            "cancelled",
            "Those that wait never run; those that run are interrupted within seconds.",
            service.cancel_jobs,
            lambda job: cast("Job", job).status in CANCELLABLE,
        ),
    }
