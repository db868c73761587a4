"""The scheduler at work, in virtual time."""

from __future__ import annotations

import pytest

from tests.devcluster.control_plane import ControlPlane

pytestmark = pytest.mark.looptime
LARGE = [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "3"}}}]


async def test_a_pod_is_bound_to_the_node_that_has_fewest_and_says_so(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node("a")
        plane.node("b")
        await plane.settle()
        for name in ("p1", "p2", "p3"):
            plane.pod(name)
        await plane.settle()
        assert sorted(plane.placed(name) for name in ("p1", "p2", "p3")) == ["a", "a", "b"]
        assert plane.scheduled("p1")["status"] == "True"
        assert [e["message"] for e in plane.events("Scheduled") if e["involvedObject"]["name"] == "p1"] == [
            "Successfully assigned default/p1 to a"
        ]


async def test_a_pod_that_fits_nowhere_stays_pending_with_condition_and_event(plane: ControlPlane) -> None:
    async with plane.running():
        plane.pod()
        await plane.settle()
        assert plane.scheduled() == {
            "type": "PodScheduled",
            "observedGeneration": 1,
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": plane.now(),
            "reason": "Unschedulable",
            "message": "no nodes available to schedule pods",
        }
        (event,) = plane.events("FailedScheduling")
        assert (event["type"], event["action"], event["reportingComponent"]) == (
            "Warning",
            "Scheduling",
            "default-scheduler",
        )


async def test_it_is_tried_again_when_a_node_becomes_ready(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node(ready=False)
        plane.pod()
        await plane.settle()
        assert plane.scheduled()["message"].startswith("0/1 nodes are available: 1 node(s) had untolerated taint(s).")
        plane.heartbeat()
        await plane.settle()
        assert plane.placed() == "node"
        assert plane.scheduled()["status"] == "True"


async def test_it_is_tried_again_when_another_pod_ends_or_goes(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node(allocatable={"cpu": "4", "pods": "10"})
        await plane.settle()
        for name in ("first", "second", "third"):
            plane.pod(name, containers=LARGE)
        await plane.settle()
        assert [plane.placed(name) for name in ("first", "second", "third")] == ["node", "", ""]
        plane.change(plane.state.pods, "first", {"status": {"phase": "Succeeded"}}, "default")
        await plane.settle()
        assert [plane.placed(name) for name in ("second", "third")] == ["node", ""]
        plane.delete_pod("second")
        await plane.settle()
        assert plane.placed("third") == "node"


async def test_it_is_tried_again_when_the_pod_itself_changes(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node(taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
        await plane.settle()
        plane.pod()
        await plane.settle()
        assert plane.placed() == ""
        tolerations = [{"key": "k", "operator": "Exists"}]
        plane.change(plane.state.pods, "pod", {"spec": {"tolerations": tolerations}}, "default")
        await plane.settle()
        assert plane.placed() == "node"


async def test_it_is_tried_again_when_labels_or_the_cordon_change(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node(unschedulable=True)
        await plane.settle()
        plane.pod(nodeSelector={"disk": "ssd"})
        await plane.settle()
        assert "1 node(s) were unschedulable" in plane.scheduled()["message"]
        plane.change(plane.state.nodes, "node", {"spec": {"unschedulable": None}})
        await plane.settle()
        assert "1 node(s) didn't match Pod's node affinity/selector" in plane.scheduled()["message"]
        plane.change(plane.state.nodes, "node", {"metadata": {"labels": {"disk": "ssd"}}})
        await plane.settle()
        assert plane.placed() == "node"


async def test_heartbeats_do_not_try_again(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        await plane.settle()
        plane.pod(nodeSelector={"no": "where"})
        await plane.settle()
        before = plane.state.store.revision
        await plane.after(10)
        plane.heartbeat()
        await plane.settle()
        assert plane.state.store.revision == before + 1


async def test_a_bound_pod_counts_from_its_creation_and_a_host_port_once(plane: ControlPlane) -> None:
    ports = [{"name": "m", "image": "x", "ports": [{"containerPort": 1, "hostPort": 8080, "protocol": "TCP"}]}]
    async with plane.running():
        plane.node(allocatable={"cpu": "4", "pods": "2"})
        plane.pod("bound", nodeName="node", containers=ports)
        await plane.settle()
        plane.pod("same-port", containers=ports)
        plane.pod("fits")
        plane.pod("too-many")
        await plane.settle()
        assert "1 node(s) didn't have free ports" in plane.scheduled("same-port")["message"]
        assert plane.placed("fits") == "node"
        assert "1 Too many pods" in plane.scheduled("too-many")["message"]


async def test_a_pod_that_is_resized_takes_what_it_now_asks_for(plane: ControlPlane) -> None:
    small = [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}]
    async with plane.running():
        plane.node(allocatable={"cpu": "4", "pods": "9"})
        plane.pod("first", containers=LARGE)
        await plane.settle()
        plane.change(plane.state.pods, "first", {"spec": {"containers": small}}, "default")
        await plane.settle()
        plane.pod("second", containers=LARGE)
        await plane.settle()
        assert plane.placed("second") == "node"


@pytest.mark.parametrize(("reason", "placed"), [(None, ""), ("Deferred", ""), ("Infeasible", "node")])
async def test_what_a_pod_has_counts_beside_what_it_asks_for_unless_it_cannot_have_that(
    plane: ControlPlane, reason: str | None, placed: str
) -> None:
    """A pod that is to have more, or less, counts as the most of both until its node says that it has it."""
    async with plane.running():
        plane.node(allocatable={"cpu": "4", "pods": "9"})
        has = {"requests": {"cpu": "1"}}
        plane.pod("first", containers=[{"name": "main", "image": "x", "resources": has}])
        await plane.settle()
        resized = [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "3"}}}]
        plane.change(plane.state.pods, "first", {"spec": {"containers": resized}}, "default")
        statuses = [{"name": "main", "resources": has, "allocatedResources": has["requests"]}]
        conditions = [{"type": "PodResizePending", "status": "True", "reason": reason}] if reason else []
        status = {"containerStatuses": statuses, "conditions": conditions}
        plane.change(plane.state.pods, "first", {"status": status}, "default")
        await plane.settle()
        plane.pod("second", containers=[{"name": "main", "image": "x", "resources": {"requests": {"cpu": "2"}}}])
        await plane.settle()
        assert plane.placed("second") == placed


async def test_a_pod_that_gives_something_back_makes_room_when_its_node_says_so(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node(allocatable={"cpu": "4", "pods": "9"})
        plane.pod("first", containers=[{"name": "main", "image": "x", "resources": {"requests": {"cpu": "3"}}}])
        await plane.settle()
        statuses = [{"name": "main", "resources": {"requests": {"cpu": "3"}}}]
        plane.change(plane.state.pods, "first", {"status": {"containerStatuses": statuses}}, "default")
        less = [{"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}]
        plane.change(plane.state.pods, "first", {"spec": {"containers": less}}, "default")
        plane.pod("second", containers=[{"name": "main", "image": "x", "resources": {"requests": {"cpu": "3"}}}])
        await plane.settle()
        assert plane.placed("second") == ""
        statuses = [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]
        plane.change(plane.state.pods, "first", {"status": {"containerStatuses": statuses}}, "default")
        await plane.settle()
        assert plane.placed("second") == "node"


async def test_pods_of_other_schedulers_and_gated_ones_are_left_alone(plane: ControlPlane) -> None:
    async with plane.running():
        plane.node()
        await plane.settle()
        plane.pod("other", schedulerName="mine")
        plane.pod("gated", schedulingGates=[{"name": "example.com/wait"}])
        await plane.settle()
        assert plane.placed("other") == plane.placed("gated") == ""
        plane.change(plane.state.pods, "gated", {"spec": {"schedulingGates": None}}, "default")
        await plane.settle()
        assert plane.placed("gated") == "node"
