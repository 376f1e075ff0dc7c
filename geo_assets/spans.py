"""Spans of OpenTelemetry: one trace from the message, over the run and its files, to the calls of sandboxed children.

Here: beginning a span, its parent in another thread or process, and sending. Not here: the ids of lines
(`correlation.py`), which carry the trace from process to process.

Off until GEO_ASSETS_OTLP_ENDPOINT is set: nothing is sent then, and the packages of the extra `otel` are not imported.
The provider is ours alone: what else is in the process traces, or does not, as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geo_assets import __version__
from geo_assets.errors import GeoAssetsError
from geo_assets.extras import insist_on
from geo_assets.redaction import redacted

if TYPE_CHECKING:
    from geo_assets.settings import Settings

#: Seconds for one request to the collector, and milliseconds that a process waits at its end for the last spans.
_PATIENCE, _LAST_MS = 5, 5000

_NAME = "geo_assets"


class _Tracing:
    """What this process sends spans by; nothing until it was told to."""

    provider: Any = None
    tracer: Any = None
    #: Under which the threads of this process begin spans: that of its run.
    root: Any = None


def configure(settings: Settings) -> None:
    """Send spans from now on, if the settings say where to.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED.
    """
    if settings.otlp_endpoint is None or _Tracing.tracer is not None:
        return
    insist_on("otel", "GEO_ASSETS_OTLP_ENDPOINT: ")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": _NAME, "service.version": __version__}))
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=_PATIENCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _Tracing.provider, _Tracing.tracer = provider, provider.get_tracer(_NAME, __version__)


def flush() -> None:
    """Send what has ended, in a process that may end without notice."""
    if _Tracing.provider is not None:
        _Tracing.provider.force_flush(_LAST_MS)


@contextmanager
def span(name: str, *, parent: str | None = None, **attributes: str | int | None) -> Iterator[str | None]:
    """Trace what is done meanwhile.

    Args:
        name: of the span.
        parent: the traceparent of the span that asked for it, in another process; None: the one that this thread, or
            this process, is in.
        attributes: of the span.

    Yields:
        Its traceparent, for another process; without tracing that of the parent.
    """
    if _Tracing.tracer is None:
        yield parent
        return
    from opentelemetry.trace import Status, StatusCode

    with _Tracing.tracer.start_as_current_span(
        name,
        context=_context(parent),
        attributes={key: redacted(str(value)) for key, value in attributes.items() if value is not None},
        record_exception=False,  # its text, and its traceback, may hold what is to be in no span
        set_status_on_exception=False,
    ) as begun:
        try:
            yield _traceparent(begun)
        except BaseException as error:
            code = error.code if isinstance(error, GeoAssetsError) else type(error).__name__
            begun.set_status(Status(StatusCode.ERROR, f"{code}: {redacted(str(error))[:500]}"))
            raise


@contextmanager
def span_of_process(name: str, *, parent: str | None = None, **attributes: str | int | None) -> Iterator[None]:
    """As `span`, for all threads of this process; what it sends has arrived at its end."""
    from_before = _Tracing.root
    try:
        with span(name, parent=parent, **attributes):
            if _Tracing.tracer is not None:
                from opentelemetry.context import get_current

                _Tracing.root = get_current()
            yield
    finally:
        _Tracing.root = from_before
        flush()


def _context(parent: str | None) -> Any:
    """In which a span begins."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if parent:
        return TraceContextTextMapPropagator().extract({"traceparent": parent})
    return None if get_current_span().get_span_context().is_valid else _Tracing.root


def _traceparent(begun: Any) -> str:
    of = begun.get_span_context()
    return f"00-{of.trace_id:032x}-{of.span_id:016x}-{int(of.trace_flags):02x}"
