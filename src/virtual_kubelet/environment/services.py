"""Variables that tell a pod of Services (pkg/kubelet/envvars/envvars.go). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from virtual_kubelet.objects.core_v1 import Service

__all__ = ["service_variables"]


def service_variables(
    services: Iterable[Service], namespace: str, *, links: bool, api_server: tuple[str, int] | None = None
) -> dict[str, str]:
    """Docker-style variables of each Service that has a cluster IP.

    Args:
        services: of the pod's namespace, and of ``default``.
        namespace: the pod's.
        links: the pod's enableServiceLinks; Service ``kubernetes`` of ``default`` is told in any case.
        api_server: host and port to tell of ``kubernetes`` instead: its cluster IP is seldom reachable from elsewhere.
    """
    chosen: dict[str, Service] = {}
    for service in services:
        if not service.spec.ports or service.spec.cluster_ip in (None, "", "None"):
            continue
        name, own = service.metadata.name or "", service.metadata.namespace == namespace
        is_master = service.metadata.namespace == "default" and name == "kubernetes"
        if (is_master or (links and own)) and (name not in chosen or own):
            chosen[name] = service
    variables: dict[str, str] = {}
    for name in sorted(chosen):
        spec = chosen[name].spec
        address = spec.cluster_ip or ""
        prefix = name.upper().replace("-", "_")
        ports = [(p.name or "", p.port, (p.protocol or "TCP")) for p in spec.ports or ()]
        if api_server is not None and name == "kubernetes" and chosen[name].metadata.namespace == "default":
            address = api_server[0]
            ports = [(port_name, api_server[1], protocol) for port_name, _, protocol in ports[:1]]
        variables[f"{prefix}_SERVICE_HOST"] = address
        variables[f"{prefix}_SERVICE_PORT"] = str(ports[0][1])
        for port_name, port, _ in ports:
            if port_name:
                variables[f"{prefix}_SERVICE_PORT_{port_name.upper().replace('-', '_')}"] = str(port)
        host = f"[{address}]" if ":" in address else address
        for index, (_, port, protocol) in enumerate(ports):
            url = f"{protocol.lower()}://{host}:{port}"
            if index == 0:
                variables[f"{prefix}_PORT"] = url
            port_prefix = f"{prefix}_PORT_{port}_{protocol.upper()}"
            variables[port_prefix] = url
            variables[f"{port_prefix}_PROTO"] = protocol.lower()
            variables[f"{port_prefix}_PORT"] = str(port)
            variables[f"{port_prefix}_ADDR"] = address
    return variables
