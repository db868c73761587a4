"""Defaults of a pod (core/v1 defaults and the admission plugins Priority and DefaultTolerationSeconds). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from virtual_kubelet.devcluster.object_meta import name_for_admission
from virtual_kubelet.devcluster.registry.pod_level_resources import default_pod_resources
from virtual_kubelet.devcluster.statuses import StatusError, forbidden
from virtual_kubelet.objects.quantity import Quantity

__all__ = [
    "add_default_tolerations",
    "all_containers",
    "default_container",
    "default_pod",
    "default_pod_status",
    "quality_of_service",
]

_FILE_MODE: Final = 0o644
_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_SECONDS: Final = 300
_COMPUTE: Final = ("cpu", "memory")
_PRIORITY_CLASSES: Final = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_PREEMPTION: Final = "PreemptLowerPriority"


def all_containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Init containers, containers, ephemeral containers."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def default_pod(obj: dict[str, Any]) -> None:
    """Fill in what follows from the pod itself."""
    spec = obj["spec"]
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("enableServiceLinks", True)
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName") or spec["serviceAccount"]
    for volume in spec.get("volumes") or ():
        _default_volume(volume)
    for container in all_containers(spec):
        default_container(container)
        if spec.get("hostNetwork"):
            for port in container.get("ports") or ():
                port.setdefault("hostPort", port["containerPort"])
    default_pod_resources(spec)
    default_pod_status(obj.get("status") or {})


def admit_pod(obj: dict[str, Any]) -> None:
    """What admission adds to a new pod (Priority, RuntimeClass, DefaultTolerationSeconds). Raises 403."""
    spec = obj["spec"]
    _admit_priority(obj)
    if "runtimeClassName" in spec:
        raise _refused(obj, f'pod rejected: RuntimeClass "{spec["runtimeClassName"]}" not found')
    if spec.get("overhead"):
        raise _refused(obj, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
    add_default_tolerations(spec)


def add_default_tolerations(spec: dict[str, Any]) -> None:
    """Pods stay some minutes on a node that has gone silent; an update that takes these away gets them again."""
    tolerations = spec.get("tolerations") or []
    for taint in _TAINTS:
        if not any(
            t.get("effect", "NoExecute") == "NoExecute"
            and (t.get("key") or taint) == taint  # one without a key counts, whatever its operator
            for t in tolerations
        ):
            tolerations.append(
                {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATION_SECONDS}
            )
    spec["tolerations"] = tolerations


def _admit_priority(obj: dict[str, Any]) -> None:
    """There are no PriorityClasses but the two that every cluster has."""
    spec = obj["spec"]
    name = spec.get("priorityClassName", "")
    if name and name not in _PRIORITY_CLASSES:
        raise _refused(obj, f"no PriorityClass with name {name} was found")
    computed = _PRIORITY_CLASSES.get(name, 0)
    for field, value, kind in (
        ("priority", computed, "integer value of priority"),
        ("preemptionPolicy", _PREEMPTION, "string value of PreemptionPolicy"),
    ):
        if spec.setdefault(field, value) != value:
            raise _refused(
                obj,
                f"the {kind} ({spec[field]}) must not be provided in pod spec; priority admission controller computed "
                f"{value} from the given PriorityClass name",
            )


def _refused(obj: dict[str, Any], why: str) -> StatusError:
    return forbidden("pods", name_for_admission(obj["metadata"]), why)


def default_container(container: dict[str, Any]) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if "imagePullPolicy" not in container:
        container["imagePullPolicy"] = "Always" if _tag(container.get("image", "")) == "latest" else "IfNotPresent"
    resources = container.get("resources") or {}
    limits = resources.get("limits")
    if limits:
        requests = resources.setdefault("requests", {})
        for name, limit in limits.items():
            requests.setdefault(name, limit)
    for entry in container.get("env") or ():
        field = (entry.get("valueFrom") or {}).get("fieldRef")
        if field is not None:
            field.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _default_probe(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _default_http(handler)


def _default_probe(probe: dict[str, Any]) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe.setdefault(field, value)
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")
    _default_http(probe)


def _default_http(handler: dict[str, Any]) -> None:
    if "httpGet" in handler:
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")


def _default_volume(volume: dict[str, Any]) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    items = list((volume.get("downwardAPI") or {}).get("items") or ())
    for part in (volume.get("projected") or {}).get("sources") or ():
        if "serviceAccountToken" in part:
            part["serviceAccountToken"].setdefault("expirationSeconds", 3600)
        items += (part.get("downwardAPI") or {}).get("items") or ()
    for item in items:
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")


def default_pod_status(status: dict[str, Any]) -> None:
    """One address and the list of them say the same."""
    # The single address counts where both are given and differ, for old kubelets.
    address = status.get("podIP")
    addresses = status.get("podIPs")
    if address and (not addresses or addresses[0].get("ip") != address):
        status["podIPs"] = [{"ip": address}]
    elif addresses and not address:
        status["podIP"] = addresses[0].get("ip", "")


def _tag(image: str) -> str:
    if "@" in image:
        return ""
    _, colon, tag = image.rpartition(":")
    return tag if colon and "/" not in tag else "latest"


def quality_of_service(spec: dict[str, Any]) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``."""
    guaranteed, any_set = True, False
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for container in [spec] if spec.get("resources") else containers:
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in _COMPUTE:
            request, limit = _positive(requests.get(name)), _positive(limits.get(name))
            any_set = any_set or request is not None or limit is not None
            if limit is None or request != limit:
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


@lru_cache(maxsize=4096)
def _positive(text: str | None) -> Quantity | None:
    quantity = Quantity(text) if text is not None else None
    return quantity if quantity is not None and quantity > Quantity(0) else None
