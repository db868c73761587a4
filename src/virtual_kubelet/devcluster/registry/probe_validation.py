"""What the API server refuses in probes and hooks (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import http_header_problems, port_name_problems
from virtual_kubelet.devcluster.registry.value_validation import NOT_NEGATIVE, PORT_RANGE
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["validate_probes"]

_SCHEMES: Final = ("HTTP", "HTTPS")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_PERIODS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def validate_probes(container: dict[str, Any], where: str, grace_period: int) -> list[FieldError]:
    """Hooks and probes of containers that may have some."""
    errors: list[FieldError] = []
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        if hook in lifecycle:
            errors += _handler(lifecycle[hook], f"{where}.lifecycle.{hook}", grace_period)
    for name in _PROBES:
        if name in container:
            errors += _probe(container[name], f"{where}.{name}", name, grace_period)
    return errors


def _probe(probe: dict[str, Any], where: str, name: str, grace_period: int) -> list[FieldError]:
    errors = _handler(probe, where, grace_period)
    for field in _PERIODS:
        if probe.get(field, 0) < 0:
            errors.append(field_invalid(f"{where}.{field}", probe[field], NOT_NEGATIVE))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(field_invalid(f"{where}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if name == "readinessProbe":
        if grace is not None:
            detail = "must not be set for readinessProbes"
            errors.append(field_invalid(f"{where}.terminationGracePeriodSeconds", grace, detail))
    elif probe.get("successThreshold", 0) != 1:
        errors.append(field_invalid(f"{where}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    return errors


def _handler(handler: dict[str, Any], where: str, grace_period: int) -> list[FieldError]:
    kinds = [kind for kind in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if kind in handler]
    if not kinds:
        return [required(where, "must specify a handler type")]
    kind = kinds[0]
    errors = _one_handler(kind, handler[kind] or {}, f"{where}.{kind}", grace_period)
    return errors + [field_forbidden(f"{where}.{k}", "may not specify more than 1 handler type") for k in kinds[1:]]


def _one_handler(kind: str, handler: dict[str, Any], where: str, grace_period: int) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "exec":
        return [] if handler.get("command") else [required(f"{where}.command")]
    if kind == "sleep":
        seconds = handler.get("seconds", 0)
        if not 0 <= seconds <= grace_period:
            detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
            errors.append(field_invalid(where, seconds, detail))
        return errors
    if kind == "httpGet" and not handler.get("path"):
        errors.append(required(f"{where}.path"))
    port = handler.get("port", 0)
    if isinstance(port, int):
        if not 1 <= port <= 65535:
            errors.append(field_invalid(f"{where}.port", port, PORT_RANGE))
    else:
        errors += [field_invalid(f"{where}.port", port, problem) for problem in port_name_problems(port)]
    if kind == "httpGet":
        if handler.get("scheme", "") not in _SCHEMES:
            errors.append(unsupported_value(f"{where}.scheme", handler.get("scheme", ""), _SCHEMES))
        for header in handler.get("httpHeaders") or ():
            name = header.get("name", "")
            errors += [field_invalid(f"{where}.httpHeaders", name, problem) for problem in http_header_problems(name)]
    return errors
