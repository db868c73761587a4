"""Admission at the node: reasons and messages as the recorded kubelet's, what counts, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from virtual_kubelet.objects.core_v1 import Node, NodeFeatures, NodeSpec, NodeStatus, Taint
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.pod_fitting import NOTHING, Resources
from virtual_kubelet.runtime.admission import NodeFacts, Rejection, node_facts, pod_demand, rejection_of

LIFECYCLES = Path(__file__).parents[3] / "shared/kubelet-1.36/lifecycles"
NODE = NodeFacts("n", {"zone": "a"}, (), {"cpu": "2", "memory": "1Gi", "pods": "3", "ephemeral-storage": "1Gi"})
Json = dict[str, Any]


def asking(**requests: str) -> Json:
    named = {name.replace("_", "-"): amount for name, amount in requests.items()}
    return {"containers": [{"name": "c", "resources": {"requests": named}}]}


def judged(spec: Json, node: NodeFacts = NODE, used: Resources = NOTHING, **other: Any) -> Rejection | None:
    return rejection_of(pod_demand(spec, other.get("labels", {})), node, used, other.get("ports", ()))


def reason(*args: Any, **kwargs: Any) -> str | None:
    rejection = judged(*args, **kwargs)
    return rejection.reason if rejection is not None else None


@pytest.mark.recording
@pytest.mark.parametrize("name", ["admission-out-of-cpu", "admission-node-selector"])
def test_the_recorded_kubelet_says_the_same(name: str) -> None:
    rows = [json.loads(line) for line in (LIFECYCLES / f"{name}.jsonl").read_text().splitlines()]
    status = next(row["status"] for row in rows if row.get("status", {}).get("phase") == "Failed")
    (event,) = rows[-1]["events"]
    rejection = judged(rows[0]["pod"]["spec"])
    assert rejection is not None
    assert (rejection.reason, rejection.status_message) == (status["reason"], status["message"])
    assert (rejection.reason, rejection.message) == (event["reason"], event["message"])


@pytest.mark.parametrize(
    ("spec", "used", "said"),
    [
        (asking(cpu="1500m"), Resources(cpu=501), ("OutOfcpu", "cpu, requested: 1500, used: 501, capacity: 2000")),
        (
            asking(memory="1Gi"),
            Resources(memory=1),
            ("OutOfmemory", "memory, requested: 1073741824, used: 1, capacity: 1073741824"),
        ),
        (
            asking(ephemeral_storage="2Gi"),
            NOTHING,
            ("OutOfephemeral-storage", "ephemeral-storage, requested: 2147483648, used: 0, capacity: 1073741824"),
        ),
        (asking(), Resources(pods=3), ("OutOfpods", "pods, requested: 1, used: 3, capacity: 3")),
    ],
)
def test_what_there_is_not_enough_of(spec: Json, used: Resources, said: tuple[str, str]) -> None:
    assert judged(spec, used=used) == Rejection(said[0], f"Node didn't have enough resource: {said[1]}")


def test_what_just_fits_is_taken() -> None:
    used = Resources(cpu=1000, memory=1, pods=2)
    assert judged(asking(cpu="1", memory="1073741823", ephemeral_storage="1Gi"), used=used) is None


def test_only_what_the_node_declares_is_counted() -> None:
    spec = asking(cpu="1000", memory="1Ti")
    spec["containers"][0]["resources"]["requests"]["example.com/gpu"] = "5"
    assert judged(spec, NODE._replace(allocatable={}), Resources(pods=10**6)) is None
    assert reason(spec, NODE._replace(allocatable={"memory": "1Gi"})) == "OutOfmemory"
    assert reason(spec, NODE._replace(allocatable={"example.com/gpu": "4"})) == "OutOfexample.com/gpu"


def test_init_containers_sidecars_overhead_and_the_pods_own_resources_count() -> None:
    spec = asking(cpu="1")
    spec["initContainers"] = [
        {"name": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "600m"}}},
        {"name": "j", "resources": {"requests": {"cpu": "100m"}}},
    ]
    assert judged(spec) is None
    spec["overhead"] = {"cpu": "401m"}
    assert reason(spec) == "OutOfcpu"
    spec["resources"] = {"requests": {"cpu": "1"}}
    assert judged(spec) is None


def test_a_node_whose_quantities_are_none_rejects_with_the_reason() -> None:
    assert reason(asking(cpu="1"), NODE._replace(allocatable={"cpu": "lots"})) == "UnexpectedAdmissionError"


def test_selector_and_affinity() -> None:
    def affinity(**expression: Any) -> Json:
        terms = [{"matchExpressions": [expression]}]
        return {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            }
        }

    assert judged({"nodeSelector": {"zone": "a"}}) is None
    assert reason({"nodeSelector": {"zone": "b"}}) == "NodeAffinity"
    assert judged(affinity(key="zone", operator="In", values=["a", "b"])) is None
    assert reason(affinity(key="zone", operator="NotIn", values=["a", "b"])) == "NodeAffinity"
    assert reason(affinity(key="disk", operator="Exists")) == "NodeAffinity"


def test_host_ports_that_are_taken() -> None:
    spec = {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}]}]}
    assert judged(spec, ports=[("0.0.0.0", "UDP", 8080), ("0.0.0.0", "TCP", 8081)]) is None
    message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    assert judged(spec, ports=[("10.0.0.1", "TCP", 8080)]) == Rejection("NodePorts", message)


def test_only_taints_that_evict_are_looked_at() -> None:
    node = NODE._replace(taints=[("k", "v", "NoSchedule")])
    assert judged({}, node) is None
    node = NODE._replace(taints=[("k", "v", "NoExecute")])
    message = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    assert judged({}, node) == Rejection("TaintToleration", message)
    assert judged({"tolerations": [{"key": "k", "operator": "Exists"}]}, node) is None


def test_another_operating_system() -> None:
    assert judged({"os": {"name": "linux"}}) is None
    message = "Failed to admit pod as the OS field doesn't match node OS"
    assert judged({"os": {"name": "windows"}}) == Rejection("PodOSNotSupported", message)
    assert judged({"os": {"name": "windows"}}, NODE._replace(operating_system="windows")) is None
    assert reason({}, labels={"kubernetes.io/os": "windows"}) == "PodOSSelectorNodeLabelDoesNotMatch"


def test_strict_groups_need_a_node_that_can() -> None:
    spec = {"securityContext": {"supplementalGroupsPolicy": "Strict"}}
    message = "SupplementalGroupsPolicy=Strict is not supported in this node"
    assert judged(spec) == Rejection("SupplementalGroupsPolicyNotSupported", message)
    assert judged(spec, NODE._replace(strict_groups=True)) is None
    assert judged({"securityContext": {"supplementalGroupsPolicy": "Merge"}}) is None


def test_of_several_reasons_the_kubelets_first_is_given() -> None:
    node = NODE._replace(taints=[("k", "v", "NoExecute")])
    spec = asking(cpu="3") | {"nodeSelector": {"no": "such"}, "os": {"name": "windows"}}
    reasons = []
    for part in ("os", "containers", "nodeSelector", "tolerations"):
        reasons.append(reason(spec, node))
        spec.pop(part, None)
    assert reasons == ["PodOSNotSupported", "OutOfcpu", "NodeAffinity", "TaintToleration"]


def test_the_facts_of_a_node() -> None:
    node = Node(
        metadata=ObjectMeta(name="n", labels={"a": "b"}),
        spec=NodeSpec(taints=[Taint(key="k", effect="NoExecute")]),
        status=NodeStatus(capacity={"cpu": "1"}, features=NodeFeatures(supplemental_groups_policy=True)),
    )
    assert node_facts(node) == NodeFacts("n", {"a": "b"}, [("k", "", "NoExecute")], {"cpu": "1"}, "linux", True)
    node.status.allocatable = {"cpu": "500m"}
    assert node_facts(node).allocatable == {"cpu": "500m"}
