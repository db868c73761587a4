"""Pods that do not fit or suit the node, whoever has bound them: rejected as by a kubelet, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.node.pod_api import NODE, NotifyingProvider, PodApi, ended, pod, running
from tests.node.test_pod_controller import controlled, settle, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ServerError
from virtual_kubelet.kube.resources import NODES, Resource
from virtual_kubelet.objects.core_v1 import (
    ConfigMapKeySelector,
    Container,
    ContainerPort,
    ContainerStatus,
    EnvVar,
    EnvVarSource,
    Node,
    Pod,
    PodCondition,
    PodStatus,
    ResourceRequirements,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.admission import NodeFacts

pytestmark = pytest.mark.looptime

LIFECYCLES = Path(__file__).parents[3] / "shared/kubelet-1.36/lifecycles"


def node_with(**allocatable: str) -> Callable[[], NodeFacts]:
    facts = NodeFacts(NODE, {}, (), allocatable)
    return lambda: facts


def asking(name: str, cpu: str = "1", **spec: Any) -> Pod:
    container = Container(name="main", image="busybox", resources=ResourceRequirements(requests={"cpu": cpu}))
    return pod(name, containers=[container], **spec)


@asynccontextmanager
async def running_pods(
    *pods: Pod, node: Callable[[], NodeFacts] | None = None, **allocatable: str
) -> AsyncIterator[tuple[PodApi, NotifyingProvider]]:
    """A node of this size, on which these run."""
    api, provider = PodApi(*pods), NotifyingProvider()
    async with controlled(api, provider, node=node or node_with(**allocatable)):
        await until(lambda: all(api.status(one.metadata.name or "").phase == "Running" for one in pods))
        yield api, provider


def reason_of(api: PodApi, name: str) -> str | None:
    return api.status(name).reason


@pytest.mark.recording
@pytest.mark.may_block
@pytest.mark.parametrize("name", ["admission-out-of-cpu", "admission-node-selector"])
async def test_status_and_event_are_the_recorded_kubelets(name: str) -> None:
    rows = [json.loads(line) for line in (LIFECYCLES / f"{name}.jsonl").read_text().splitlines()]
    wanted = msgspec.convert(rows[0]["pod"], Pod)
    wanted.metadata = ObjectMeta(name="p", namespace="default", uid="u")
    wanted.spec.node_name = NODE
    wanted.status = PodStatus(phase="Pending")
    recorded = next(row["status"] for row in rows if row.get("status", {}).get("phase") == "Failed")
    api, provider = PodApi(wanted), NotifyingProvider()
    async with controlled(api, provider, node=node_with(cpu="2", pods="110")):
        await until(lambda: api.status("p").phase == "Failed" and api.events)
        found = api.objects["pods", "default", "p"]["status"]
    assert found.pop("startTime")
    assert found == {key: recorded[key] for key in ("phase", "reason", "message")}
    (event,) = api.events
    assert (event.type, event.reason, event.message) == tuple(
        rows[-1]["events"][0][k] for k in ("type", "reason", "message")
    )
    assert provider.given == []


async def test_live_pods_count_and_ended_ones_do_not() -> None:
    async with running_pods(asking("a"), cpu="1500m") as (api, provider):
        api.put_pod(asking("b"))
        await until(lambda: reason_of(api, "b") == "OutOfcpu")
        assert "requested: 1000, used: 1000, capacity: 1500" in (api.status("b").message or "")
        provider.report(PodKey("default", "a", "uid-a"), ended(asking("a")))
        await until(lambda: api.status("a").phase == "Succeeded")
        api.put_pod(asking("c"))
        await until(lambda: api.status("c").phase == "Running")
        assert api.status("b").phase == "Failed"  # for good
        assert provider.count("create", "b") == 0


async def test_a_deleted_pod_makes_room_only_when_it_has_ended() -> None:
    api, provider = PodApi(asking("a")), NotifyingProvider()
    provider.ends_on_delete = False
    async with controlled(api, provider, node=node_with(cpu="1")):
        await until(lambda: api.status("a").phase == "Running")
        api.user_deletes("a", 30)
        await until(lambda: provider.count("delete", "a"))
        api.put_pod(asking("b"))
        await until(lambda: reason_of(api, "b") == "OutOfcpu")
        provider.pods.pop(PodKey("default", "a", "uid-a"))
        provider.report(PodKey("default", "a", "uid-a"), ended(asking("a")))
        await until(lambda: not api.has("a"))
        api.put_pod(asking("c"))
        await until(lambda: api.status("c").phase == "Running")


async def test_a_pod_whose_deletion_is_forced_makes_room_at_once() -> None:
    api, provider = PodApi(asking("a")), NotifyingProvider()
    provider.ends_on_delete = False
    async with controlled(api, provider, node=node_with(cpu="1")):
        await until(lambda: api.status("a").phase == "Running")
        api.user_deletes("a", 0)
        api.put_pod(asking("b"))
        await until(lambda: api.status("b").phase == "Running")
        assert len(provider.pods) == 2  # the other is still being killed


async def test_of_many_that_come_at_once_only_those_that_fit_begin() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider, node=node_with(pods="7"), workers=10):
        for number in range(20):
            api.put_pod(asking(f"p{number}"))
        await until(lambda: sum(reason_of(api, f"p{n}") == "OutOfpods" for n in range(20)) == 13)
        await until(lambda: len(provider.pods) == 7)


async def test_pods_from_before_a_restart_are_counted_and_not_rejected() -> None:
    old = [asking("a"), asking("b")]
    for one in old:
        one.status = running(one)
    api, provider = PodApi(*old, asking("c")), NotifyingProvider(*old)
    async with controlled(api, provider, node=node_with(cpu="1")):
        await until(lambda: reason_of(api, "c") == "OutOfcpu")
        assert [api.status(name).phase for name in "ab"] == ["Running", "Running"]
        assert "used: 2000" in (api.status("c").message or "")


async def test_a_pod_that_had_been_taken_and_not_yet_begun_is_not_rejected_after_a_restart() -> None:
    waiting = asking("a", "4")
    waiting.status = PodStatus(phase="Pending", reason="ProviderFailed", message="no")
    async with running_pods(waiting, cpu="1"):
        pass


async def test_a_pod_is_judged_once_however_often_its_creation_is_tried() -> None:
    variable = EnvVar(name="V", value_from=EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name="later", key="k")))
    waits = asking("a")
    waits.spec.containers[0].env = [variable]
    api, provider = PodApi(waits), NotifyingProvider()
    facts = {"cpu": "1"}
    async with controlled(api, provider, node=lambda: NodeFacts(NODE, {}, (), facts)):
        await until(lambda: api.status("a").container_statuses)
        facts["cpu"] = "0"  # what the backend has may shrink: that is no reason to end what was taken
        api.put_config_map("later", {"k": "v"})
        await until(lambda: api.status("a").phase == "Running")


async def test_what_the_provider_can_give_now_counts() -> None:
    facts = {"cpu": "1"}
    async with running_pods(asking("a"), node=lambda: NodeFacts(NODE, {}, (), facts)) as (api, _):
        facts["cpu"] = "2"
        api.put_pod(asking("b"))
        await until(lambda: api.status("b").phase == "Running")


async def test_a_pod_that_is_resized_takes_what_it_has_now() -> None:
    async with running_pods(asking("a"), cpu="2") as (api, provider):

        def resize(obj: dict[str, Any]) -> None:
            obj["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2"

        api.change("a", resize)
        await until(lambda: provider.count("update", "a"))
        await settle()
        api.put_pod(asking("b"))
        await until(lambda: reason_of(api, "b") == "OutOfcpu")


def resized(cpu: str) -> Callable[[dict[str, Any]], None]:
    def change(obj: dict[str, Any]) -> None:
        obj["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu
        obj["metadata"]["generation"] = (obj["metadata"].get("generation") or 1) + 1

    return change


def pending_resize(api: PodApi, name: str) -> tuple[str | None, str | None] | None:
    return next(
        ((c.reason, c.message) for c in api.status(name).conditions or () if c.type == "PodResizePending"), None
    )


def given_cpu(provider: NotifyingProvider, name: str) -> str:
    held = provider.pods[PodKey("default", name, f"uid-{name}")]
    resources = held.spec.containers[0].resources
    assert resources is not None
    return (resources.requests or {})["cpu"]


async def test_a_resize_for_which_there_is_no_room_waits_and_is_given_when_another_pod_goes() -> None:
    async with running_pods(asking("a"), asking("b"), cpu="3") as (api, provider):
        api.change("a", resized("2500m"))
        await until(lambda: pending_resize(api, "a"))
        why = "Node didn't have enough resource: cpu, requested: 2500, used: 1000, capacity: 3000"
        assert pending_resize(api, "a") == ("Deferred", why)
        assert given_cpu(provider, "a") == "1"
        assert [(e.type, e.reason) for e in api.events if (e.reason or "").startswith("Resize")] == [
            ("Warning", "ResizeDeferred")
        ]
        api.put_pod(asking("c"))  # what waits takes nothing
        await until(lambda: api.status("c").phase == "Running")
        for name in "bc":
            api.user_deletes(name, 0)
        await until(lambda: given_cpu(provider, "a") == "2500m")
        await until(lambda: pending_resize(api, "a") is None)
        api.put_pod(asking("d"))
        await until(lambda: reason_of(api, "d") == "OutOfcpu")


async def test_a_resize_waits_for_a_pod_that_ends_and_stays() -> None:
    async with running_pods(asking("a"), asking("b"), cpu="2") as (api, provider):
        api.change("a", resized("2"))
        await until(lambda: pending_resize(api, "a"))
        provider.report(PodKey("default", "b", "uid-b"), ended(asking("b")))
        await until(lambda: given_cpu(provider, "a") == "2")


async def test_a_resize_beyond_the_node_is_infeasible_until_another_is_asked_for() -> None:
    async with running_pods(asking("a"), cpu="2") as (api, provider):
        api.change("a", resized("9"))
        why = "Node didn't have enough capacity: cpu, requested: 9000, capacity: 2000"
        await until(lambda: pending_resize(api, "a") == ("Infeasible", why))
        assert given_cpu(provider, "a") == "1"
        api.change("a", resized("2"))
        await until(lambda: given_cpu(provider, "a") == "2")
        await until(lambda: pending_resize(api, "a") is None)


async def test_less_can_always_be_had_also_on_a_node_that_is_too_full() -> None:
    facts = {"cpu": "2"}
    async with running_pods(asking("a"), node=lambda: NodeFacts(NODE, {}, (), facts)) as (api, provider):
        facts["cpu"] = "100m"
        api.change("a", resized("500m"))
        await until(lambda: given_cpu(provider, "a") == "500m")
        assert pending_resize(api, "a") is None


async def test_a_resize_that_the_provider_fails_once_is_given_again() -> None:
    async with running_pods(asking("a"), asking("b"), cpu="2") as (api, provider):
        api.change("a", resized("2"))
        await until(lambda: pending_resize(api, "a"))
        provider.fail("update", "a", ConnectionError("no answer"))
        api.user_deletes("b", 0)
        await until(lambda: given_cpu(provider, "a") == "2")
        await until(lambda: pending_resize(api, "a") is None)


async def test_a_resize_that_waits_is_not_given_away_by_a_restart_of_the_node() -> None:
    with_more, other = asking("a", "2"), asking("b")
    for one in (with_more, other):
        one.status = running(one)
    api, provider = PodApi(with_more, other), NotifyingProvider(asking("a"), asking("b"))
    async with controlled(api, provider, node=node_with(cpu="2")):
        provider.report(PodKey("default", "a", "uid-a"), running(asking("a")))
        await until(lambda: pending_resize(api, "a"))
        assert given_cpu(provider, "a") == "1"
        api.user_deletes("b", 0)
        await until(lambda: given_cpu(provider, "a") == "2")


async def test_of_those_that_wait_the_one_of_higher_priority_gets_the_room_then_the_one_that_waited_longer() -> None:
    pods = [asking("first"), asking("second"), asking("urgent", priority=7), asking("there", "3")]
    async with running_pods(*pods, cpu="6") as (api, provider):
        for name in ("first", "second", "urgent"):
            api.change(name, resized("4"))
            await until(lambda name=name: pending_resize(api, name))  # type: ignore[misc]  # mypy knows no defaults of lambdas
        api.user_deletes("there", 0)
        await until(lambda: given_cpu(provider, "urgent") == "4")
        await until(lambda: pending_resize(api, "urgent") is None)
        await settle()
        assert (given_cpu(provider, "first"), given_cpu(provider, "second")) == ("1", "1")
        api.user_deletes("urgent", 0)
        await until(lambda: given_cpu(provider, "first") == "4")
        await settle()
        assert given_cpu(provider, "second") == "1"


async def test_one_that_cannot_have_what_it_waits_for_holds_up_no_smaller_one() -> None:
    async with running_pods(asking("large", priority=7), asking("small"), asking("there"), cpu="3") as (api, provider):
        api.change("large", resized("3"))
        await until(lambda: pending_resize(api, "large"))
        api.change("small", resized("2"))
        await until(lambda: pending_resize(api, "small"))
        api.user_deletes("there", 0)
        await until(lambda: given_cpu(provider, "small") == "2")
        assert pending_resize(api, "large")


def having(one: Pod, cpu: str, *conditions: PodCondition) -> PodStatus:
    """A provider's status of a pod whose container has this."""
    status = running(one)
    has = ResourceRequirements(requests={"cpu": cpu})
    status.container_statuses = [
        ContainerStatus(
            name="main", image="busybox", image_id="", ready=True, restart_count=0, resources=has,
            allocated_resources=has.requests,
        )
    ]  # fmt: skip
    status.conditions = [*(status.conditions or ()), *conditions]
    return status


