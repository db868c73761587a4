"""Requests and limits as kernel numbers: the kubelet's arithmetic."""

from __future__ import annotations

import pytest

from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from virtual_kubelet.objects.pod_fitting import pod_limits, pod_requests
from virtual_kubelet.objects.serialization import to_builtins
from virtual_kubelet.runtime.resources import (
    CgroupLimits,
    QosClass,
    container_cgroup,
    cpu_quota,
    cpu_shares,
    cpu_weight,
    oom_score_adjustment,
    pod_cgroup,
    qos_class,
)

GI = 1 << 30
Amounts = dict[str, str]


def resources(requests: Amounts | None = None, limits: Amounts | None = None) -> ResourceRequirements:
    return ResourceRequirements(requests=requests, limits=limits)


def container(
    requests: Amounts | None = None, limits: Amounts | None = None, *, name: str = "c", sidecar: bool = False
) -> Container:
    policy = "Always" if sidecar else None
    return Container(name=name, resources=resources(requests, limits), restart_policy=policy)


def a_pod(*containers: Container, init: list[Container] | None = None, own: ResourceRequirements | None = None) -> Pod:
    return Pod(spec=PodSpec(containers=list(containers), init_containers=init, resources=own))


@pytest.mark.parametrize(
    ("milli_cpu", "shares"), [(0, 2), (1, 2), (2, 2), (10, 10), (100, 102), (1000, 1024), (10**9, 262144)]
)
def test_cpu_shares(milli_cpu: int, shares: int) -> None:
    assert cpu_shares(milli_cpu) == shares


@pytest.mark.parametrize(("milli_cpu", "quota"), [(0, None), (1, 1000), (10, 1000), (100, 10_000), (1500, 150_000)])
def test_cpu_quota(milli_cpu: int, quota: int | None) -> None:
    assert cpu_quota(milli_cpu) == quota


@pytest.mark.parametrize(("shares", "weight"), [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (10**9, 10_000)])
def test_cpu_weight(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_a_container_without_resources_has_no_limits() -> None:
    assert container_cgroup(None) == container_cgroup(resources()) == CgroupLimits(2)


def test_a_containers_requests_and_limits() -> None:
    assert container_cgroup(resources({"cpu": "250m", "memory": "1Gi"}, {"cpu": "1", "memory": "2Gi"})) == (
        CgroupLimits(256, 100_000, 2 * GI)
    )


def test_a_limit_without_a_request_is_the_request_too() -> None:
    assert container_cgroup(resources(limits={"cpu": "500m"})) == CgroupLimits(512, 50_000)


@pytest.mark.parametrize(
    ("pod", "qos"),
    [
        (a_pod(container()), QosClass.BEST_EFFORT),
        (a_pod(container({"cpu": "0"})), QosClass.BEST_EFFORT),
        (a_pod(container({"example.com/x": "1"})), QosClass.BEST_EFFORT),
        (a_pod(container({"cpu": "1"})), QosClass.BURSTABLE),
        (a_pod(container({"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"})), QosClass.GUARANTEED),
        (a_pod(container({"cpu": "1000m", "memory": "1Ki"}, {"cpu": "1", "memory": "1024"})), QosClass.GUARANTEED),
        (a_pod(container({"cpu": "1", "memory": "1"}, {"cpu": "2", "memory": "1"})), QosClass.BURSTABLE),
        (a_pod(container({"cpu": "1"}, {"cpu": "1"})), QosClass.BURSTABLE),
        (
            a_pod(container({"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"}), container()),
            QosClass.BURSTABLE,
        ),
        (
            a_pod(container({"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"}), init=[container()]),
            QosClass.BURSTABLE,
        ),
        (
            a_pod(container(), own=resources({"cpu": "1", "memory": "1"}, {"cpu": "1", "memory": "1"})),
            QosClass.GUARANTEED,
        ),
        (a_pod(container({"cpu": "1"}), own=resources({"cpu": "1"})), QosClass.BURSTABLE),
    ],
)
def test_quality_of_service(pod: Pod, qos: QosClass) -> None:
    assert qos_class(pod) is qos


def test_what_a_pod_takes_is_its_containers_and_sidecars_or_the_largest_init_container() -> None:
    pod = a_pod(
        container({"cpu": "1", "memory": "1Gi"}),
        container({"cpu": "1"}),
        init=[container({"cpu": "500m"}, sidecar=True), container({"cpu": "3", "memory": "100"})],
    )
    taken = pod_requests(to_builtins(pod.spec))
    assert (taken.cpu, taken.memory, taken.pods) == (3500, GI, 1)
    pod.spec.overhead = {"cpu": "250m"}
    assert pod_requests(to_builtins(pod.spec)).cpu == 3750
    pod.spec.resources = resources({"cpu": "2"})
    assert pod_requests(to_builtins(pod.spec)).cpu == 2250


def test_limits_of_a_pod_have_overhead_only_where_there_is_a_limit() -> None:
    pod = a_pod(container(limits={"cpu": "1"}), container(limits={"cpu": "1"}))
    pod.spec.overhead = {"cpu": "250m", "memory": "1Gi"}
    assert pod_limits(to_builtins(pod.spec)) == {"cpu": 2250}


def test_the_cgroup_of_a_pod_is_limited_only_if_all_its_containers_are() -> None:
    everything: Amounts = {"cpu": "1", "memory": "1Gi"}
    assert pod_cgroup(a_pod(container())) == CgroupLimits(2)
    assert pod_cgroup(a_pod(container(everything, everything))) == CgroupLimits(1024, 100_000, GI)
    burstable = a_pod(container({"cpu": "500m"}, everything), container(limits={"cpu": "1"}))
    assert pod_cgroup(burstable) == CgroupLimits(512, 200_000, None)
    own = a_pod(container(), own=resources({"cpu": "500m"}, {"memory": "2Gi"}))
    assert pod_cgroup(own) == CgroupLimits(512, None, 2 * GI)


def test_how_soon_the_oom_killer_takes_a_container() -> None:
    def score(pod: Pod, which: int = 0) -> int:
        return oom_score_adjustment(pod, pod.spec.containers[which], 8 * GI)

    full: Amounts = {"cpu": "1", "memory": "1Gi"}
    assert score(a_pod(container())) == 1000
    assert score(a_pod(container(full, full))) == -997
    assert score(a_pod(container({"memory": "2Gi"}))) == 750
    assert score(a_pod(container({"cpu": "1"}))) == 999
    assert score(a_pod(container({"memory": "8Gi"}))) == 3
    critical = a_pod(container())
    critical.spec.priority_class_name, critical.spec.priority = "system-node-critical", 2_000_001_000
    assert score(critical) == -997


def test_a_sidecar_is_spared_as_long_as_the_containers_that_depend_on_it() -> None:
    sidecar = container({"memory": "1Mi"}, name="sidecar", sidecar=True)
    pod = a_pod(container({"memory": "4Gi"}), container({"memory": "2Gi"}), init=[sidecar])
    assert oom_score_adjustment(pod, sidecar, 8 * GI) == 750


def test_what_a_pod_asks_for_beyond_its_containers_is_shared_among_them() -> None:
    pod = a_pod(container({"memory": "1Gi"}), container(), own=resources({"memory": "5Gi"}))
    assert [oom_score_adjustment(pod, c, 8 * GI) for c in pod.spec.containers] == [625, 750]
