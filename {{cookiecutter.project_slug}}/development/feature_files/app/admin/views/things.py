"""The pages of the {things}."""

from wtforms import Form, StringField
from wtforms.validators import InputRequired

from app.admin.forms import conforms_to
from app.admin.model_views import OwnedView
from app.things.models import Thing
from app.things.schemas import Name


class ThingForm(Form):
    name = StringField("Name", [InputRequired(), conforms_to(Name)])


class ThingView(OwnedView, model=Thing):
    icon = "fa-solid fa-table"
    can_edit = True
    can_delete = True
    name_plural = figure = "{Things}"
    title_column = "name"
    column_list = [Thing.name, Thing.owner, Thing.created_at]
    column_searchable_list = [Thing.name]
    form = ThingForm