async def test_what_a_pod_gives_back_is_free_when_its_provider_says_that_it_has_less() -> None:
    async with running_pods(asking("a", "2"), cpu="2") as (api, provider):
        key = PodKey("default", "a", "uid-a")
        provider.report(key, having(asking("a", "2"), "2"))
        await settle()
        api.change("a", resized("1"))
        await until(lambda: given_cpu(provider, "a") == "1")
        api.put_pod(asking("b"))
        await until(lambda: reason_of(api, "b") == "OutOfcpu")
        provider.report(key, having(asking("a"), "1"))
        await settle()
        api.put_pod(asking("c"))
        await until(lambda: api.status("c").phase == "Running")


async def test_what_a_provider_refuses_to_give_counts_no_longer_and_more_than_it_has_is_judged_again() -> None:
    async with running_pods(asking("a"), cpu="4") as (api, provider):
        provider.report(PodKey("default", "a", "uid-a"), having(asking("a"), "1"))
        api.change("a", resized("3"))
        await until(lambda: given_cpu(provider, "a") == "3")
        refused = PodCondition(type="PodResizePending", status="True", reason="Infeasible", message="not while it runs")
        provider.report(PodKey("default", "a", "uid-a"), having(asking("a", "3"), "1", refused))
        await settle()
        api.put_pod(asking("b", "3"))
        await until(lambda: api.status("b").phase == "Running")
        api.change("a", resized("2"))
        await until(lambda: (pending_resize(api, "a") or ("",))[0] == "Deferred")


