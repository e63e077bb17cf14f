"""Each pair in the order of timeouts is caught when it is broken, and only that one."""

import pytest

from doctor.finding import parse_bytes, parse_seconds
from doctor.timeouts import Order, Value, broken_orders, read_table

TIMEOUTS, ORDERS = read_table().timeouts, read_table().orders
DERIVED = {"drain", "last_request"}
DEFAULTS = {
    name: [Value(timeout.default_seconds, timeout.name)]
    for name, timeout in TIMEOUTS.items()
    if name not in DERIVED
}
SIMPLE = [order for order in ORDERS if not DERIVED & {order.shorter, order.longer}]


def test_defaults_are_in_order() -> None:
    assert broken_orders(DEFAULTS) == []


def test_every_timeout_is_in_an_order() -> None:
    assert {name for order in ORDERS for name in (order.shorter, order.longer)} == set(TIMEOUTS)


@pytest.mark.parametrize("order", SIMPLE, ids=lambda order: f"{order.shorter}<{order.longer}")
def test_order_is_caught_when_both_are_equal(order: Order) -> None:
    values = {order.shorter: [Value(9, "a:1")], order.longer: [Value(9, "b:2")]}
    [finding] = broken_orders(values)
    assert finding.why == order.why
    assert finding.where in ("a:1", "b:2")


def test_last_request_may_take_all_of_the_drain() -> None:
    values = {name: DEFAULTS[name] for name in ("lame_duck", "deadline", "graceful")}
    assert broken_orders(values) == []
    [finding] = broken_orders(values | {"graceful": [Value(29, "gunicorn.conf.py:31")]})
    assert finding.where == "gunicorn.conf.py:31"


def test_the_one_that_left_its_default_is_blamed() -> None:
    [finding] = broken_orders(DEFAULTS | {"proxy_read": [Value(20, "proxy.conf:85")]})
    assert finding.where == "proxy.conf:85"
    assert finding.fix == "Write proxy_read_timeout above 25 s; it is 30 s by default."


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("60s", 60),
        ("2500ms", 2.5),
        ("1h", 3600),
        ("1m30s", 90),
        ("1min 30s", 90),
        ("infinity", float("inf")),
        ("", None),
        ("$timeout", None),
        ("5 apples", None),
    ],
)
def test_seconds_are_read(text: str, seconds: float | None) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1m", 2**20), ("64k", 2**16), ("512Mi", 2**29), ("1G", 2**30), ("x", None)]
)
def test_bytes_are_read(text: str, size: int | None) -> None:
    assert parse_bytes(text) == size
