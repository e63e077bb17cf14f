"""Traces: one from nginx to SQL, nothing secret in it, and nobody waits for a dead collector."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.settings import Settings
from development import nginx
from development.ports import free_port
from tests.conftest import PASSWORD, empty_tables
from tests.edge import lines_with
from tests.failing_app import SECRET
from tests.servers import (
    ROOT,
    SERVICE,
    Gunicorn,
    running_nginx,
    service_environment,
    start_gunicorn,
    wait_until,
)
from tests.telemetry import Receiver, attributes, dead_receiver, running_receiver

USER = {"email": "ada@example.com", "password": PASSWORD}
TRACED_ELSEWHERE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
# Nothing is sent before the worker ends.
LATER = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}

Serve = Callable[..., Gunicorn]


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def serve(settings: Settings, migrated: None, tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as running:

        def serve(collector: Receiver, *application: str, **environment: str) -> Gunicorn:
            endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
            variables = service_environment(settings) | endpoint | LATER | environment
            arguments = (*SERVICE, *application)
            gunicorn = running.enter_context(start_gunicorn(tmp_path, variables, *arguments))
            gunicorn.wait_until_ready()
            return gunicorn

        yield serve
    empty_tables(settings)


def lines(gunicorn: Gunicorn, event: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in gunicorn.log().splitlines()]
    return [line for line in found if line["event"] == event]


def named(spans: list[Span], name: str) -> Span:
    [span] = [span for span in spans if span.name == name]
    return span


@pytest.mark.system
def test_trace_leads_from_nginx_to_sql_and_its_id_is_in_both_logs(
    serve: Serve, collector: Receiver, tmp_path: Path
) -> None:
    gunicorn, port = serve(collector), free_port()
    nginx.prepare(tmp_path, port, gunicorn.port)
    with running_nginx(tmp_path, port):
        answer = httpx2.post(
            f"http://localhost:{port}/api/v1/users?token={SECRET}", json=USER, timeout=10
        )
    request_id = answer.headers["X-Request-ID"]
    gunicorn.stop()
    spans = [span for span in collector.spans() if span.trace_id.hex() == request_id]
    request, statement = named(spans, "POST /api/v1/users"), named(spans, "INSERT")
    assert not request.parent_span_id
    assert statement.parent_span_id == request.span_id
    assert attributes(statement)["db.query.text"].startswith("INSERT INTO app_user")
    [line] = lines(gunicorn, "request")
    assert (line["trace_id"], line["request_id"]) == (request_id, request_id)
    [line] = [json.loads(line) for line in lines_with(tmp_path / "logs/access.log", request_id)]
    assert line["trace_id"] == request_id
    sent = b"".join(collector.bodies)
    assert b"ada@example.com" not in sent
    assert SECRET.encode() not in sent


@pytest.mark.system
def test_trace_of_a_trusted_caller_goes_on_and_a_replaced_worker_sends_it(
    serve: Serve, collector: Receiver, tmp_path: Path
) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    gunicorn, port = serve(collector, **sampler), free_port()
    nginx.prepare(tmp_path, port, gunicorn.port)
    (tmp_path / "site/tracing.conf").write_text("geo $trusts_traceparent { default 1; }")
    sent = {"traceparent": f"00-{TRACED_ELSEWHERE}-{PARENT}-01"}
    with running_nginx(tmp_path, port):
        for headers in ({}, sent, {"traceparent": "00-forged"}):
            httpx2.get(f"http://localhost:{port}/version", headers=headers, timeout=10)
        [edge_line] = lines_with(tmp_path / "logs/access.log", TRACED_ELSEWHERE)
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: bool(collector.spans()))
    [span] = collector.spans()
    assert (span.name, span.parent_span_id.hex()) == ("GET /version", PARENT)
    _, line, _ = lines(gunicorn, "request")
    assert line["trace_id"] == TRACED_ELSEWHERE
    assert line["request_id"] == json.loads(edge_line)["request_id"] != TRACED_ELSEWHERE


@pytest.mark.system
@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_nobody_waits_when_the_receivers_are_dead(serve: Serve, kind: str) -> None:
    with dead_receiver(kind) as receiver:
        settings = {"SENTRY_DSN": receiver.dsn, "SERVER_LAME_DUCK_SECONDS": "0"}
        gunicorn = serve(receiver, "tests.failing_app:create_app()", **settings)
        for _ in range(3):
            assert gunicorn.get("/fails").status_code == httpx2.codes.INTERNAL_SERVER_ERROR
        durations = [float(str(line["duration_ms"])) for line in lines(gunicorn, "request")]
        assert min(durations) < 1000
        began = time.monotonic()
        assert gunicorn.stop() == 0
        assert time.monotonic() - began < 5
        assert "did not end in time" not in gunicorn.log()


@pytest.mark.system
@pytest.mark.parametrize(("sampler", "is_built"), [("always_off", False), ("always_on", True)])
def test_span_is_built_only_when_the_sampler_takes_the_request(
    serve: Serve, collector: Receiver, sampler: str, is_built: bool
) -> None:
    gunicorn = serve(collector, "tests.failing_app:create_app()", OTEL_TRACES_SAMPLER=sampler)
    assert gunicorn.get("/span").json() is is_built


def said_after_start(question: str, **settings: str) -> str:
    code = (
        "import asyncio, sys, app.main, app.telemetry as t;"
        "from app.settings import Settings;"
        "s = Settings(database_url='postgresql://a@127.0.0.1/a', secret_key='x' * 32);"
        "app.main.create_app(s);"
        "asyncio.run(t.running_telemetry(s).__aenter__());"
    )
    command = [sys.executable, "-c", f"{code}print({question})"]
    done = subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.system
def test_nothing_is_imported_when_it_is_off() -> None:
    names = "('opentelemetry.sdk', 'sentry_sdk')"
    assert said_after_start(f"[m for m in sys.modules if m.startswith({names})]") == "[]"


@pytest.mark.system
def test_nothing_is_patched_when_errors_are_reported() -> None:
    question = "[*__import__('sentry_sdk').get_client().integrations]"
    assert said_after_start(question, SENTRY_DSN="http://key@127.0.0.1:1/1") == "['dedupe']"
