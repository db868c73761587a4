"""exec, attach and port-forward: what is asked of the node for what is asked of the pod. Pure.

Kubernetes source: ``streamLocation`` in ``pkg/registry/core/pod/strategy.go`` of 1.36.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from virtual_kubelet.devcluster.registry.pod_defaults import all_containers
from virtual_kubelet.devcluster.request_options import is_true
from virtual_kubelet.devcluster.statuses import bad_request
from virtual_kubelet.server.http_messages import QueryParameters
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions

__all__ = ["chosen_container", "command_options", "stream_target"]


def chosen_container(pod: dict[str, Any], wanted: str) -> str:
    """The container meant. Raises 400."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    if wanted:
        if not any(container["name"] == wanted for container in all_containers(spec)):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    containers = [c["name"] for c in spec["containers"]]
    if len(containers) == 1:
        return str(containers[0])
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    for field, kind in (("initContainers", "init"), ("ephemeralContainers", "ephemeral")):
        names = [c["name"] for c in spec.get(field) or ()]
        if names:
            message += f" or one of the {kind} containers: [{' '.join(names)}]"
    raise bad_request(message)


def command_options(query: QueryParameters) -> RemoteCommandOptions:
    """The streams that a client of the API server asks for; there may be none."""
    stdin, stdout, stderr, tty = (is_true(query.get(name)) for name in ("stdin", "stdout", "stderr", "tty"))
    return RemoteCommandOptions(stdin, stdout, stderr and not tty, tty)


def stream_target(subresource: str, pod: dict[str, Any], query: QueryParameters) -> str:
    """Path and query on the pod's node. Raises 400."""
    meta = pod["metadata"]
    parts = [meta["namespace"], meta["name"]]
    parameters: list[tuple[str, str]] = []
    if subresource == "portforward":
        route = "portForward"
        ports = query.get_all("ports")
        if ports:
            parameters = [("port", ",".join(ports))]
    else:
        route = subresource
        parts.append(chosen_container(pod, query.get("container")))
        options = command_options(query)
        # In the order of Go's url.Values.
        if subresource == "exec":
            parameters = [("command", word) for word in query.get_all("command")]
        named = (("error", options.stderr), ("input", options.stdin), ("output", options.stdout), ("tty", options.tty))
        parameters += [(name, "1") for name, on in named if on]
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {meta['name']} does not have a host assigned")
    path = "/".join(["", route, *(quote(part, safe="") for part in parts)])
    return f"{path}?{urlencode(parameters)}" if parameters else path
