"""What ``kubectl describe`` asks for beside what it describes: a namespace's quotas and limits, a Service's endpoints.

Computed when asked for. There are no quotas and no limits here; endpoints are those that the EndpointSlice controller would
make of Services and pods (``pkg/controller/endpointslice``), all in one slice for pods whose ports have the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from virtual_kubelet.devcluster.call import Call, json_response
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.own_service_controller import OWN_SERVICE
from virtual_kubelet.devcluster.registry.described import EndpointSlices
from virtual_kubelet.devcluster.selectors import parse_label_selector
from virtual_kubelet.server.connection import Response

__all__ = ["DescribedLists"]

_SERVICE: Final = "kubernetes.io/service-name"
_OVER: Final = frozenset({"Succeeded", "Failed"})

#: Name, protocol, number.
Port = tuple[str, str, int]


class DescribedLists:
    """Answers lists of the kinds in ``registry.described``."""

    def __init__(self, state: ClusterState, host: str, port: int) -> None:
        """``host`` and ``port``: the API server's, behind its own Service."""
        self._state = state
        self._own = (host, port)

    def answer(self, call: Call) -> Response:
        """Raises 400."""
        resource = call.info.resource
        items: list[dict[str, Any]] = []
        if isinstance(resource, EndpointSlices):
            selector = parse_label_selector(call.request.query.get("labelSelector"))
            found = self._slices(call.info.namespace)
            items = [item for item in found if selector.matches(item["metadata"]["labels"])]
        metadata = {"resourceVersion": str(self._state.store.revision)}
        kind, version = f"{resource.kind}List", resource.api_version
        return json_response({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items})

    def _slices(self, namespace: str) -> Iterator[dict[str, Any]]:
        for stored in self._state.services.objects.values(namespace):
            service = stored.decode()
            if stored.key == OWN_SERVICE:
                host, port = self._own
                endpoint = {"addresses": [host], "conditions": {"ready": True}}
                yield _slice(service, [("https", "TCP", port)], [endpoint])
            elif service["spec"].get("selector") and service["spec"]["type"] != "ExternalName":
                yield from self._of_pods(service)

    def _of_pods(self, service: dict[str, Any]) -> Iterator[dict[str, Any]]:
        spec, namespace = service["spec"], service["metadata"]["namespace"]
        by_ports: dict[tuple[Port, ...], list[dict[str, Any]]] = {}
        for stored in self._state.pods.objects.values(namespace):
            if not _selects(spec["selector"], stored.labels):
                continue
            pod = stored.decode()
            if pod["status"].get("podIP") and pod["status"].get("phase") not in _OVER:
                ports = tuple(_ports(spec.get("ports") or (), pod))
                unready = bool(spec.get("publishNotReadyAddresses"))
                by_ports.setdefault(ports, []).append(_endpoint(pod, unready=unready))
        for ports, endpoints in by_ports.items() or [((), [])]:
            yield _slice(service, ports, endpoints)


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _ports(ports: Iterable[dict[str, Any]], pod: dict[str, Any]) -> Iterator[Port]:
    """Those of the Service that the pod has."""
    for port in ports:
        target, protocol = port["targetPort"], port["protocol"]
        if isinstance(target, str):
            named = (
                own["containerPort"]
                for container in pod["spec"]["containers"]
                for own in container.get("ports") or ()
                if own.get("name") == target and own.get("protocol") == protocol
            )
            target = next(named, None)
        if target is not None:
            yield (port.get("name", ""), protocol, target)


def _endpoint(pod: dict[str, Any], *, unready: bool) -> dict[str, Any]:
    """``unready``: pods count that are not ready, too."""
    conditions = pod["status"].get("conditions") or ()
    serving = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    terminating = "deletionTimestamp" in pod["metadata"]
    metadata = pod["metadata"]
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": unready or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"].get("nodeName", ""),
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def _slice(service: dict[str, Any], ports: Iterable[Port], endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = service["metadata"]
    labels = {**(metadata.get("labels") or {}), _SERVICE: metadata["name"]}
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "labels": labels,
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": name, "protocol": protocol, "port": number} for name, protocol, number in ports],
    }
