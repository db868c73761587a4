"""What a pod's machine is called: host name, domain, and what ``hostname`` prints in it. Pure.

Kubernetes: pkg/kubelet/kubelet_pods.go (GeneratePodHostNameAndDomain) and util/util_linux.go (GetNodenameForKernel).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Pod

__all__ = ["PodHostname", "pod_hostname"]

#: Characters that Linux takes, and that DNS does.
_LONGEST: Final = 63
_LONGEST_FQDN: Final = 64


class PodHostname(NamedTuple):
    """The names of a pod's machine.

    Attributes:
        name: the host name.
        domain: such as ``subdomain.namespace.svc.cluster.local``; empty without one.
        kernel_name: what the kernel is to call it: ``name``, or with ``setHostnameAsFQDN`` all of it.
    """

    name: str
    domain: str
    kernel_name: str


def pod_hostname(pod: Pod, *, cluster_domain: str, node_name: str = "") -> PodHostname:
    """Of a pod: ``hostnameOverride``, else ``hostname``, else its own name, cut to 63 characters.

    Args:
        node_name: what the node's machine is called, for a pod with ``hostNetwork``, which keeps that; empty: its own.

    Raises ``InvalidInputError`` if a name that the kernel is to take is too long for it.
    """
    meta, spec = pod.metadata, pod.spec
    if spec.hostname_override:
        # It is all there is, and no DNS knows it.
        if len(spec.hostname_override) > _LONGEST_FQDN:
            raise InvalidInputError(_too_long(spec.hostname_override))
        return PodHostname(spec.hostname_override, "", spec.hostname_override)
    if spec.host_network and node_name:
        return PodHostname(node_name, "", node_name)
    name = spec.hostname or meta.name or ""
    if len(name) > _LONGEST:
        name = name[:_LONGEST].rstrip("-.")
        if not name:
            raise InvalidInputError(f'hostname for pod "{meta.name}" was invalid: "{spec.hostname or meta.name}"')
    domain = f"{spec.subdomain}.{meta.namespace}.svc.{cluster_domain}" if spec.subdomain else ""
    kernel_name = name
    if spec.set_hostname_as_fqdn and domain:
        kernel_name = f"{name}.{domain}"
        if len(kernel_name) > _LONGEST_FQDN:
            raise InvalidInputError(_too_long(kernel_name))
    return PodHostname(name, domain, kernel_name)


def _too_long(name: str) -> str:
    return (
        f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
        f"({_LONGEST_FQDN} characters is the max, {len(name)} characters requested)"
    )
