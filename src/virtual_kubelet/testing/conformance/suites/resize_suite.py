"""CPU and memory of containers that run: changed by the ``resize`` subresource, in place or by a restart. As since 1.33."""

from __future__ import annotations

from typing import Any

from virtual_kubelet.objects.core_v1 import ContainerResizePolicy, Pod, ResourceRequirements
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import NotOfferedError, expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import condition, container, restarts, running_since
from virtual_kubelet.testing.pod_history import status_line
from virtual_kubelet.testing.pods import PodBuilder

_SMALL = {"cpu": "100m", "memory": "64Mi"}
_LARGE = {"cpu": "200m", "memory": "96Mi"}


async def _start(stage: Stage, pod: PodBuilder) -> Pod:
    """A pod whose container has little. Raises ``NotOfferedError`` if its status does not say that it has."""
    started = await stage.start(pod.fields(resources=ResourceRequirements(limits=_SMALL, requests=_SMALL)))
    if container(started).resources is None:
        raise NotOfferedError("the node does not say what resources a running container has")
    return started


async def _resize(stage: Stage, pod: Pod, amounts: dict[str, str]) -> None:
    change: dict[str, Any] = {"name": "main", "resources": {"limits": amounts, "requests": amounts}}
    await stage.user.patch(pod, {"spec": {"containers": [change]}}, subresource="resize")


def _has(pod: Pod, amounts: dict[str, str]) -> bool:
    """Whether it has that, and its resize is over."""
    resources = container(pod).resources
    over = not condition(pod, "PodResizeInProgress")[0]
    return resources is not None and resources.limits == amounts and resources.requests == amounts and over


@promise("runs", api=(1, 33))
async def in_place(stage: Stage) -> None:
    """A running container is given more CPU and memory, and then less, and is not restarted for it."""
    before = await _start(stage, stage.runs())
    for amounts in (_LARGE, _SMALL):
        await _resize(stage, before, amounts)
        after = await stage.user.until(
            before,
            lambda one, amounts=amounts: _has(one, amounts) or condition(one, "PodResizePending")[1] == "Infeasible",  # type: ignore[misc]
            f"the container has {amounts}, and nothing of its resize is under way",
        )
        refused = next((c for c in after.status.conditions or () if c.type == "PodResizePending"), None)
        if refused is not None:
            raise NotOfferedError(refused.message or "the resize is Infeasible")
        allocated = container(after).allocated_resources
        expect(allocated == amounts, f"allocatedResources are {amounts}", allocated)
        expect(restarts(after) == 0, "it has not restarted", status_line(after))
        same = running_since(after) == running_since(before)
        expect(same, "it is the same run", f"{running_since(before)}, {running_since(after)}")


@promise("runs", api=(1, 33))
async def by_restart(stage: Stage) -> None:
    """A container whose resizePolicy says RestartContainer has its new resources by a restart."""
    policy = [ContainerResizePolicy(resource_name="cpu", restart_policy="RestartContainer")]
    pod = await _start(stage, stage.runs().restarting("Always").fields(resize_policy=policy))
    await _resize(stage, pod, {**_SMALL, "cpu": _LARGE["cpu"]})
    expected = "the container has 200m of CPU and has restarted once"
    wanted = {**_SMALL, "cpu": _LARGE["cpu"]}
    await stage.user.until(pod, lambda one: _has(one, wanted) and restarts(one) == 1, expected)


@promise("runs", api=(1, 33))
async def beyond_the_node(stage: Stage) -> None:
    """What the node can never give is Infeasible, with message and event; the container keeps what it has and runs on."""
    pod = await _start(stage, stage.runs())
    await _resize(stage, pod, {**_SMALL, "cpu": "100000"})
    expected = "PodResizePending is True: Infeasible"
    refused = await stage.user.until(
        pod, lambda one: condition(one, "PodResizePending") == ("True", "Infeasible"), expected
    )
    message = next(c.message for c in refused.status.conditions or () if c.type == "PodResizePending")
    expect("cpu" in (message or ""), "a message that names the resource", repr(message))
    await stage.told(pod, "ResizeInfeasible")
    expect(_has(refused, _SMALL), f"the container still has {_SMALL}", status_line(refused))
    expect(restarts(refused) == 0, "it has not restarted", status_line(refused))
    await _resize(stage, pod, _SMALL)
    await stage.user.until(pod, lambda one: not condition(one, "PodResizePending")[0], "the wish is taken back")
