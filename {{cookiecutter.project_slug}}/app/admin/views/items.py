"""The pages of the items: the worked example to copy."""

from pydantic import TypeAdapter
from wtforms import Form, StringField, TextAreaField
from wtforms.validators import InputRequired, Optional

from app.admin.formatters import link_to_user
from app.admin.forms import WIDE, conforms_to
from app.admin.model_views import OwnedView
from app.items.models import Item
from app.items.schemas import Description, Title


class ItemForm(Form):
    title = StringField("Title", [InputRequired(), conforms_to(TypeAdapter(Title))], render_kw=WIDE)
    description = TextAreaField(
        "Description",
        [Optional(), conforms_to(TypeAdapter(Description))],
        render_kw=WIDE | {"rows": "8"},
    )


class ItemView(OwnedView, model=Item):
    icon = "fa-solid fa-box"
    can_edit = True
    can_delete = True
    title_column = "title"
    owner_column = "owner_id"
    column_list = [Item.title, Item.owner_id, Item.created_at, Item.updated_at]
    column_labels = {
        Item.id: "Id",
        Item.title: "Title",
        Item.description: "Description",
        Item.owner_id: "Owner",
        Item.created_at: "Created",
        Item.updated_at: "Changed",
    }
    column_searchable_list = [Item.title]
    column_formatters = {Item.owner_id: link_to_user}
    column_formatters_detail = {Item.owner_id: link_to_user}
    form = ItemForm
    form_columns = [Item.title, Item.description]
