"""The pages of the items: the worked example to copy."""

from sqladmin.filters import StaticValuesFilter
from wtforms import DateField, DecimalField, Form, SelectField, StringField, TextAreaField
from wtforms.validators import InputRequired, Optional

from app.admin.forms import conforms_to
from app.admin.model_views import OwnedView
from app.items.models import Item, ItemStatus
from app.items.schemas import Description, Price, Title

_STATUSES = [(status.value, status.value.capitalize()) for status in ItemStatus]


class ItemForm(Form):
    title = StringField("Title", [InputRequired(), conforms_to(Title)])
    description = TextAreaField("Description", [Optional(), conforms_to(Description)])
    status = SelectField("Status", choices=_STATUSES)
    price = DecimalField("Price", [Optional(), conforms_to(Price)])
    due_on = DateField("Due", [Optional()], description="Empty: it is never late.")


class ItemView(OwnedView, model=Item):
    icon = "fa-solid fa-box"
    can_edit = True
    can_delete = True
    figure = "Items"
    title_column = "title"
    column_list = [Item.title, Item.status, Item.due_on, Item.owner, Item.created_at]
    column_details_list = [
        Item.id,
        *(Item.title, Item.description, Item.status, Item.price, Item.due_on, "tags"),
        *(Item.owner, Item.created_at, Item.updated_at),
    ]
    column_searchable_list = [Item.title]
    column_filters = [StaticValuesFilter(Item.status, _STATUSES, "Status")]
    form = ItemForm
