"""A pod's infra container as the engine's API wants it: network, names, name servers, ports, sysctls. Pure."""

from __future__ import annotations

from typing import Any

from virtual_kubelet import NodeDns, pod_dns, pod_hostname
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.labels import Owner, sandbox_labels
from virtual_kubelet_docker.sysctls import pod_sysctls

__all__ = ["port_bindings", "sandbox_spec"]


def sandbox_spec(
    pod: Pod, *, owner: Owner, image: str, config: DockerConfig, dns: NodeDns, podman: bool, oom_score: int = 0
) -> dict[str, Any]:
    """The body of ``/containers/create``. ``oom_score``: its ``oom_score_adj``."""
    spec = pod.spec
    host_network = spec.host_network is True
    bindings = {} if host_network else port_bindings(pod)
    network = "host" if host_network else config.network or ("bridge" if podman else "default")
    host: dict[str, Any] = {
        "NetworkMode": network,
        "IpcMode": "host" if spec.host_ipc else "shareable",
        "PortBindings": bindings,
        "Sysctls": pod_sysctls(pod, own_network=network != "host"),
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "CpuShares": 2,
        "OomScoreAdj": oom_score,
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
    }
    if spec.host_pid:
        host["PidMode"] = "host"
    if spec.runtime_class_name:
        host["Runtime"] = config.runtime_classes[spec.runtime_class_name]
    # What is empty there is the machine's own here.
    asked = pod_dns(pod, dns).config
    for name, values in (("Dns", asked.nameservers), ("DnsSearch", asked.searches), ("DnsOptions", asked.options)):
        if values:
            host[name] = list(values)
    body: dict[str, Any] = {
        "Image": image,
        "Entrypoint": ["/pause"],
        "Labels": sandbox_labels(owner, pod),
        "HostConfig": host,
    }
    if bindings:
        body["ExposedPorts"] = {name: {} for name in bindings}
    if not host_network:
        body["Hostname"] = pod_hostname(pod, cluster_domain=dns.cluster_domain).kernel_name
    return body


def port_bindings(pod: Pod) -> dict[str, list[dict[str, str]]]:
    """``hostPort`` of all containers, by ``containerPort/protocol``."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for container in (*(pod.spec.init_containers or ()), *pod.spec.containers):
        for port in container.ports or ():
            if port.host_port:
                name = f"{port.container_port}/{(port.protocol or 'TCP').lower()}"
                binding = {"HostIp": port.host_ip or "", "HostPort": str(port.host_port)}
                if binding not in bindings.setdefault(name, []):
                    bindings[name].append(binding)
    return bindings
