"""Host names, ``/etc/hosts`` and ``resolv.conf`` of pods, byte for byte as a kubelet writes them."""

from __future__ import annotations

from typing import Any

import pytest

from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import (
    Container,
    HostAlias,
    Pod,
    PodDNSConfig,
    PodDNSConfigOption,
    PodSpec,
    VolumeMount,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.dns import DnsConfig, NodeDns, parse_resolv_conf, pod_dns
from virtual_kubelet.runtime.etc_hosts import etc_hosts, wants_etc_hosts
from virtual_kubelet.runtime.pod_hostname import PodHostname, pod_hostname


def a_pod(name: str = "web-0", **spec: Any) -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace="shop", uid="u1"), spec=PodSpec(**spec))


def named(pod: Pod, node_name: str = "") -> PodHostname:
    return pod_hostname(pod, cluster_domain="cluster.local", node_name=node_name)


# Host names


def test_a_pod_is_called_by_its_name_unless_it_says_otherwise() -> None:
    assert named(a_pod()) == ("web-0", "", "web-0")
    assert named(a_pod(hostname="h")) == ("h", "", "h")
    assert named(a_pod(hostname="h", subdomain="web")) == ("h", "web.shop.svc.cluster.local", "h")


def test_all_of_the_name_goes_to_the_kernel_if_the_pod_asks() -> None:
    pod = a_pod(subdomain="web", set_hostname_as_fqdn=True)
    assert named(pod).kernel_name == "web-0.web.shop.svc.cluster.local"
    assert named(a_pod(set_hostname_as_fqdn=True)).kernel_name == "web-0"


def test_a_long_name_is_cut_to_63_characters_and_ends_in_none_that_a_name_may_not_end_in() -> None:
    assert named(a_pod("a" * 70)).name == "a" * 63
    assert named(a_pod("a" * 60 + "-.-" + "b" * 10)).name == "a" * 60


def test_a_name_that_the_kernel_cannot_take_is_refused() -> None:
    pod = a_pod(hostname="h" * 40, subdomain="web", set_hostname_as_fqdn=True)
    with pytest.raises(InvalidInputError, match=r"is too long \(64 characters is the max, 67 characters requested\)"):
        named(pod)
    with pytest.raises(InvalidInputError, match="65 characters requested"):
        named(a_pod(hostname_override="h" * 65))


def test_an_override_is_all_there_is() -> None:
    assert named(a_pod(hostname_override="h.example.com", subdomain="web")) == ("h.example.com", "", "h.example.com")


def test_a_pod_in_the_nodes_network_has_the_nodes_name() -> None:
    assert named(a_pod(host_network=True), "node-a") == ("node-a", "", "node-a")
    assert named(a_pod(host_network=True)).name == "web-0"


# /etc/hosts

MANAGED = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
ALIASES = "\n# Entries added by HostAliases.\n10.1.2.3\tfoo\tbar\nfd00::1\tbaz\n"


def test_the_hosts_file_of_a_pod() -> None:
    pod = a_pod()
    assert etc_hosts(pod, ["10.0.0.7"], named(pod)) == MANAGED + "10.0.0.7\tweb-0\n"


def test_with_a_domain_and_two_addresses() -> None:
    pod = a_pod(subdomain="web")
    names = "web-0.web.shop.svc.cluster.local\tweb-0\n"
    assert etc_hosts(pod, ["10.0.0.7", "fd00::7"], named(pod)) == f"{MANAGED}10.0.0.7\t{names}fd00::7\t{names}"


def test_with_host_aliases() -> None:
    aliases = [HostAlias(ip="10.1.2.3", hostnames=["foo", "bar"]), HostAlias(ip="fd00::1", hostnames=["baz"])]
    pod = a_pod(host_aliases=aliases)
    assert etc_hosts(pod, ["10.0.0.7"], named(pod)) == f"{MANAGED}10.0.0.7\tweb-0\n{ALIASES}"
    pod.spec.host_network = True
    node = "127.0.0.1 localhost\n192.0.2.2 node-a\n"
    expected = f"# Kubernetes-managed hosts file (host network).\n{node}{ALIASES}"
    assert etc_hosts(pod, ["192.0.2.2"], named(pod, "node-a"), node_hosts=node) == expected


