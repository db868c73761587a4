"""Files by which a pod's containers know names: ``/etc/hosts`` and ``/etc/resolv.conf``, and where those are.

A runtime with sandboxes makes their resolv.conf by itself. One without has the machine's names, and these files only for
pods that ask for names of their own, which it has admitted then. Blocking.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.runtime import Mount
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.runtime.dns import NodeDns, parse_resolv_conf, pod_dns
from virtual_kubelet.runtime.etc_hosts import ETC_HOSTS, etc_hosts, wants_etc_hosts
from virtual_kubelet.runtime.pod_hostname import pod_hostname

__all__ = ["name_mounts"]

_RESOLV_CONF: Final = "/etc/resolv.conf"


def name_mounts(
    pod: Pod, container: Container, context: ProviderContext, folder: Path, ips: Sequence[str], *, sandboxes: bool
) -> list[Mount]:
    """What is to be mounted into this container. Raises ``OSError``.

    Args:
        folder: the pod's.
        ips: its addresses.
        sandboxes: whether the runtime has some.
    """
    mounts = []
    if (sandboxes or pod.spec.host_aliases) and wants_etc_hosts(container, has_address=bool(ips)):
        mounts.append(_written(folder / "etc-hosts", _etc_hosts(pod, context, ips), ETC_HOSTS))
    own = any(mount.mount_path == _RESOLV_CONF for mount in container.volume_mounts or ())
    if not sandboxes and pod.spec.dns_config is not None and not own:
        node = NodeDns(context.cluster_dns, context.cluster_domain, parse_resolv_conf(_of_machine(_RESOLV_CONF)))
        mounts.append(_written(folder / "resolv.conf", pod_dns(pod, node).config.text(), _RESOLV_CONF))
    return mounts


def _etc_hosts(pod: Pod, context: ProviderContext, ips: Sequence[str]) -> str:
    hostname = pod_hostname(pod, cluster_domain=context.cluster_domain, node_name=context.node_name)
    return etc_hosts(pod, ips, hostname, node_hosts=_of_machine(ETC_HOSTS) if pod.spec.host_network else "")


def _of_machine(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _written(path: Path, text: str, container_path: str) -> Mount:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return Mount(path, container_path)
