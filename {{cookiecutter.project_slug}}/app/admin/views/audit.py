"""The pages of the audit log."""

from app.admin import repository
from app.admin.model_views import AuditedView
from app.admin.models import AuditEntry
from app.admin.repository import Rows


class AuditView(AuditedView, model=AuditEntry):
    name = "Audit entry"
    name_plural = "Audit log"
    icon = "fa-solid fa-clock-rotate-left"
    details_template = "sqladmin/audit_entry.html"
    title_column = "action"
    column_list = [
        AuditEntry.created_at,
        AuditEntry.action,
        AuditEntry.subject,
        AuditEntry.actor_email,
        AuditEntry.client_address,
    ]
    column_details_exclude_list = [AuditEntry.before, AuditEntry.after]
    column_labels = {
        AuditEntry.created_at: "When",
        AuditEntry.actor_id: "Id of who",
        AuditEntry.actor_email: "Who",
        AuditEntry.action: "What",
        AuditEntry.subject: "Table",
        AuditEntry.subject_id: "Row",
        AuditEntry.client_address: "From",
        AuditEntry.request_id: "Request",
    }
    column_searchable_list = [AuditEntry.actor_email, AuditEntry.subject_id]

    def search_placeholder(self) -> str:
        return "the email of who, or the id of a row"

    def search_query(self, stmt: Rows, term: str) -> Rows:
        """By an email, or by the id of a row: both are whole, so both use an index."""
        return repository.of_actor_or_subject(stmt, term.strip().lower())
