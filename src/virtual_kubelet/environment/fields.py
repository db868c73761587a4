"""The downward API: ``fieldRef`` and ``resourceFieldRef`` (pkg/fieldpath, pkg/api/v1/resource). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from virtual_kubelet.environment.references import containers_of
from virtual_kubelet.objects.core_v1 import Container, Pod, ResourceFieldSelector
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["FieldError", "UnknownAddressError", "UnknownPodAddressError", "field_value", "resource_value"]

_SUBSCRIPT: Final = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]\Z", re.DOTALL)


class FieldError(ValueError):
    """The field cannot be had here, now or later."""


class UnknownAddressError(FieldError):
    """An address of the node or the pod is not known."""


class UnknownPodAddressError(UnknownAddressError):
    """The pod's address is not known before it runs with this provider."""


def field_value(pod: Pod, path: str, *, pod_ips: Sequence[str] | None, host_ips: Sequence[str]) -> str:
    """The value of a ``fieldPath``. Raises ``FieldError``."""
    meta, spec = pod.metadata, pod.spec
    subscript = _SUBSCRIPT.match(path)
    if subscript is not None:
        table = meta.labels if subscript[1] == "metadata.labels" else meta.annotations
        return (table or {}).get(subscript[2], "")
    plain = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": spec.node_name,
        "spec.host": spec.node_name,
        "spec.serviceAccountName": spec.service_account_name,
        "spec.restartPolicy": spec.restart_policy,
        "spec.schedulerName": spec.scheduler_name,
        "status.phase": pod.status.phase,
    }
    if path in plain:
        return plain[path] or ""
    if path == "metadata.labels":
        return format_map(meta.labels or {})
    if path == "metadata.annotations":
        return format_map(meta.annotations or {})
    if path in ("status.hostIP", "status.hostIPs"):
        if not host_ips:
            raise UnknownAddressError(f"{path} is not known: the node has no address (set --node-ip)")
        return host_ips[0] if path == "status.hostIP" else ",".join(host_ips)
    if path in ("status.podIP", "status.podIPs"):
        known = (
            pod_ips or [ip.ip for ip in pod.status.pod_ips or ()] or ([pod.status.pod_ip] if pod.status.pod_ip else [])
        )
        if not known and spec.host_network:
            known = list(host_ips)
        if not known:
            raise UnknownPodAddressError(f"{path} is not known before the pod runs with this provider")
        return known[0] if path == "status.podIP" else ",".join(known)
    raise FieldError(f"field label not supported: {path}")


def format_map(table: Mapping[str, str]) -> str:
    """Sorted ``key="value"`` lines (fieldpath.FormatMap)."""
    return "\n".join(f"{key}={quote(table[key])}" for key in sorted(table))


_ESCAPES: Final = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_ESCAPES_OF_QUOTES: Final = {'"': r"\"", "\\": r"\\"}


def quote(text: str) -> str:
    """As Go's strconv.Quote."""
    return '"' + "".join(_quoted(character) for character in text) + '"'


def _quoted(character: str) -> str:
    escape = _ESCAPES.get(character) or _ESCAPES_OF_QUOTES.get(character)
    if escape is not None:
        return escape
    if character.isprintable():
        return character
    point = ord(character)
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def resource_value(
    pod: Pod, container: Container, selector: ResourceFieldSelector, allocatable: Mapping[str, str]
) -> str:
    """The value of a ``resourceFieldRef``: in whole divisors, rounded up. Raises ``FieldError``."""
    of = container
    if selector.container_name:
        found = next((c for c in containers_of(pod) if c.name == selector.container_name), None)
        if found is None:
            raise FieldError(f"container {selector.container_name} not found")
        of = found
    kind, _, resource = selector.resource.partition(".")
    known = resource in ("cpu", "memory", "ephemeral-storage") or resource.startswith("hugepages-")
    if kind not in ("limits", "requests") or not known:
        raise FieldError(f"unsupported container resource : {selector.resource}")
    limits = (of.resources.limits if of.resources is not None else None) or {}
    requests = (of.resources.requests if of.resources is not None else None) or {}
    try:
        amount = Quantity((limits if kind == "limits" else requests).get(resource) or "0")
        if kind == "limits" and not amount and not resource.startswith("hugepages-"):
            if resource not in allocatable:
                raise FieldError(
                    f"{selector.resource}: the container has no limit and the node does not say what it has"
                )
            amount = Quantity(allocatable[resource])  # no limit: what the node has
        return str(amount.scaled(Quantity(selector.divisor or "0") or Quantity(1)))
    except ValueError as error:
        raise FieldError(str(error)) from None