async def test_a_host_port_is_free_again_when_its_pod_has_ended() -> None:
    def with_port(name: str) -> Pod:
        ports = [ContainerPort(container_port=80, host_port=8080)]
        return pod(name, containers=[Container(name="main", image="busybox", ports=ports)])

    async with running_pods(with_port("a")) as (api, provider):
        api.put_pod(with_port("b"))
        await until(lambda: reason_of(api, "b") == "NodePorts")
        api.user_deletes("a", 0)
        await until(lambda: not provider.pods)
        await settle()
        api.put_pod(with_port("c"))
        await until(lambda: api.status("c").phase == "Running")


class LabelledApi(PodApi):
    """One that has the Node, as labelled by others; reading it may fail."""

    failures = 0

    async def get(self, resource: Resource[Any], name: str, namespace: str | None = None, **_: Any) -> Any:
        if resource.plural == NODES.plural:
            if self.failures:
                self.failures -= 1
                raise ServerError(500, "InternalError", "not now")
            return Node(metadata=ObjectMeta(name=name, labels={"disk": "ssd"}))
        return await super().get(resource, name, namespace)


async def test_a_label_that_others_gave_the_node_counts_from_the_moment_they_did() -> None:
    api = LabelledApi(pod("a", node_selector={"disk": "ssd"}), pod("b", node_selector={"disk": "tape"}))
    provider = NotifyingProvider()
    async with controlled(api, provider, node=node_with()):
        await until(lambda: api.status("a").phase == "Running")
        await until(lambda: reason_of(api, "b") == "NodeAffinity")


