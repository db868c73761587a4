"""What becomes of nodes that fall silent, of their pods, and of pods whose node is gone; in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.devcluster.control_plane import ControlPlane
from virtual_kubelet.devcluster.taint_eviction import tolerated_seconds

pytestmark = pytest.mark.looptime
Json = dict[str, Any]


def ready(plane: ControlPlane, name: str = "node") -> Json:
    found: Json = next(c for c in plane.get_node(name)["status"]["conditions"] if c["type"] == "Ready")
    return found


def running(plane: ControlPlane, name: str = "pod") -> None:
    """As its kubelet reports it."""
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": plane.now()}]
    status = {"phase": "Running", "conditions": conditions}
    plane.change(plane.state.pods, name, {"status": status}, "default")


async def test_a_node_whose_lease_stops_is_unknown_after_the_grace_period(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        for _ in range(10):
            plane.renew()
            await plane.after(10)
        assert ready(plane)["status"] == "True"
        await plane.after(39)
        assert ready(plane)["status"] == "True"
        await plane.after(2)
        assert plane.get_node()["status"]["conditions"] == [
            {
                "type": "Ready",
                "status": "Unknown",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                "lastTransitionTime": "2026-01-01T00:02:20Z",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            },
            *(
                {
                    "type": kind,
                    "status": "Unknown",
                    "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                    "lastTransitionTime": "2026-01-01T00:02:20Z",
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
                for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
            ),
        ]
        assert plane.taints() == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        assert all(t["timeAdded"] == "2026-01-01T00:02:20Z" for t in plane.get_node()["spec"]["taints"])


async def test_heartbeats_of_the_status_keep_a_node_alive_without_a_lease(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        for _ in range(20):
            await plane.after(40)
            plane.heartbeat()
        assert ready(plane)["status"] == "True"


async def test_a_lease_that_is_written_but_not_renewed_is_no_sign_of_life(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.renew()
        for _ in range(6):
            await plane.after(10)
            lease = plane.state.leases.get("kube-node-lease", "node")
            plane.state.leases.change(lease, lambda obj: obj["metadata"].update(labels={"at": plane.now()[-3:-1]}))
        assert ready(plane)["status"] == "Unknown"


async def test_a_node_that_never_speaks_is_unknown_after_the_startup_grace_period(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node(ready=False)
        await plane.settle()
        assert plane.taints() == {("not-ready", "NoSchedule")}
        await plane.after(59)
        assert "conditions" not in plane.get_node()["status"]
        await plane.after(2)
        assert ready(plane)["reason"] == "NodeStatusNeverUpdated"
        assert ("unreachable", "NoSchedule") in plane.taints()


async def test_a_node_that_speaks_again_loses_the_taints_and_keeps_its_pods(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod(nodeName="node")
        await plane.after(100)
        assert ready(plane)["status"] == "Unknown"
        plane.heartbeat()
        await plane.settle()
        assert plane.taints() == set()
        for _ in range(50):
            await plane.after(10)
            plane.renew()
        pod = plane.get_pod()
        assert pod is not None
        assert "deletionTimestamp" not in pod["metadata"]
        assert [e["message"] for e in plane.events("TaintManagerEviction")] == [
            "Cancelling deletion of Pod default/pod"
        ]


async def test_the_events_of_a_nodes_life_are_the_controllers(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        await plane.after(60)
        plane.delete_node()
        await plane.settle()
        uid = plane.events("RegisteredNode")[0]["involvedObject"]["uid"]
        found = [e for reason in ("RegisteredNode", "NodeNotReady", "RemovingNode") for e in plane.events(reason)]
        assert [(e["type"], e["message"], e["source"], e["count"], e["metadata"]["namespace"]) for e in found] == [
            ("Normal", message, {"component": "node-controller"}, 1, "default")
            for message in (
                "Node node event: Registered Node node in Controller",
                "Node node status is now: NodeNotReady",
                "Node node event: Removing Node node from Controller",
            )
        ]
        assert all(e["involvedObject"]["uid"] == uid for e in found)


async def test_pods_of_a_silent_node_are_not_ready(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod(nodeName="node")
        running(plane)
        await plane.after(60)
        assert plane.condition("pod", "Ready")["status"] == "False"
        assert plane.condition("pod", "Ready")["lastTransitionTime"] == "2026-01-01T00:00:50Z"
        assert [e["message"] for e in plane.events("NodeNotReady") if e["involvedObject"]["kind"] == "Pod"] == [
            "Node is not ready"
        ]


@pytest.mark.parametrize(
    ("condition", "taint"),
    [
        ("MemoryPressure", "memory-pressure"),
        ("DiskPressure", "disk-pressure"),
        ("PIDPressure", "pid-pressure"),
        ("NetworkUnavailable", "network-unavailable"),
    ],
)
async def test_pressure_taints_a_node_while_it_lasts(plane: ControlPlane, condition: str, taint: str) -> None:
    async with plane.running():
        plane.node()
        for status, expected in (("True", {(taint, "NoSchedule")}), ("False", set())):
            conditions = [ready(plane), {"type": condition, "status": status}]
            plane.change(plane.state.nodes, "node", {"status": {"conditions": conditions}})
            await plane.settle()
            assert plane.taints() == expected


async def test_taints_of_others_stay(plane: ControlPlane) -> None:
    theirs = {"key": "virtual-kubelet.io/provider", "value": "mock", "effect": "NoSchedule"}
    async with plane.running():
        plane.node(taints=[theirs], unschedulable=True)
        await plane.settle()
        plane.heartbeat(status="False")
        await plane.settle()
        taints = plane.get_node()["spec"]["taints"]
        assert theirs in taints
        assert plane.taints() - {("virtual-kubelet.io/provider", "NoSchedule")} == {
            ("not-ready", "NoSchedule"),
            ("not-ready", "NoExecute"),
            ("unschedulable", "NoSchedule"),
        }


# Eviction


async def test_pods_are_evicted_when_they_tolerate_an_unreachable_node_no_longer(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod("usual", nodeName="node")  # admission gives it 300 s
        plane.pod("short", nodeName="node", tolerations=[_tolerate("unreachable", 10)])
        plane.pod("endless", nodeName="node", tolerations=[_tolerate("unreachable", None)])
        plane.pod("intolerant", nodeName="node", tolerations=[_tolerate("unreachable", 0)])
        await plane.after(51)
        assert _evicted(plane) == {"intolerant"}
        await plane.after(10)
        assert _evicted(plane) == {"intolerant", "short"}
        await plane.after(280)
        assert _evicted(plane) == {"intolerant", "short"}
        await plane.after(20)
        assert _evicted(plane) == {"intolerant", "short", "usual"}
        condition = plane.condition("short", "DisruptionTarget")
        assert (condition["reason"], condition["message"]) == (
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        # Nobody confirms the end: they wait for their node.
        pod = plane.get_pod("short")
        assert pod is not None
        assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
        messages = {e["message"] for e in plane.events("TaintManagerEviction")}
        assert messages == {f"Marking for deletion Pod default/{name}" for name in _evicted(plane)}


async def test_a_no_execute_taint_by_hand_evicts_and_takes_effect_on_pods_that_come_later(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod("there", nodeName="node")
        taint = {"key": "maintenance", "value": "now", "effect": "NoExecute"}
        plane.change(plane.state.nodes, "node", {"spec": {"taints": [taint]}})
        await plane.settle()
        assert _evicted(plane) == {"there"}
        plane.pod("later", nodeName="node")
        await plane.settle()
        assert _evicted(plane) == {"there", "later"}


async def test_a_pod_that_is_created_anew_begins_anew(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod(nodeName="node", tolerations=[_tolerate("unreachable", 100)])
        await plane.after(51 + 90)
        plane.delete_pod()
        plane.pod(nodeName="node", tolerations=[_tolerate("unreachable", 100)])
        await plane.after(20)
        assert _evicted(plane) == set()
        await plane.after(90)
        assert _evicted(plane) == {"pod"}


@pytest.mark.parametrize(
    ("seconds", "expected"), [([], 0.0), ([5], 5.0), ([30, 5], 30.0), ([None], float("inf")), ([-3], 0.0)]
)
def test_the_first_toleration_that_matches_each_taint_counts(seconds: list[int | None], expected: float) -> None:
    tolerations = [_tolerate("unreachable", s) for s in seconds]
    assert tolerated_seconds([("node.kubernetes.io/unreachable", "", "NoExecute")], tolerations) == expected


def test_of_several_taints_the_shortest_toleration_counts() -> None:
    taints = [("node.kubernetes.io/unreachable", "", "NoExecute"), ("k", "", "NoExecute")]
    tolerations = [_tolerate("unreachable", 300), {"key": "k", "operator": "Exists", "tolerationSeconds": 20}]
    assert tolerated_seconds(taints, tolerations) == 20
    assert tolerated_seconds(taints, tolerations[:1]) == 0


# Pods without a node


async def test_pods_of_a_deleted_node_are_failed_and_removed_after_the_quarantine(plane: ControlPlane) -> None:
    last: dict[str, Json] = {}
    plane.state.pods.objects.listen(lambda change: last.update({change.last.key[1]: change.last.decode()}))
    async with plane.running():
        plane.node()
        plane.pod("running", nodeName="node")
        running(plane, "running")
        plane.pod("done", nodeName="node")
        plane.change(plane.state.pods, "done", {"status": {"phase": "Succeeded"}}, "default")
        await plane.settle()
        plane.delete_node()
        await plane.after(39)
        assert plane.get_pod("running") is not None
        await plane.after(2)
        assert plane.get_pod("running") is plane.get_pod("done") is None
        status = last["running"]["status"]
        assert status["phase"] == "Failed"
        condition = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
        assert (condition["reason"], condition["message"]) == ("DeletionByPodGC", "PodGC: node no longer exists")
        assert last["done"]["status"]["phase"] == "Succeeded"


async def test_pods_that_wait_for_the_end_go_with_their_node(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod(nodeName="node")
        plane.delete_pod(grace=600)
        await plane.settle()
        plane.delete_node()
        await plane.after(41)
        assert plane.get_pod() is None


async def test_a_node_that_comes_back_in_time_keeps_its_pods(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        plane.pod(nodeName="node")
        await plane.settle()
        plane.delete_node()
        await plane.after(30)
        plane.node()
        await plane.after(45)
        assert plane.get_pod() is not None


async def test_a_pod_that_names_a_node_that_never_was_goes_too(plane: ControlPlane) -> None:
    async with plane.running():
        plane.pod(nodeName="nowhere")
        await plane.after(39)
        assert plane.get_pod() is not None
        await plane.after(2)
        assert plane.get_pod() is None


def _tolerate(taint: str, seconds: int | None) -> Json:
    toleration = {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute"}
    return toleration if seconds is None else {**toleration, "tolerationSeconds": seconds}


def _evicted(plane: ControlPlane) -> set[str]:
    pods = (stored.decode() for stored in plane.state.pods.objects.values("default"))
    return {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]}
