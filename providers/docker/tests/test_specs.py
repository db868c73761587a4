"""What is asked of the engine, and what is refused before: pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from providers.docker.tests.machine import pod, shell
from virtual_kubelet import ContainerConfig, InvalidInputError, Mount, NodeDns, PodSandbox, ProviderConfigError
from virtual_kubelet.objects.core_v1 import (
    AppArmorProfile,
    ContainerPort,
    PodOS,
    PodResourceClaim,
    PodSecurityContext,
    ResourceRequirements,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
    Sysctl,
    VolumeDevice,
    VolumeMount,
)
from virtual_kubelet_docker.admission import check_pod
from virtual_kubelet_docker.config import DockerConfig, load_config
from virtual_kubelet_docker.container_spec import container_spec
from virtual_kubelet_docker.labels import Owner
from virtual_kubelet_docker.resources import docker_update, podman_update
from virtual_kubelet_docker.sandbox_spec import sandbox_spec
from virtual_kubelet_docker.sysctls import pod_sysctls, sysctl_name

OWNER = Owner("node-a", "cluster-a")


def spec_of(
    *, podman: bool = False, config: DockerConfig | None = None, of_pod: dict[str, Any] | None = None, **container: Any
) -> dict[str, Any]:
    given = ContainerConfig(
        pod(**(of_pod or {})),
        shell("true", **container),
        3,
        sandbox=PodSandbox("the-infra", {}, []),
        mounts=container.pop("mounts", ()),
    )
    return container_spec(given, owner=OWNER, settings=config or DockerConfig(), podman=podman)


def sandbox_of(*, podman: bool = False, dns: Sequence[str] = (), **of_pod: Any) -> dict[str, Any]:
    one = pod("a" * 70, **{name: value for name, value in of_pod.items() if name != "containers"})
    one.spec.containers = of_pod.get("containers", [])
    node_dns = NodeDns(cluster_dns=dns, cluster_domain="cluster.local")
    return sandbox_spec(one, owner=OWNER, image="pause", config=DockerConfig(), dns=node_dns, podman=podman)


def test_labels_say_whose_run_it_is() -> None:
    labels = spec_of()["Labels"]
    assert labels["virtual-kubelet.io/node"] == "node-a"
    assert labels["virtual-kubelet.io/cluster"] == "cluster-a"
    assert OWNER.owns(labels)
    assert not Owner("node-a", "cluster-b").owns(labels)
    assert not Owner("node-b", "cluster-a").owns(labels)
    assert labels["virtual-kubelet.io/attempt"] == "3"
    assert labels["io.kubernetes.container.name"] == "main"
    assert labels["io.kubernetes.pod.name"] == "web"


def test_processes_are_the_containers_own_unless_the_pod_shares_them() -> None:
    assert "PidMode" not in spec_of()["HostConfig"]
    assert spec_of(of_pod={"share_process_namespace": True})["HostConfig"]["PidMode"] == "container:the-infra"
    assert spec_of(of_pod={"host_pid": True})["HostConfig"]["PidMode"] == "host"
    assert spec_of(of_pod={"host_ipc": True})["HostConfig"]["IpcMode"] == "host"


def test_mounts_and_their_propagation() -> None:
    given = [Mount(Path("/a"), "/b", read_only=True), Mount(Path("/c"), "/d", propagation="Bidirectional")]
    config = ContainerConfig(pod(), shell("true"), 0, mounts=given, sandbox=PodSandbox("x", {}, []))
    mounts = container_spec(config, owner=OWNER, settings=DockerConfig())["HostConfig"]["Mounts"]
    assert [(m["Source"], m["Target"], m["ReadOnly"], m["BindOptions"]["Propagation"]) for m in mounts] == [
        ("/a", "/b", True, "rprivate"),
        ("/c", "/d", False, "rshared"),
    ]


def test_profiles() -> None:
    def options(podman: bool = False, **context: Any) -> list[str]:
        host = spec_of(security_context=SecurityContext(**context), podman=podman)["HostConfig"]
        return list(host["SecurityOpt"])

    assert options() == []
    assert options(allow_privilege_escalation=False) == ["no-new-privileges"]
    assert options(seccomp_profile=SeccompProfile(type="Unconfined")) == ["seccomp=unconfined"]
    assert options(seccomp_profile=SeccompProfile(type="RuntimeDefault")) == []
    assert options(app_armor_profile=AppArmorProfile(type="Unconfined")) == ["apparmor=unconfined"]
    assert options(app_armor_profile=AppArmorProfile(type="Localhost", localhost_profile="mine")) == ["apparmor=mine"]
    assert options(se_linux_options=SELinuxOptions(level="s0:c1", type="t")) == ["label=type:t", "label=level:s0:c1"]
    assert options(podman=True, proc_mount="Unmasked") == ["unmask=ALL"]
    assert spec_of(security_context=SecurityContext(proc_mount="Unmasked"))["HostConfig"]["MaskedPaths"] == []
    privileged = spec_of(security_context=SecurityContext(privileged=True))["HostConfig"]
    assert privileged["Privileged"] is True


def test_logs_pids_and_runtimes_are_as_configured() -> None:
    config = DockerConfig(max_log_bytes=7, max_log_files=2, pod_pids_limit=9, runtime_classes={"fast": "crun"})
    docker = spec_of(config=config, of_pod={"runtime_class_name": "fast"})["HostConfig"]
    assert docker["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "7", "max-file": "2"}}
    assert (docker["PidsLimit"], docker["Runtime"]) == (9, "crun")
    podman = spec_of(config=config, podman=True)["HostConfig"]
    assert podman["LogConfig"] == {"Type": "k8s-file", "Config": {"max-size": "7"}}


def test_a_limit_that_is_taken_away_is_none_afterwards() -> None:
    none = docker_update(ResourceRequirements(requests={"cpu": "1"}))
    assert none == {"CpuShares": 1024, "CpuPeriod": 0, "CpuQuota": -1, "Memory": -1, "MemorySwap": -1}
    some = podman_update(ResourceRequirements(limits={"cpu": "1500m", "memory": "1Mi"}))
    assert some == {
        "cpu": {"shares": 1536, "quota": 150_000, "period": 100_000},
        "memory": {"limit": 1_048_576, "swap": 1_048_576},
    }


def test_a_sandboxs_name_ports_and_name_servers() -> None:
    ports = [
        ContainerPort(container_port=80, host_port=8080, host_ip="127.0.0.1"),
        ContainerPort(container_port=80, host_port=8081),
        ContainerPort(container_port=53, host_port=53, protocol="UDP"),
        ContainerPort(container_port=99),
    ]
    body = sandbox_of(dns=["10.0.0.10"], containers=[shell("true", ports=ports)])
    host = body["HostConfig"]
    assert body["Hostname"] == "a" * 63
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "", "HostPort": "8081"}],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    }
    assert body["ExposedPorts"].keys() == host["PortBindings"].keys()
    assert host["Dns"] == ["10.0.0.10"]
    assert host["DnsSearch"][0] == "default.svc.cluster.local"
    assert host["DnsOptions"] == ["ndots:5"]
    assert "Dns" not in sandbox_of()["HostConfig"]  # the machine's own
    assert sandbox_of(host_network=True)["HostConfig"]["NetworkMode"] == "host"
    assert "Hostname" not in sandbox_of(host_network=True)
    full = sandbox_of(hostname="h", subdomain="s", set_hostname_as_fqdn=True)
    assert full["Hostname"] == "h.s.default.svc.cluster.local"


def test_an_infra_container_has_no_rights() -> None:
    host = sandbox_of()["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert host["SecurityOpt"] == ["no-new-privileges"]


@pytest.mark.parametrize(
    ("of_pod", "container", "field"),
    [
        ({"os": PodOS(name="windows")}, {}, "spec.os.name"),
        ({"host_users": False}, {}, "spec.hostUsers"),
        ({"runtime_class_name": "gvisor"}, {}, "spec.runtimeClassName"),
        ({"resource_claims": [PodResourceClaim(name="gpu")]}, {}, "spec.resourceClaims"),
        ({"resources": ResourceRequirements(limits={"cpu": "1"})}, {}, "spec.resources"),
        (
            {"security_context": PodSecurityContext(supplemental_groups_policy="Strict")},
            {},
            "spec.securityContext.supplementalGroupsPolicy",
        ),
        ({}, {"volume_devices": [VolumeDevice(name="a", device_path="/dev/x")]}, "spec.containers[main].volumeDevices"),
        (
            {},
            {"volume_mounts": [VolumeMount(name="v", mount_path="/v", recursive_read_only="Enabled")]},
            "spec.containers[main].volumeMounts[v].recursiveReadOnly",
        ),
        (
            {},
            {"resources": ResourceRequirements(limits={"nvidia.com/gpu": "1"})},
            "spec.containers[main].resources.limits[nvidia.com/gpu]",
        ),
        (
            {},
            {"resources": ResourceRequirements(limits={"ephemeral-storage": "1Gi"})},
            "spec.containers[main].resources.limits[ephemeral-storage]",
        ),
        (
            {},
            {"security_context": SecurityContext(app_armor_profile=AppArmorProfile(type="RuntimeDefault"))},
            "spec.containers[main].securityContext.appArmorProfile",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_fields_name(
    of_pod: dict[str, Any], container: dict[str, Any], field: str
) -> None:
    one = pod(**of_pod)
    one.spec.containers = [shell("true", **container)]
    with pytest.raises(InvalidInputError) as raised:
        check_pod(one, DockerConfig(), app_armor=False)
    assert str(raised.value).startswith(f"{field}: ")
    assert raised.value.reason == "UnsupportedPodSpec"


def test_what_a_usual_pod_asks_for_is_taken() -> None:
    one = pod(
        runtime_class_name="fast",
        security_context=PodSecurityContext(
            run_as_user=1, fs_group=2, sysctls=[Sysctl(name="net.ipv4.tcp_syncookies", value="1")]
        ),
    )
    limits = ResourceRequirements(limits={"cpu": "1", "memory": "1Gi"}, requests={"ephemeral-storage": "1Gi"})
    one.spec.containers = [shell("true", resources=limits)]
    check_pod(one, DockerConfig(runtime_classes={"fast": "crun"}), app_armor=False)


def test_unsafe_sysctls_are_forbidden_as_by_a_kubelet_unless_allowed() -> None:
    def check(name: str, config: DockerConfig | None = None, **spec: Any) -> None:
        one = pod(security_context=PodSecurityContext(sysctls=[Sysctl(name=name, value="1")]), **spec)
        check_pod(one, config or DockerConfig(), app_armor=False)

    with pytest.raises(InvalidInputError, match=r'forbidden sysctl: .* "kernel.msgmax" not allowlisted') as raised:
        check("kernel.msgmax")
    assert raised.value.reason == "SysctlForbidden"
    check("kernel.msgmax", DockerConfig(allowed_unsafe_sysctls=["kernel.msg*"]))
    with pytest.raises(InvalidInputError, match="host network"):
        check("net.ipv4.tcp_syncookies", host_network=True)


def test_a_sysctl_may_have_slashes_between_its_parts() -> None:
    one = pod(security_context=PodSecurityContext(sysctls=[Sysctl(name="kernel/shm_rmid_forced", value="1")]))
    check_pod(one, DockerConfig(), app_armor=False)
    assert pod_sysctls(one, own_network=False) == {"kernel.shm_rmid_forced": "1"}
    assert sysctl_name("net/ipv4/conf/eth0.1/forwarding") == "net.ipv4.conf.eth0/1.forwarding"
    assert sysctl_name("net.ipv4.conf.eth0/1.forwarding") == "net.ipv4.conf.eth0/1.forwarding"
    with pytest.raises(InvalidInputError, match=r'"kernel.msgmax" not allowlisted'):
        one = pod(security_context=PodSecurityContext(sysctls=[Sysctl(name="kernel/msgmax", value="1")]))
        check_pod(one, DockerConfig(), app_armor=False)


def test_ports_below_1024_are_anybodys_in_a_network_of_the_pods_own_unless_it_says_otherwise() -> None:
    port = "net.ipv4.ip_unprivileged_port_start"
    assert pod_sysctls(pod(), own_network=True) == {port: "0"}
    assert pod_sysctls(pod(), own_network=False) == {}
    one = pod(security_context=PodSecurityContext(sysctls=[Sysctl(name=port, value="80")]))
    assert pod_sysctls(one, own_network=True) == {port: "80"}


def test_the_configuration_is_checked_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "docker.yaml"

    def load(text: str) -> DockerConfig:
        path.write_text(text)
        return load_config(path)

    assert load_config(None) == load("") == DockerConfig()
    assert load("runtimeClasses: {a: b}\nmaxLogFiles: 2").runtime_classes == {"a": "b"}
    for wrong in ("memory: lots", "maxLogBytes: 0", "host: 5", "runtimeClasses: [a]"):
        with pytest.raises(ProviderConfigError, match=wrong.partition(":")[0]):
            load(wrong)
    with pytest.raises(ProviderConfigError, match="unknown keys: hots"):
        load("hots: unix:///x")
    with pytest.raises(ProviderConfigError, match="not a mapping"):
        load("- a")
    with pytest.raises(ProviderConfigError, match="cannot read"):
        load_config(tmp_path / "none")
