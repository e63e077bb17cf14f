"""The pages of the admin app, one class a table; a new table adds its class to `VIEWS`."""

from app.admin.views.audit import AuditView
from app.admin.views.items import ItemView
from app.admin.views.jobs import JobView
from app.admin.views.users import SessionView, UserView

# In the order of the menu.
VIEWS = (UserView, ItemView, SessionView, JobView, AuditView)