def test_a_container_that_mounts_its_own_keeps_it() -> None:
    container = Container(name="c")
    assert wants_etc_hosts(container, has_address=True)
    assert not wants_etc_hosts(container, has_address=False)
    container.volume_mounts = [VolumeMount(name="v", mount_path="/etc/hosts")]
    assert not wants_etc_hosts(container, has_address=True)


# DNS

HOST = DnsConfig(["192.0.2.53"], ["corp.example.com"], ["timeout:1"])
NODE = NodeDns(cluster_dns=["10.96.0.10"], host=HOST)
CLUSTER = DnsConfig(
    ["10.96.0.10"],
    ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example.com"],
    ["ndots:5"],
)


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ({}, CLUSTER),
        ({"dns_policy": "ClusterFirst"}, CLUSTER),
        ({"dns_policy": "ClusterFirst", "host_network": True}, HOST),
        ({"dns_policy": "ClusterFirstWithHostNet", "host_network": True}, CLUSTER),
        ({"dns_policy": "Default"}, HOST),
        ({"dns_policy": "None"}, DnsConfig()),
    ],
)
def test_dns_policies(spec: dict[str, Any], config: DnsConfig) -> None:
    found = pod_dns(a_pod(**spec), NODE)
    assert (found.config.text(), list(found.events)) == (config.text(), [])


def test_a_pods_own_configuration_is_added_and_its_options_win() -> None:
    own = PodDNSConfig(
        nameservers=["10.96.0.10", "1.1.1.1"],
        searches=["svc.cluster.local", "my.example.com"],
        options=[PodDNSConfigOption(name="ndots", value="2"), PodDNSConfigOption(name="edns0")],
    )
    assert pod_dns(a_pod(dns_config=own), NODE).config.text() == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example.com my.example.com\n"
        "nameserver 10.96.0.10\n"
        "nameserver 1.1.1.1\n"
        "options ndots:2 edns0\n"
    )


def test_without_a_cluster_dns_the_nodes_own_is_taken_and_said() -> None:
    found = pod_dns(a_pod(), NodeDns(host=HOST))
    assert found.config.text() == HOST.text()
    assert [event[:2] for event in found.events] == [("Warning", "MissingClusterDNS")]
    assert found.events[0][2] == (
        'pod: "web-0_shop(u1)". kubelet does not have ClusterDNS IP configured and cannot create Pod using '
        '"ClusterFirst" policy. Falling back to "Default" policy.'
    )


def test_without_a_cluster_domain_only_the_nodes_paths_are_searched() -> None:
    node = NodeDns(cluster_dns=["10.96.0.10"], cluster_domain="", host=HOST)
    assert pod_dns(a_pod(), node).config.searches == ["corp.example.com"]


def test_more_than_three_nameservers_are_cut_and_told() -> None:
    own = PodDNSConfig(nameservers=[f"10.0.0.{n}" for n in range(4)])
    found = pod_dns(a_pod(dns_policy="None", dns_config=own), NODE)
    applied = "10.0.0.0 10.0.0.1 10.0.0.2"
    assert " ".join(found.config.nameservers) == applied
    message = (
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        + applied
    )
    assert list(found.events) == [("Warning", "DNSConfigForming", message)]


@pytest.mark.parametrize(
    ("searches", "kept"),
    [
        ([f"s{n}" for n in range(33)], 32),
        (["a" * 254, "b"], 1),
        ([f"{n:02}" + "a" * 248 for n in range(10)], 8),
        ([f"{n:02}" + "a" * 61 for n in range(32)], 32),
    ],
)
def test_search_paths_beyond_the_limits_are_left_out_and_told(searches: list[str], kept: int) -> None:
    found = pod_dns(a_pod(dns_policy="None", dns_config=PodDNSConfig(searches=searches)), NODE)
    assert len(found.config.searches) == kept
    assert len(" ".join(found.config.searches)) <= 2048
    told = [message for _, reason, message in found.events if reason == "DNSConfigForming"]
    if kept == len(searches):
        assert told == []
    else:
        said = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
        assert told == [said + " ".join(found.config.searches)]


def test_the_nodes_own_file_is_read_as_a_resolver_does() -> None:
    text = (
        "# comment\nnameserver 1.1.1.1\nsearch old.example.com\nsearch a.example.com. b .\nnameserver ::1\nnameserver\n"
    )
    assert parse_resolv_conf(text + "options timeout:1 rotate\nsortlist x\n") == DnsConfig(
        ["1.1.1.1", "::1"], ["a.example.com", "b", "."], ["timeout:1", "rotate"]
    )
