"""What the kubelet checks before it upgrades ``exec``, ``attach``, ``portForward`` and ``run``. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.server.container_logs import container_status
from virtual_kubelet.server.http_messages import QueryParameters

__all__ = ["check_stream_request"]


def check_stream_request(route: str, parameters: Mapping[str, str], query: QueryParameters, pod: Pod | None) -> Pod:
    """The pod. Raises ``ProtocolError`` with the kubelet's status and text (server.go, 1.36)."""
    if route in ("exec", "attach") and not _streams(query):
        raise ProtocolError("you must specify at least 1 of stdin, stdout, stderr", status=400)
    if pod is None:
        raise ProtocolError("pod does not exist", status=404)
    is_other = parameters.get("uid", pod.metadata.uid) != pod.metadata.uid
    if route == "portForward":
        if is_other:
            raise ProtocolError("pod not found", status=404)
    elif is_other or not _runs(pod, parameters["container"]):
        container = parameters["container"]
        if route == "attach":
            name = f"{pod.metadata.name}_{pod.metadata.namespace}"
            raise ProtocolError(f"container {container} not found in pod {name}", status=500)
        raise ProtocolError(f'container not found ("{container}")', status=500)
    return pod


def _streams(query: QueryParameters) -> bool:
    return any(query.get(name) == "1" for name in ("input", "output", "error"))


def _runs(pod: Pod, container: str) -> bool:
    found = container_status(pod.status, container)
    return found is not None and found.state is not None and found.state.running is not None
