"""Ports that are taken or nonsense are refused before anything starts."""

import socket

import pytest

from development import ports


def test_port_is_refused_when_somebody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ports.PortError, match=f"Port {port} .* set HTTP_PORT to a free port"):
            ports.check_free("HTTP_PORT", port, ["127.0.0.1"])


@pytest.mark.parametrize("value", ["", "abc", "-1", "0", "65536", "80 80"])
def test_port_is_refused_when_it_is_none(value: str) -> None:
    with pytest.raises(ports.PortError, match=r"APP_PORT .* from 1 to 65535"):
        ports.read_port({"APP_PORT": value}, "APP_PORT", 8000)


def test_port_is_the_default_when_it_is_not_set() -> None:
    assert ports.read_port({}, "APP_PORT", 8000) == 8000
