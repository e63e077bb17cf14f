"""Traces by OpenTelemetry's SDK; app/telemetry.py imports this only when they are on."""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk import environment_variables
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Scope

from app.metrics import PROBES
from app.settings import Settings
from server.settings import read_variables

# nginx's $request_id, and what W3C Trace Context takes for a trace: not zeros alone.
_TRACE_ID = re.compile(rb"(?!0{32})[0-9a-f]{32}")
SAMPLED = Decision.RECORD_AND_SAMPLE
_next_trace_id: ContextVar[int] = ContextVar("next_trace_id")


class RequestIds(RandomIdGenerator):
    """The request id is the trace id, so a log line and nginx's lead to the trace."""

    def generate_trace_id(self) -> int:
        return _next_trace_id.get(None) or super().generate_trace_id()


class HideQuery(SpanProcessor):
    """FastAPI copies all of it, and tokens stand there."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if "url.query" in (span.attributes or {}):
            span.set_attribute("url.query", "hidden")


@dataclass(frozen=True)
class RequestTrace:
    """In the state of a request that is traced."""

    id: str

    def add_statement(self, sql: str, seconds: float, error: BaseException | None) -> None:
        """A span of what has just ended; `sql` has placeholders for its values."""
        ended_ns = time.time_ns()
        span = trace.get_tracer(__name__).start_span(
            sql.lstrip().partition(" ")[0],
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.query.text": sql},
            start_time=ended_ns - int(seconds * 1e9),
        )
        if error is not None:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns)


def start_tracing(settings: Settings) -> Callable[[], object]:
    """What to call at the end."""
    # The SDK reads the environment alone; ours may stand in `.env` or in /run/secrets.
    names = (name for name in vars(environment_variables) if name.startswith("OTEL_"))
    for name, value in read_variables(names).items():
        os.environ.setdefault(name.upper(), value)
    named = {
        "service.name": settings.service_name,
        "service.version": settings.service_version,
        "service.instance.id": f"{os.uname().nodename}:{os.getpid()}",
        "deployment.environment.name": settings.environment,
    }
    resource = Resource.create(named).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, id_generator=RequestIds(), shutdown_on_exit=False)
    provider.add_span_processor(HideQuery())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.force_flush


def leave_out(scope: Scope) -> bool:
    """Before FastAPI builds a span: the SDK's own question comes after that, and costs 50 us."""
    provider = trace.get_tracer_provider()
    if scope["path"] in PROBES or not isinstance(provider, TracerProvider):
        return True
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    # nginx lets it through from those whom site/tracing.conf trusts.
    parent = propagate.extract({"traceparent": headers.get(b"traceparent", b"").decode("latin-1")})
    # 0 without one.
    trace_id = trace.get_current_span(parent).get_span_context().trace_id
    if not trace_id and _TRACE_ID.fullmatch(headers.get(b"x-request-id", b"")):
        trace_id = int(headers[b"x-request-id"], 16)
    trace_id = trace_id or RandomIdGenerator().generate_trace_id()
    if provider.sampler.should_sample(parent, trace_id, "").decision is not SAMPLED:
        return True
    _next_trace_id.set(trace_id)
    scope["state"]["trace"] = RequestTrace(trace.format_trace_id(trace_id))
    return False
