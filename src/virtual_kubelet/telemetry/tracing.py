"""Spans around syncs, API calls and provider calls: OpenTelemetry's if it is installed, nothing otherwise.

Importing this module never imports OpenTelemetry's SDK; whether spans go anywhere is the program's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

_otel: Any
try:
    from opentelemetry import trace as _otel
except ImportError:  # the extra "otel" is not installed
    _otel = None

#: Tracer providers of a program that has set up none.
_UNUSED: Final = () if _otel is None else (_otel.ProxyTracerProvider, _otel.NoOpTracerProvider)

__all__ = ["Tracer", "span", "tracer"]

_NOTHING: AbstractContextManager[Any] = nullcontext()


class Tracer(Protocol):
    """The one method of OpenTelemetry's tracer that this package and its providers use."""

    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, str | int | float | bool] | None = None
    ) -> AbstractContextManager[Any]: ...


class _NoTracer:
    def start_as_current_span(
        self, name: str, *, attributes: Mapping[str, str | int | float | bool] | None = None
    ) -> AbstractContextManager[Any]:
        return _NOTHING


def tracer(name: str = "virtual_kubelet") -> Tracer:
    """The tracer of this program's OpenTelemetry set-up; one that does nothing without it."""
    found: Tracer = _NoTracer() if _otel is None else _otel.get_tracer(name)
    return found


def span(name: str, **attributes: str | int | float | bool) -> AbstractContextManager[Any]:
    """``with span("create_pod", namespace=…):`` records the block, and the exception that leaves it."""
    if _otel is None or isinstance(_otel.get_tracer_provider(), _UNUSED):
        return _NOTHING  # the API alone would still make a context for each span, some 20 us
    block: AbstractContextManager[Any] = _otel.get_tracer("virtual_kubelet").start_as_current_span(
        name, attributes=attributes
    )
    return block
