"""Who answers a pod's DNS questions: its ``resolv.conf`` from dnsPolicy, dnsConfig and the node. Pure.

Kubernetes: pkg/kubelet/network/dns/dns.go, with its limits and its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from virtual_kubelet.environment.fields import quote
from virtual_kubelet.objects.core_v1 import Pod, PodDNSConfigOption

__all__ = ["MISSING_CLUSTER_DNS", "DnsConfig", "NodeDns", "PodDns", "parse_resolv_conf", "pod_dns"]

#: The reason of the event that the cluster's DNS was asked for and none is known.
MISSING_CLUSTER_DNS: Final = "MissingClusterDNS"

_MOST_NAMESERVERS: Final = 3
_MOST_SEARCH_PATHS: Final = 32
#: Characters of all search paths together, with the blanks between them, and of one.
_LONGEST_SEARCH: Final = 2048
_LONGEST_PATH: Final = 253
_CLUSTER_OPTIONS: Final = ("ndots:5",)

Event = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """What a ``resolv.conf`` says."""

    nameservers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()

    def text(self) -> str:
        """The file."""
        lines = [f"nameserver {server}" for server in self.nameservers]
        if self.searches:
            lines.insert(0, f"search {' '.join(self.searches)}")
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class NodeDns:
    """What a node knows of DNS.

    Attributes:
        cluster_dns: addresses of the cluster's DNS (``--cluster-dns``); empty: none is known.
        cluster_domain: such as ``cluster.local``; empty: its names are not searched.
        host: the node's own configuration, for ``Default``.
    """

    cluster_dns: Sequence[str] = ()
    cluster_domain: str = "cluster.local"
    host: DnsConfig = DnsConfig()


@dataclass(frozen=True, slots=True)
class PodDns:
    """A pod's configuration, and the events (type, reason, message) to record on the pod about what was left out."""

    config: DnsConfig
    events: Sequence[Event] = ()


def parse_resolv_conf(text: str) -> DnsConfig:
    """The node's own file. Of several lines of search paths, or of options, the last one counts."""
    nameservers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "nameserver" and len(words) > 1:
            nameservers.append(words[1])
        elif words[0] == "search":
            searches = ["." if word == "." else word.removesuffix(".") for word in words[1:]]
        elif words[0] == "options":
            options = words[1:]
    return DnsConfig(nameservers, searches, options)


def pod_dns(pod: Pod, node: NodeDns) -> PodDns:
    """What the pod's containers are to ask."""
    spec, events = pod.spec, []
    policy = spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirst" and spec.host_network:
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet") and not node.cluster_dns:
        events.append(("Warning", MISSING_CLUSTER_DNS, _missing_message(pod)))
        policy = "Default"
    if policy == "None":
        config = DnsConfig()
    elif policy == "Default":
        config = node.host
    else:
        config = DnsConfig(node.cluster_dns, _cluster_searches(pod, node), _CLUSTER_OPTIONS)
    own = spec.dns_config
    if own is not None:
        config = DnsConfig(
            _unique([*config.nameservers, *(own.nameservers or ())]),
            _unique([*config.searches, *(own.searches or ())]),
            _merged_options(config.options, own.options or ()),
        )
    config, told = _within_limits(config)
    return PodDns(config, [*events, *told])


def _missing_message(pod: Pod) -> str:
    meta = pod.metadata
    described = quote(f"{meta.name}_{meta.namespace}({meta.uid})")
    return (
        f"pod: {described}. kubelet does not have ClusterDNS IP configured and cannot create Pod using "
        '"ClusterFirst" policy. Falling back to "Default" policy.'
    )


def _cluster_searches(pod: Pod, node: NodeDns) -> Sequence[str]:
    domain = node.cluster_domain
    if not domain:
        return node.host.searches
    return _unique([f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain, *node.host.searches])


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _merged_options(options: Iterable[str], own: Iterable[PodDNSConfigOption]) -> list[str]:
    """The pod's own win; in the order in which they came (the kubelet's is that of a Go map: none)."""
    merged = {name: value for name, _, value in (option.partition(":") for option in options)}
    merged.update({option.name or "": option.value or "" for option in own})
    return [f"{name}:{value}" if value else name for name, value in merged.items() if name]


def _within_limits(config: DnsConfig) -> tuple[DnsConfig, list[Event]]:
    events: list[Event] = []
    nameservers = list(config.nameservers[:_MOST_NAMESERVERS])
    if len(config.nameservers) > _MOST_NAMESERVERS:
        said = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        events.append(("Warning", "DNSConfigForming", said + " ".join(nameservers)))
    searches = [path for path in config.searches[:_MOST_SEARCH_PATHS] if len(path) <= _LONGEST_PATH]
    while len(" ".join(searches)) > _LONGEST_SEARCH:
        searches.pop()
    if len(searches) < len(config.searches):
        said = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
        events.append(("Warning", "DNSConfigForming", said + " ".join(searches)))
    return DnsConfig(nameservers, searches, config.options), events
