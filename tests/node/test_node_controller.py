"""NodeController against an API server in memory, in virtual time. Names in brackets are upstream's tests or the
failure matrix's rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.node.conftest import RunNode
from tests.node.node_api import Events, LoopClock, NodeApi, Request
from virtual_kubelet.contracts.nodes import NaiveNodeProvider, NodeStatusCallback
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    ApiNotFoundError,
    ForbiddenError,
    ServerError,
    UnauthorizedError,
)
from virtual_kubelet.node.node_controller import NodeController
from virtual_kubelet.node.readiness import NodeReadiness
from virtual_kubelet.node.registration import copy_node
from virtual_kubelet.objects.core_v1 import Node, NodeCondition
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.telemetry.metrics import Metrics

pytestmark = pytest.mark.looptime


class Backend:
    """A provider whose ping is ``self.answer()``."""

    def __init__(self) -> None:
        self.callback: NodeStatusCallback | None = None
        self.error: Exception | None = None
        self.hanging = False
        self.pings: list[float] = []

    async def ping(self) -> None:
        self.pings.append(asyncio.get_running_loop().time())
        if self.hanging:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    def notify_node_status(self, callback: NodeStatusCallback) -> None:
        self.callback = callback

    def report(self, node: Node) -> None:
        assert self.callback is not None
        self.callback(node)


def ready(api: NodeApi) -> tuple[str, str]:
    condition = api.condition("Ready")
    assert condition is not None
    return condition.status, condition.reason or ""


def taints(api: NodeApi) -> list[str]:
    return [t.key for t in api.node().spec.taints or []]


def while_(active: Callable[[Request], bool], error: Exception) -> Callable[[Request], Exception | None]:
    return lambda request: error if active(request) else None


class TestRegistration:
    async def test_a_new_node_is_created_whole(self, api: NodeApi, run_node: RunNode, vk_node: Node) -> None:
        controller = run_node()
        await controller.wait_ready()
        await controller.wait_reported_ready()
        node = api.node()
        assert node.metadata.labels == vk_node.metadata.labels
        assert node.spec.taints == vk_node.spec.taints
        assert node.status.capacity == node.status.allocatable == {"cpu": "1", "pods": "10"}
        assert node.status.addresses == vk_node.status.addresses
        assert node.status.node_info == vk_node.status.node_info
        assert ready(api) == ("True", "KubeletReady")
        assert all(c.last_heartbeat_time and c.last_transition_time for c in node.status.conditions or [])

    async def test_before_annotations_preserved(self, api: NodeApi, run_node: RunNode) -> None:
        """[TestBeforeAnnotationsPreserved] What was on the Node before us stays."""
        api.put("nodes", Node(metadata=ObjectMeta(name="vk", annotations={"theirs": "1"}, labels={"x": "y"})))
        await run_node().wait_ready()
        node = api.node()
        assert node.metadata.annotations is not None
        assert node.metadata.annotations["theirs"] == "1"
        assert (node.metadata.labels or {})["x"] == "y"
        assert api.seen("create") == []

    async def test_an_adopted_node_gets_our_taints(self, api: NodeApi, run_node: RunNode) -> None:
        """Upstream never updates the spec of a Node that exists."""
        api.put("nodes", Node(metadata=ObjectMeta(name="vk")))
        api.edit({"spec": {"taints": [{"key": "theirs", "effect": "NoExecute"}]}})
        await run_node().wait_ready()
        assert taints(api) == ["theirs", "virtual-kubelet.io/provider"]

    async def test_somebody_creating_it_meanwhile_is_no_error(self, api: NodeApi, run_node: RunNode) -> None:
        def race(request: Request) -> None:
            if request.verb == "create" and request.resource == "nodes" and not api.exists():
                api.put("nodes", Node(metadata=ObjectMeta(name="vk", labels={"x": "y"})))

        api.fault = race
        await run_node().wait_ready()
        assert (api.node().metadata.labels or {})["x"] == "y"
        assert taints(api) == ["virtual-kubelet.io/provider"]

    async def test_nothing_is_written_twice_at_the_start(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node().wait_reported_ready()
        await asyncio.sleep(5)
        assert len(api.seen("create")) == 1
        assert api.seen("patch") == []
        assert len(api.seen("patch", subresource="status")) <= 1

    @pytest.mark.parametrize("error", [ForbiddenError(403, "Forbidden", "no"), UnauthorizedError(401, "", "who?")])
    async def test_what_waiting_cannot_cure_ends_run_and_reaches_who_waits(
        self, api: NodeApi, vk_node: Node, error: ApiError
    ) -> None:
        api.fault = while_(lambda r: True, error)
        controller = NodeController(NaiveNodeProvider(), vk_node, api.client)
        waiter = asyncio.create_task(controller.wait_ready())
        with pytest.raises(type(error)):
            await controller.run()
        with pytest.raises(type(error)):
            await waiter
        with pytest.raises(type(error)):
            await controller.wait_reported_ready()

    async def test_an_unreachable_server_is_waited_for(self, api: NodeApi, run_node: RunNode) -> None:
        api.fault = while_(lambda r: r.at < 60, ApiConnectionError("refused"))
        controller = run_node()
        await asyncio.sleep(30)
        assert isinstance(controller.last_error, ApiConnectionError)
        await controller.wait_reported_ready()
        assert asyncio.get_running_loop().time() < 75
        assert controller.last_error is None

    async def test_being_stopped_before_the_node_is_there_is_told_to_who_waits(
        self, api: NodeApi, vk_node: Node
    ) -> None:
        api.fault = while_(lambda r: True, ApiConnectionError("refused"))
        controller = NodeController(NaiveNodeProvider(), vk_node, api.client)
        task = asyncio.create_task(controller.run())
        waiter = asyncio.create_task(controller.wait_ready())
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(RuntimeError, match="stopped before"):
            await waiter

    async def test_it_runs_once(self, run_node: RunNode) -> None:
        controller = run_node()
        await controller.wait_ready()
        with pytest.raises(RuntimeError, match="only once"):
            await controller.run()

    async def test_stopping_leaves_no_task_and_no_error(self, api: NodeApi, vk_node: Node) -> None:
        before = asyncio.all_tasks()
        controller = NodeController(Backend(), vk_node, api.client)
        task = asyncio.create_task(controller.run())
        await controller.wait_reported_ready()
        await asyncio.sleep(100)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before


class TestReady:
    async def test_not_ready_until_the_gates_are_open(self, api: NodeApi, run_node: RunNode, events: Events) -> None:
        readiness = NodeReadiness(["pods", "server"])
        controller = run_node(readiness=readiness)
        await controller.wait_ready()
        await asyncio.sleep(5)
        assert ready(api) == ("False", "KubeletNotReady")
        readiness.open("pods")
        await asyncio.sleep(1)
        assert ready(api)[0] == "False"
        readiness.open("server")
        await controller.wait_reported_ready()
        assert ready(api) == ("True", "KubeletReady")
        assert asyncio.get_running_loop().time() < 6.1
        assert events.reasons() == ["NodeReady"]

    async def test_a_failing_ping_makes_it_not_ready_at_once_and_recovery_ready(
        self, api: NodeApi, run_node: RunNode, events: Events
    ) -> None:
        """[C05, liqo PR #1017] Upstream writes nothing then: the node is lost by time-out only."""
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        backend.error = ConnectionError("no backend")
        await asyncio.sleep(10.1)
        condition = api.condition("Ready")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "ProviderPingFailed")
        assert condition.message == "ConnectionError: no backend"
        since = condition.last_transition_time
        backend.error = ConnectionError("still none")
        await asyncio.sleep(10)
        condition = api.condition("Ready")
        assert condition is not None
        assert condition.message == "ConnectionError: still none"
        assert condition.last_transition_time == since
        backend.error = None
        await asyncio.sleep(10)
        assert ready(api) == ("True", "KubeletReady")
        assert events.reasons() == ["NodeReady", "NodeNotReady", "NodeReady"]

    async def test_a_first_ping_that_fails_registers_the_node_not_ready(self, api: NodeApi, run_node: RunNode) -> None:
        """Upstream's Run ends with an error instead."""
        backend = Backend()
        backend.error = OSError("down")
        await run_node(backend).wait_ready()
        await asyncio.sleep(1)
        assert ready(api) == ("False", "ProviderPingFailed")

    async def test_a_hanging_ping_delays_neither_registration_nor_lease_nor_status(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        backend = Backend()
        backend.hanging = True
        await run_node(backend, ping_timeout=5).wait_ready()
        await asyncio.sleep(95)
        assert ready(api) == ("False", "ProviderPingFailed")
        renewals = [r.at for r in api.requests if r.resource == "leases" and r.verb in ("create", "patch")]
        assert len(renewals) >= 10
        backend.report(_with_capacity(vk_node, "7"))
        await asyncio.sleep(0.1)
        assert (api.node().status.capacity or {})["cpu"] == "7"

    async def test_a_hanging_status_write_does_not_delay_the_lease(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node().wait_reported_ready()
        api.fault = lambda request: 3600.0 if request.resource == "nodes" else None
        await asyncio.sleep(300)
        renewals = [r.at for r in api.requests if r.resource == "leases" and r.verb in ("create", "patch")]
        assert max(b - a for a, b in pairwise(renewals)) <= 10.01

    async def test_what_the_first_node_says_of_ready_does_not_count(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        vk_node.status.conditions = [NodeCondition(type="Ready", status="False", reason="KubeletPending")]
        await run_node(node=vk_node).wait_reported_ready()
        assert ready(api) == ("True", "KubeletReady")

    async def test_a_provider_may_say_that_it_is_not_ready(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        node = copy_node(vk_node)
        node.status.conditions = [NodeCondition(type="Ready", status="False", reason="Full", message="no room")]
        backend.report(node)
        await asyncio.sleep(0.1)
        assert ready(api) == ("False", "Full")
        backend.report(vk_node)
        await asyncio.sleep(0.1)
        assert ready(api) == ("True", "KubeletReady")


def _with_capacity(node: Node, cpu: str) -> Node:
    changed = copy_node(node)
    changed.status.capacity = {"cpu": cpu, "pods": "10"}
    return changed


class TestPeriods:
    async def test_node_run_with_lease(self, api: NodeApi, run_node: RunNode, node_clock: LoopClock) -> None:
        """[TestNodeRun/WithLease, E2ERunWithLeases] Status each minute, lease each 10 s, one owner, times that grow."""
        await run_node().wait_reported_ready()
        await asyncio.sleep(200)
        beats = [r.at for r in api.seen("patch", subresource="status")]
        assert [round(at / 60) for at in beats[-3:]] == [1, 2, 3]
        lease = api.lease()
        assert [(o.kind, o.name, o.uid) for o in lease.metadata.owner_references or []] == [
            ("Node", "vk", api.node().metadata.uid)
        ]
        assert lease.spec.holder_identity == "vk"
        times = [r.body["spec"]["renewTime"] for r in api.seen("patch", "leases")]
        assert len(times) >= 19
        assert times == sorted(set(times))

    async def test_node_run_without_lease(self, api: NodeApi, run_node: RunNode) -> None:
        """[TestNodeRun/WithoutLease, E2ERunWithoutLeases] The status is the heartbeat then: each ping interval."""
        await run_node(enable_lease=False).wait_reported_ready()
        await asyncio.sleep(60)
        assert [r for r in api.requests if r.resource == "leases"] == []
        assert len(api.seen("patch", subresource="status")) >= 6

    async def test_a_heartbeat_moves_no_transition_time(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node().wait_reported_ready()
        before = {c.type: c.last_transition_time for c in api.node().status.conditions or []}
        await asyncio.sleep(130)
        conditions = api.node().status.conditions or []
        assert {c.type: c.last_transition_time for c in conditions} == before
        assert {parse_time(c.last_heartbeat_time or "").minute for c in conditions} == {2}

    async def test_an_idle_node_does_nothing_but_its_heartbeats(self, api: NodeApi, run_node: RunNode) -> None:
        """Invariant 9."""
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        del api.requests[:]
        await asyncio.sleep(600)
        count = {
            key: len([r for r in api.requests if (r.verb, r.resource) == key])
            for key in {(r.verb, r.resource) for r in api.requests}
        }
        assert count.pop(("patch", "leases")) in range(59, 64)
        assert count == {("get", "nodes"): 10, ("patch", "nodes"): 10}

    async def test_ping_after_status_update(self, api: NodeApi, run_node: RunNode, vk_node: Node) -> None:
        """[TestPingAfterStatusUpdate] Neither pings nor heartbeats are put off by notifications."""
        backend = Backend()
        await run_node(backend, ping_interval=2, status_update_interval=10).wait_reported_ready()
        for i in range(300):
            backend.report(_with_capacity(vk_node, str(i % 7 + 1)))
            await asyncio.sleep(0.3)
        gaps = [b - a for a, b in zip(backend.pings, backend.pings[1:], strict=False)]
        assert max(gaps) < 2 * 2.5

    async def test_periodic_heartbeats_are_not_put_off_by_notifications_without_change(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        """Upstream starts its timer anew with each notification."""
        backend = Backend()
        await run_node(backend, status_update_interval=10).wait_reported_ready()
        await asyncio.sleep(0.5)
        del api.requests[:]
        for _ in range(100):
            backend.report(vk_node)
            await asyncio.sleep(1)
        assert 9 <= len(api.seen("patch", subresource="status")) <= 11

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"lease_duration": 0}, "lease duration"),
            ({"lease_renew_interval": 0}, "renew interval"),
            ({"lease_duration": 10, "lease_renew_interval": 10}, "shorter than the lease duration"),
            ({"ping_interval": 40}, "ping interval"),  # [A04]
            ({"ping_interval": 0}, "ping interval"),
            ({"ping_timeout": 0}, "ping time-out"),
            ({"status_update_interval": 0}, "status update interval"),
        ],
    )
    async def test_periods_that_cannot_work_are_refused(
        self, api: NodeApi, vk_node: Node, options: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(ValueError, match=sentence):
            NodeController(NaiveNodeProvider(), vk_node, api.client, **options)

    async def test_a_node_needs_a_name(self, api: NodeApi) -> None:
        with pytest.raises(ValueError, match="name"):
            NodeController(NaiveNodeProvider(), Node(), api.client)

    async def test_writes_are_counted(self, api: NodeApi, run_node: RunNode) -> None:
        metrics = Metrics()
        await run_node(metrics=metrics).wait_reported_ready()
        api.fault = while_(lambda r: r.resource == "nodes", ServerError(500, "", "x"))
        await asyncio.sleep(61)
        text = metrics.exposition().decode()
        for result in ("success", "error"):
            assert f'virtual_kubelet_node_status_updates_total{{result="{result}"}}' in text


class TestNotifications:
    async def test_a_pushed_node_reaches_the_api_at_once(self, api: NodeApi, run_node: RunNode, vk_node: Node) -> None:
        """[TestUpdateNodeStatus; k3k #117] Labels, taints, capacity and annotations follow the backend."""
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        node = _with_capacity(vk_node, "64")
        assert node.metadata.labels is not None
        assert node.spec.taints is not None
        node.metadata.labels["zone"] = "b"
        del node.metadata.labels["type"]
        node.spec.taints[0].key = "other"
        backend.report(node)
        await asyncio.sleep(0.1)
        written = api.node()
        assert written.status.capacity == written.status.allocatable == {"cpu": "64", "pods": "10"}
        assert (written.metadata.labels or {})["zone"] == "b"
        assert "type" not in (written.metadata.labels or {})
        assert taints(api) == ["other"]

    async def test_pod_status_update_an_annotation_alone_is_written(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        """[E2EPodStatusUpdate]"""
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        node = copy_node(vk_node)
        node.metadata.annotations = {"ours": "1"}
        backend.report(node)
        await asyncio.sleep(0.1)
        assert (api.node().metadata.annotations or {})["ours"] == "1"

    async def test_manual_conditions_preserved(self, api: NodeApi, run_node: RunNode, vk_node: Node) -> None:
        """[TestManualConditionsPreserved; VK #807] Others' conditions and annotations stay, ours that we drop go."""
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        api.edit(
            {
                "metadata": {"annotations": {"theirs": "1"}},
                "status": {"conditions": [{"type": "KernelDeadlock", "status": "False"}]},
            }
        )
        node = copy_node(vk_node)
        node.metadata.annotations = {"ours": "1"}
        assert node.status.conditions is not None
        node.status.conditions.append(NodeCondition(type="Ours", status="True"))
        backend.report(node)
        await asyncio.sleep(0.1)
        assert api.condition("Ours") is not None
        backend.report(vk_node)
        await asyncio.sleep(0.1)
        assert api.condition("Ours") is None
        assert api.condition("KernelDeadlock") is not None
        annotations = api.node().metadata.annotations or {}
        assert annotations["theirs"] == "1"
        assert "ours" not in annotations

    async def test_notifications_are_coalesced_and_never_block(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        """Upstream's callback blocks the provider while a write is under way."""
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        api.latency = 5
        del api.requests[:]
        for i in range(1000):
            backend.report(_with_capacity(vk_node, str(i)))
        assert asyncio.get_running_loop().time() < 1
        await asyncio.sleep(30)
        assert (api.node().status.capacity or {})["cpu"] == "999"
        assert len(api.seen("patch", subresource="status")) <= 2

    async def test_a_node_that_the_provider_changes_later_is_not_ours_to_follow(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        node = _with_capacity(vk_node, "5")
        backend.report(node)
        assert node.status.capacity is not None
        node.status.capacity["cpu"] = "6"
        await asyncio.sleep(0.1)
        assert (api.node().status.capacity or {})["cpu"] == "5"

    async def test_nonsense_is_refused_where_it_is_said(self, api: NodeApi, run_node: RunNode) -> None:
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        with pytest.raises(TypeError, match="a Node is needed"):
            backend.report({"kind": "Node"})  # type: ignore[arg-type]


class TestDeletedNode:
    async def test_it_is_registered_again_at_once(
        self, api: NodeApi, run_node: RunNode, events: Events, caplog: pytest.LogCaptureFixture
    ) -> None:
        """[C01; VK #68 #69 #254 #1143] With taints and labels, a lease owned by the new one, and one line."""
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        first = api.node().metadata.uid
        api.remove("nodes")
        await asyncio.sleep(0.5)
        node = api.node()
        assert node.metadata.uid != first
        assert taints(api) == ["virtual-kubelet.io/provider"]
        assert ready(api) == ("True", "KubeletReady")
        assert [o.uid for o in api.lease().metadata.owner_references or []] == [node.metadata.uid]
        assert events.reasons() == ["NodeReady", "NodeRegisteredAgain"]
        assert len([r for r in caplog.records if "registered again" in r.message]) == 1
        await asyncio.sleep(1)
        assert api.watches == 1

    async def test_without_a_watch_the_lost_lease_tells(self, api: NodeApi, run_node: RunNode) -> None:
        """The garbage collector deletes the Lease after its owner; pods of a missing node live 40 s."""
        await run_node(watch_node=False).wait_reported_ready()
        await asyncio.sleep(1)
        api.remove("nodes")
        api.remove("leases")
        await asyncio.sleep(10.5)
        assert api.exists()

    async def test_a_node_that_may_not_watch_finds_out_at_its_next_heartbeat(
        self, api: NodeApi, run_node: RunNode
    ) -> None:
        api.fault = while_(lambda r: r.verb == "watch", ForbiddenError(403, "Forbidden", "no watch"))
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        api.remove("nodes")
        await asyncio.sleep(61)
        assert api.exists()
        assert len([r for r in api.requests if r.verb == "watch"]) == 1

    async def test_a_watch_that_breaks_is_begun_again(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        api.break_watches(ApiConnectionError("reset"))
        await asyncio.sleep(5)
        assert api.watches == 1
        api.break_watches(ServerError(500, "", "x"))
        api.remove("nodes")
        await asyncio.sleep(5)
        assert api.exists()

    async def test_another_node_under_our_name_is_adopted(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        api.remove("nodes")
        api.put("nodes", Node(metadata=ObjectMeta(name="vk", labels={"x": "y"})))
        await asyncio.sleep(0.5)
        assert (api.node().metadata.labels or {})["x"] == "y"
        assert taints(api) == ["virtual-kubelet.io/provider"]
        assert [o.uid for o in api.lease().metadata.owner_references or []] == [api.node().metadata.uid]

    async def test_if_told_so_it_stays_away(
        self, api: NodeApi, run_node: RunNode, caplog: pytest.LogCaptureFixture
    ) -> None:
        controller = run_node(recreate=False)
        await controller.wait_reported_ready()
        await asyncio.sleep(1)
        api.remove("nodes")
        await asyncio.sleep(300)
        assert not api.exists()
        assert isinstance(controller.last_error, ApiNotFoundError)
        assert len([r for r in caplog.records if "could not be written" in r.message]) == 1


class TestLostTaint:
    async def test_it_is_put_back_at_once(self, api: NodeApi, run_node: RunNode) -> None:
        """The node life cycle controller replaces the list as a whole; without the taint pods come in."""
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        api.edit({"spec": {"taints": [THEIRS]}})
        await asyncio.sleep(0.1)
        assert taints(api) == ["theirs", "virtual-kubelet.io/provider"]

    async def test_who_insists_is_not_fought(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node().wait_reported_ready()
        await asyncio.sleep(1)
        del api.requests[:]
        for _ in range(400):
            api.edit({"spec": {"taints": []}})
            await asyncio.sleep(0.1)
        assert len(api.seen("patch")) <= 9


class TestErrors:
    async def test_what_others_did_to_ready_is_undone(self, api: NodeApi, run_node: RunNode) -> None:
        """[B06, C03; VK #899] The node life cycle controller marks a node Unknown that it has not heard of."""
        await run_node().wait_reported_ready()
        api.edit({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}})
        await asyncio.sleep(61)
        assert ready(api) == ("True", "KubeletReady")

    async def test_an_outage_is_one_line_and_the_newest_status_is_written_after_it(
        self, api: NodeApi, run_node: RunNode, vk_node: Node, caplog: pytest.LogCaptureFixture
    ) -> None:
        """[A02]"""
        backend = Backend()
        await run_node(backend, enable_lease=False, status_update_interval=60).wait_reported_ready()
        api.fault = while_(lambda r: True, ApiConnectionError("refused"))
        for i in range(60):
            backend.report(_with_capacity(vk_node, str(i)))
            await asyncio.sleep(60)
        api.fault = lambda request: None
        await asyncio.sleep(13)
        assert (api.node().status.capacity or {})["cpu"] == "59"
        assert len([r for r in caplog.records if "could not be written" in r.message]) == 1

    async def test_node_custom_update_status_error_handler(self, api: NodeApi, run_node: RunNode) -> None:
        """[TestNodeCustomUpdateStatusErrorHandler] Called when the Node was deleted; handled means one more try."""
        handled: list[Exception] = []

        async def handler(error: Exception) -> None:
            handled.append(error)
            api.put("nodes", Node(metadata=ObjectMeta(name="vk", labels={"by": "handler"})))

        await run_node(status_error_handler=handler).wait_reported_ready()
        await asyncio.sleep(1)
        api.remove("nodes")
        await asyncio.sleep(0.5)
        assert [type(error) for error in handled] == [ApiNotFoundError]
        assert (api.node().metadata.labels or {})["by"] == "handler"
        assert ready(api)[0] == "True"

    async def test_a_handler_that_returns_lets_the_node_come_back(self, api: NodeApi, run_node: RunNode) -> None:
        await run_node(status_error_handler=lambda error: None).wait_reported_ready()
        await asyncio.sleep(1)
        api.remove("nodes")
        await asyncio.sleep(0.5)
        assert api.exists()

    async def test_a_handler_that_raises_is_reported_and_the_loop_goes_on(
        self, api: NodeApi, run_node: RunNode
    ) -> None:
        def handler(error: Exception) -> None:
            raise LookupError("cannot help")

        controller = run_node(status_error_handler=handler)
        await controller.wait_reported_ready()
        api.fault = while_(lambda r: r.resource == "nodes", ServerError(500, "", "x"))
        await asyncio.sleep(70)
        assert isinstance(controller.last_error, LookupError)
        api.fault = lambda request: None
        await asyncio.sleep(15)
        assert controller.last_error is None

    async def test_a_handler_that_hangs_does_not_stop_the_status_for_ever(
        self, api: NodeApi, run_node: RunNode
    ) -> None:
        calls: list[Exception] = []

        async def handler(error: Exception) -> None:
            calls.append(error)
            await asyncio.Event().wait()

        await run_node(status_error_handler=handler).wait_reported_ready()
        api.fault = while_(lambda r: r.resource == "nodes", ServerError(500, "", "x"))
        await asyncio.sleep(300)
        assert len(calls) > 2

    async def test_a_conflict_is_computed_again_from_what_is_there(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        """[B01] Somebody adds a taint between our read and our write: both stay."""
        backend = Backend()
        await run_node(backend).wait_reported_ready()
        raced = False

        def race(request: Request) -> None:
            nonlocal raced
            if request.verb == "patch" and "taints" in request.body.get("spec", {}) and not raced:
                raced = True
                api.edit({"spec": {"taints": [*api.objects["nodes", "vk"]["spec"]["taints"], THEIRS]}})

        api.fault = race
        node = copy_node(vk_node)
        assert node.spec.taints is not None
        node.spec.taints[0].key = "changed"
        backend.report(node)
        await asyncio.sleep(0.5)
        assert raced
        assert sorted(taints(api)) == ["changed", "theirs"]


THEIRS = {"key": "theirs", "effect": "NoExecute"}


class TestShutdown:
    async def test_a_cordon_lasts_while_stopped_and_is_taken_back_at_the_next_start(
        self, api: NodeApi, vk_node: Node
    ) -> None:
        """[C06]"""
        for _ in range(2):
            controller = NodeController(NaiveNodeProvider(), vk_node, api.client)
            task = asyncio.create_task(controller.run())
            await controller.wait_reported_ready()
            assert not api.node().spec.unschedulable
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await controller.cordon()
            assert api.node().spec.unschedulable

    async def test_a_cordon_of_an_operator_survives_restarts(self, api: NodeApi, vk_node: Node) -> None:
        for _ in range(2):
            controller = NodeController(NaiveNodeProvider(), vk_node, api.client)
            task = asyncio.create_task(controller.run())
            await controller.wait_reported_ready()
            api.edit({"spec": {"unschedulable": True}})
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await controller.cordon()
        assert api.node().spec.unschedulable

    async def test_a_stopped_node_can_say_why_it_is_not_ready(self, api: NodeApi, vk_node: Node) -> None:
        controller = NodeController(NaiveNodeProvider(), vk_node, api.client)
        task = asyncio.create_task(controller.run())
        await controller.wait_reported_ready()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await controller.mark_not_ready("NodeStopped", "the node was stopped")
        condition = api.condition("Ready")
        assert condition is not None
        assert (condition.status, condition.reason) == ("False", "NodeStopped")
        assert condition.message == "the node was stopped"

    async def test_a_node_deleted_by_us_does_not_come_back(self, api: NodeApi, run_node: RunNode) -> None:
        controller = run_node()
        await controller.wait_reported_ready()
        await controller.delete_node()
        await asyncio.sleep(100)
        assert api.objects == {}
        assert controller.last_error is None

    async def test_a_node_that_may_not_delete_itself_goes_on(self, api: NodeApi, run_node: RunNode) -> None:
        controller = run_node()
        await controller.wait_reported_ready()
        api.fault = while_(lambda r: r.verb == "delete", ForbiddenError(403, "Forbidden", "no"))
        with pytest.raises(ForbiddenError):
            await controller.delete_node()
        del api.requests[:]
        await asyncio.sleep(65)
        assert len(api.seen("patch", subresource="status")) == 1
        assert len(api.seen("patch", "leases")) >= 6

    async def test_a_node_of_somebody_else_is_not_deleted(self, api: NodeApi, vk_node: Node) -> None:
        controller = NodeController(NaiveNodeProvider(), vk_node, api.client)
        api.put("nodes", Node(metadata=ObjectMeta(name="vk")))
        await controller.delete_node()
        assert api.exists()


class TestRestart:
    async def test_what_was_dropped_while_we_were_away_goes_and_the_rest_stays(
        self, api: NodeApi, vk_node: Node
    ) -> None:
        """The names on record are enough; upstream keeps all of it twice."""
        before = copy_node(vk_node)
        before.metadata.annotations = {"ours": "1"}
        assert before.metadata.labels is not None
        before.metadata.labels["gone"] = "1"
        assert before.status.capacity is not None
        before.status.capacity["example.com/gpu"] = "2"
        await self._run_once(api, before)
        api.edit(
            {
                "metadata": {"labels": {"theirs": "1"}},
                "status": {"capacity": {"example.com/disk": "3"}, "addresses": [
                    {"type": "ExternalIP", "address": "192.0.2.1"},
                ]},
            }
        )  # fmt: skip
        await self._run_once(api, vk_node)
        node = api.node()
        labels = node.metadata.labels or {}
        assert "gone" not in labels
        assert labels["theirs"] == "1"
        assert "ours" not in (node.metadata.annotations or {})
        assert node.status.capacity == {"cpu": "1", "pods": "10", "example.com/disk": "3"}
        assert [a.type for a in node.status.addresses or []] == ["ExternalIP", "InternalIP", "Hostname"]

    async def test_the_second_start_writes_a_heartbeat_and_nothing_else(self, api: NodeApi, vk_node: Node) -> None:
        await self._run_once(api, vk_node)
        del api.requests[:]
        await self._run_once(api, vk_node)
        writes = [r for r in api.requests if r.resource == "nodes" and r.verb in ("create", "patch")]
        assert [set(r.body["status"]) for r in writes] == [{"conditions"}]

    async def test_transition_times_do_not_move(self, api: NodeApi, vk_node: Node) -> None:
        """Invariant 6."""
        await self._run_once(api, vk_node)
        before = {c.type: c.last_transition_time for c in api.node().status.conditions or []}
        await asyncio.sleep(100)
        await self._run_once(api, vk_node)
        assert {c.type: c.last_transition_time for c in api.node().status.conditions or []} == before

    async def test_a_ready_node_stays_ready_while_this_process_starts(
        self, api: NodeApi, run_node: RunNode, vk_node: Node
    ) -> None:
        """Invariant 6: NotReady for a moment would make all its pods unready."""
        await self._run_once(api, vk_node)
        readiness = NodeReadiness(["pods"])
        controller = run_node(readiness=readiness)
        await controller.wait_ready()
        await asyncio.sleep(10)
        assert ready(api) == ("True", "KubeletReady")
        waiting = asyncio.create_task(controller.wait_reported_ready())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        readiness.open("pods")
        await waiting
        assert ready(api) == ("True", "KubeletReady")
        assert {r.body["status"]["conditions"][0]["status"] for r in api.seen("patch", subresource="status")} == {
            "True"
        }

    async def test_but_not_longer_than_its_grace(self, api: NodeApi, run_node: RunNode, vk_node: Node) -> None:
        await self._run_once(api, vk_node)
        await run_node(readiness=NodeReadiness(["pods"]), startup_grace=20).wait_ready()
        await asyncio.sleep(19)
        assert ready(api)[0] == "True"
        await asyncio.sleep(1.1)
        assert ready(api) == ("False", "KubeletNotReady")

    async def test_nor_when_its_provider_fails(self, api: NodeApi, run_node: RunNode, vk_node: Node) -> None:
        await self._run_once(api, vk_node)
        backend = Backend()
        backend.error = OSError("down")
        await run_node(backend, readiness=NodeReadiness(["pods"])).wait_ready()
        await asyncio.sleep(0.5)
        assert ready(api)[0] == "False"

    async def _run_once(self, api: NodeApi, node: Node) -> None:
        controller = NodeController(NaiveNodeProvider(), node, api.client, clock=LoopClock())
        task = asyncio.create_task(controller.run())
        await controller.wait_reported_ready()
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