async def test_a_pod_is_not_rejected_because_the_api_server_cannot_say_how_the_node_is_labelled() -> None:
    api, provider = LabelledApi(pod("a", node_selector={"disk": "ssd"})), NotifyingProvider()
    api.failures = 3
    async with controlled(api, provider, node=node_with()):
        await until(lambda: api.status("a").phase == "Running")
    assert api.reasons() == ["ProviderCreateSuccess"]


async def test_without_a_node_every_pod_is_taken() -> None:
    api, provider = PodApi(asking("a", "1000", node_selector={"no": "such"})), NotifyingProvider()
    async with controlled(api, provider):
        await until(lambda: api.status("a").phase == "Running")


async def test_a_quantity_that_is_none_is_a_reason_and_not_the_end_of_a_worker() -> None:
    api, provider = PodApi(asking("a", "lots"), asking("b")), NotifyingProvider()
    async with controlled(api, provider, node=node_with(cpu="1"), workers=1):
        await until(lambda: api.status("b").phase == "Running")
        assert reason_of(api, "a") == "UnexpectedAdmissionError"


async def test_a_spec_that_cannot_be_read_is_neither_judged_nor_the_end_of_the_node() -> None:
    strange, old = asking("a"), asking("b")
    old.status = running(old)
    api, provider = PodApi(strange, old, asking("c")), NotifyingProvider(old)
    for name in ("a", "b"):
        api.change(name, lambda obj: obj["spec"].update(containers=[5]))
    async with controlled(api, provider, node=node_with(cpu="1"), workers=1):
        await until(lambda: api.status("c").phase == "Running")
        await until(lambda: "UnreadablePodSpec" in api.reasons())
        assert reason_of(api, "a") is None
