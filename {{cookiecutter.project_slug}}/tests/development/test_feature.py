"""`make feature` and `make remove-example`: names and small changes to files people own."""

import ast
from importlib import import_module

import pytest

from development import DevelopmentError
from development.feature import FILES, Feature, name_feature
from development.source import add_constants, add_import, append_to, remove_from

OWN = """from app import health

FIRST = "first"

# What a person wrote here stays.
ALL = (
    FIRST,
    "é",  # their own
)
TEXTS = {FIRST: "The first."}
"""


@pytest.mark.parametrize(
    ("plural", "singular", "class_name"),
    [
        # Words that no service has a feature for.
        ("zebra_crossings", "zebra_crossing", "ZebraCrossing"),
        ("quaggas", "quagga", "Quagga"),
        ("okapises", "okapi", "Okapi"),
    ],
)
def test_feature_is_named_in_singular_and_as_a_class(
    plural: str, singular: str, class_name: str
) -> None:
    feature = name_feature(plural, singular if plural == "okapises" else "")
    assert (feature.singular, feature.class_name) == (singular, class_name)


def test_file_of_a_feature_is_named_as_its_package() -> None:
    feature = Feature("delivery_slots", "delivery_slot")
    assert feature.rename("app/things/models.py") == "app/delivery_slots/models.py"


def test_name_is_written_as_its_place_asks() -> None:
    text = 'get_thing(things, Thing, THINGS_READ, "/things") # of {things}, no {thing}'
    assert Feature("delivery_slots", "delivery_slot").rename(text) == (
        "get_delivery_slot(delivery_slots, DeliverySlot, DELIVERY_SLOTS_READ,"
        ' "/delivery-slots") # of delivery slots, no delivery slot'
    )


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "lowercase words"),
        (["delivery-slots"], "lowercase words"),
        (["Invoices"], "lowercase words"),
        (["../invoices"], "lowercase words"),
        (["x" * 41 + "s"], "too long"),
        (["invoice"], "SINGULAR"),
        (["categories"], "SINGULAR"),
        (["status"], "SINGULAR"),
        (["sheep", "sheep"], "both plural and singular"),
        (["lambdas"], "keyword"),
        (["orders"], "reserved word"),
        (["sessions"], "table or a model"),
        (["accounts"], "there already"),
        (["routers"], "something else"),
    ],
)
def test_name_is_refused_when_it_would_not_work(names: list[str], reason: str) -> None:
    with pytest.raises(DevelopmentError, match=reason):
        name_feature(*names)


def test_own_file_keeps_its_layout_when_something_is_added() -> None:
    source = append_to(OWN, "ALL", "SECOND")
    source = append_to(source, "TEXTS", 'SECOND: "The second."')
    source = add_constants(source, ['SECOND = "second"'])
    source = add_import(source, "from app import second")
    assert source == (
        OWN.replace('"é",', '"é", SECOND,')
        .replace('first."}', 'first.", SECOND: "The second."}')
        .replace('FIRST = "first"\n', 'FIRST = "first"\nSECOND = "second"\n')
        .replace("from app", "from app import second\nfrom app")
    )


@pytest.mark.parametrize("name", ["ALL", "TEXTS"])
def test_what_was_added_is_removed_again(name: str) -> None:
    added = append_to(OWN, name, "OTHER" if name == "ALL" else "OTHER: 1")
    assert remove_from(added, name, "OTHER") == OWN


def test_change_is_refused_when_its_place_is_not_found() -> None:
    with pytest.raises(LookupError, match="ROUTERS"):
        append_to(OWN, "ROUTERS", "parcels.router")


def test_files_of_a_feature_import_what_exists() -> None:
    """`make check` leaves them out, because the package they import from is not there yet."""
    missing = [
        f"{path.name}: {node.module}.{alias.name}"
        for path in FILES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and "things" not in node.module
        for alias in node.names
        if not alias.name.startswith("THINGS_")
        and not hasattr(import_module(node.module), alias.name)
    ]
    assert missing == []
