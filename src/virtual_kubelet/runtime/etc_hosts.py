"""What ``/etc/hosts`` of a pod's containers says. Pure.

Kubernetes: pkg/kubelet/kubelet_pods.go (managedHostsFileContent, nodeHostsFileContent, shouldMountHostsFile).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from virtual_kubelet.objects.core_v1 import Container, HostAlias, Pod
from virtual_kubelet.runtime.pod_hostname import PodHostname

__all__ = ["ETC_HOSTS", "etc_hosts", "wants_etc_hosts"]

#: Where a container finds it.
ETC_HOSTS: Final = "/etc/hosts"

_MANAGED: Final = "# Kubernetes-managed hosts file.\n"
_MANAGED_ON_HOST: Final = "# Kubernetes-managed hosts file (host network).\n"
_LOCAL: Final = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def wants_etc_hosts(container: Container, *, has_address: bool) -> bool:
    """Whether this file is to be mounted into the container: not over a mount of its own, and not without an address."""
    return has_address and not any(mount.mount_path == ETC_HOSTS for mount in container.volume_mounts or ())


def etc_hosts(pod: Pod, ips: Sequence[str], hostname: PodHostname, *, node_hosts: str = "") -> str:
    """The whole file.

    Args:
        ips: the pod's.
        node_hosts: the node's own ``/etc/hosts``, which a pod with ``hostNetwork`` sees.
    """
    aliases = _aliases(pod.spec.host_aliases or ())
    if pod.spec.host_network:
        return _MANAGED_ON_HOST + node_hosts + aliases
    names = f"{hostname.name}.{hostname.domain}\t{hostname.name}" if hostname.domain else hostname.name
    return _MANAGED + _LOCAL + "".join(f"{ip}\t{names}\n" for ip in ips) + aliases


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = [f"{alias.ip}\t" + "\t".join(alias.hostnames or ()) + "\n" for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(lines)
