"""Sysctls of a pod: how they are named, which are safe, and what every pod's machine has. Pure.

Kubernetes: pkg/kubelet/sysctl (safe_sysctls.go and allowlist.go, 1.36).
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

from virtual_kubelet import InvalidInputError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet_docker.config import DockerConfig

__all__ = ["check_sysctls", "pod_sysctls", "sysctl_name"]

_SAFE: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_IPC: Final = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_SWAPPED: Final = str.maketrans("./", "/.")


def sysctl_name(name: str) -> str:
    """With dots between its parts: whoever begins with a slash there has it the other way round (sysctl(8))."""
    first = next((character for character in name if character in "./"), ".")
    return name.translate(_SWAPPED) if first == "/" else name


def check_sysctls(pod: Pod, config: DockerConfig) -> None:
    """Raise ``InvalidInputError`` for one that is not allowed, or is of a namespace that is the node's."""
    allowed = [sysctl_name(pattern) for pattern in config.allowed_unsafe_sysctls]
    for index, one in enumerate((pod.spec.security_context and pod.spec.security_context.sysctls) or ()):
        field, name = f"spec.securityContext.sysctls[{index}].name", sysctl_name(one.name)
        if name not in _SAFE and not any(fnmatchcase(name, pattern) for pattern in allowed):
            raise _forbidden(field, name, "not allowlisted")
        if pod.spec.host_network and name.startswith("net."):
            raise _forbidden(field, name, "not allowed with host network enabled")
        if pod.spec.host_ipc and name.startswith(_IPC):
            raise _forbidden(field, name, "not allowed with host ipc enabled")


def pod_sysctls(pod: Pod, *, own_network: bool) -> dict[str, str]:
    """What the pod's machine is set to. In a network of its own ports below 1024 are anybody's, as with containerd and
    Docker; Podman leaves that to whoever asks."""
    asked = (pod.spec.security_context and pod.spec.security_context.sysctls) or ()
    ports = {"net.ipv4.ip_unprivileged_port_start": "0"} if own_network else {}
    return ports | {sysctl_name(one.name): one.value for one in asked}


def _forbidden(field: str, name: str, why: str) -> InvalidInputError:
    return InvalidInputError(f'forbidden sysctl: {field}: "{name}" {why}', reason="SysctlForbidden")
