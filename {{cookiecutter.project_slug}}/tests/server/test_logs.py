"""What never reaches the log, whoever writes the line."""

import io
import logging
import logging.config

import pytest

from server.logs import logging_config
from server.settings import LogSettings


def test_query_string_is_cut_off_when_uvicorn_tells_of_a_websocket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = io.StringIO()
    monkeypatch.setattr("server.logs.standard_output", lambda: output)
    config = logging_config(LogSettings(log_format="json"))
    # Only its handlers: the loggers of the tests stay as they are.
    handlers = {name: config[name] for name in ("version", "formatters", "filters", "handlers")}
    logger = logging.getLogger("uvicorn.error")
    logging.config.dictConfig(
        {
            **handlers,
            "incremental": False,
            "disable_existing_loggers": False,
            "loggers": {"uvicorn.error": {"handlers": ["stdout"], "level": "INFO"}},
        }
    )
    try:
        logger.info('%s - "WebSocket %s" [accepted]', "192.0.2.1:5", "/ws?token=secret")
    finally:
        logger.handlers.clear()
    line = output.getvalue()
    assert "WebSocket /ws" in line
    assert "secret" not in line
