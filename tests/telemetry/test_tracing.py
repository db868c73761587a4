from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from virtual_kubelet.telemetry import tracing


def test_spans_go_to_the_programs_tracer_with_attributes_and_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with tracing.span("outer", pod="p"):
        with pytest.raises(ValueError, match="no"), tracing.span("inner"):
            raise ValueError("no")
    inner, outer = exporter.get_finished_spans()
    assert (outer.name, dict(outer.attributes or {})) == ("outer", {"pod": "p"})
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert [event.name for event in inner.events] == ["exception"]


def test_with_opentelemetry_but_no_set_up_spans_do_nothing_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing.span("x") is tracing.span("y")
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    with tracing.span("x"):
        assert trace.get_current_span().get_span_context().is_valid


def test_without_opentelemetry_spans_do_nothing() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from virtual_kubelet.telemetry import tracing\n"
        "with tracing.span('x', a=1), tracing.tracer().start_as_current_span('y'): print('ran')\n"
        "assert tracing.span('x') is tracing.span('y')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "ran\n"
