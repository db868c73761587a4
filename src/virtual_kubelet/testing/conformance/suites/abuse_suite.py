"""What nobody should do, and somebody does: the node stays up, other pods run, and nothing is left behind."""

from __future__ import annotations

import asyncio
import base64

import msgspec

from virtual_kubelet.errors import AlreadyExistsError
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import restarts, running_since
from virtual_kubelet.testing.pod_history import status_line


@promise("runs")
async def many_pods_at_once(stage: Stage) -> None:
    """Thirty pods that are created at once all run, and all go."""
    async with asyncio.TaskGroup() as tasks:
        making = [tasks.create_task(stage.create(stage.runs())) for _ in range(30)]
    pods = [task.result() for task in making]
    async with asyncio.TaskGroup() as tasks:
        for pod in pods:
            tasks.create_task(stage.user.running(pod))
    async with asyncio.TaskGroup() as tasks:
        for pod in pods:
            tasks.create_task(stage.user.delete(pod))
    async with asyncio.TaskGroup() as tasks:
        for pod in pods:
            tasks.create_task(stage.user.gone(pod))


@promise("runs")
async def created_and_deleted_at_once(stage: Stage) -> None:
    """Pods that are deleted while they are being made go, whatever had come of them."""
    pods = []
    for number in range(10):
        pod = await stage.create(stage.runs())
        await asyncio.sleep(0.02 * number)
        await stage.user.delete(pod)
        pods.append(pod)
    async with asyncio.TaskGroup() as tasks:
        for pod in pods:
            tasks.create_task(stage.user.gone(pod))


@promise("runs")
async def same_name_again(stage: Stage) -> None:
    """A pod that is made again under its name is another one: five in a row each run, with a container of their own."""
    name = stage.name()
    ids = []
    for _ in range(5):
        pod = await _create_when_free(stage, name)
        running = await stage.user.running(pod)
        ids.append((running.metadata.uid, (running.status.container_statuses or [])[0].container_id))
        await stage.user.delete(pod)
        await stage.user.gone(pod)
    expect(len({uid for uid, _ in ids}) == 5, "five UIDs", ids)


@promise("runs")
async def same_name_after_force(stage: Stage) -> None:
    """A pod that is forced away, and made again under its name at once, runs; nothing of the old one ends it."""
    name = stage.name()
    old = await stage.start(stage.runs(stage.pod(name)))
    await stage.user.delete(old, 0)
    new = await _create_when_free(stage, name)
    await stage.user.running(new)
    await stage.seconds(3)
    after = await stage.user.get(name)
    expect(
        after.metadata.uid == new.metadata.uid and running_since(after) and not restarts(after),
        "the new one runs, without a restart",
        status_line(after),
    )


async def _create_when_free(stage: Stage, name: str) -> Pod:
    async with asyncio.timeout(stage.patience):
        while True:
            try:
                return await stage.create(stage.runs(stage.pod(name)))
            except AlreadyExistsError:
                await asyncio.sleep(0.1)


@promise("runs")
async def unknown_fields(stage: Stage) -> None:
    """A pod with fields that nobody knows runs as if they were not there."""
    pod = msgspec.to_builtins(stage.runs().build())
    pod["spec"]["noSuchField"] = {"deep": [1, 2, {"er": None}]}
    pod["spec"]["containers"][0]["neitherThis"] = "x" * 1000
    pod["apiVersion"], pod["kind"] = "v1", "Pod"
    answer = await stage.user.client.request(
        "POST",
        PODS.path(None, stage.user.namespace),
        body=msgspec.json.encode(pod),
        headers={"Content-Type": "application/json"},
    )
    made = msgspec.json.decode(answer.body, type=Pod)
    stage.created.append(made)
    await stage.user.running(made)


@promise("runs")
async def a_megabyte_of_variables(stage: Stage) -> None:
    """A pod with a megabyte in its environment runs, or is refused with a reason; the node serves others."""
    big = {f"V{number}": base64.b64encode(bytes([number]) * 7500).decode() for number in range(100)}
    pod = await stage.create(stage.runs().env(**big))
    seen = await stage.user.until(
        pod,
        lambda one: one.status.phase in ("Running", "Failed") or _waits_with_a_reason(one),
        "it runs, or says why not",
    )
    if seen.status.phase != "Running":
        said = " ".join(stage.user.history(pod).lines(1)) + " ".join(
            str(e.message) for e in await stage.user.events(pod)
        )
        expect(len(said) < 20_000, "a reason that does not repeat the environment", f"{len(said)} characters")
    await stage.start(stage.runs())


def _waits_with_a_reason(pod: Pod) -> bool:
    states = [one.state for one in pod.status.container_statuses or ()]
    waiting = [state.waiting.reason for state in states if state is not None and state.waiting is not None]
    return any(reason not in (None, "", "ContainerCreating", "PodInitializing") for reason in waiting)


@promise("runs")
async def many_containers(stage: Stage) -> None:
    """A pod of fifty containers runs, all of them ready, and goes."""
    made = stage.runs()
    for number in range(49):
        made = stage.runs(made.container(f"c{number}"))
    pod = await stage.start(made)
    ready = [one.ready for one in pod.status.container_statuses or ()]
    expect(ready == [True] * 50, "fifty containers are ready", f"{ready.count(True)} of {len(ready)}")
    await stage.user.delete(pod)
    await stage.user.gone(pod)


@promise("shell")
async def clients_that_hang(stage: Stage) -> None:
    """Clients that ask for much and read nothing hold up nobody else."""
    assert stage.declaration.shell is not None
    pod = await stage.start(stage.runs())
    endless = [*stage.declaration.shell, "while :; do echo $0 $0 $0 $0 $0 $0 $0 $0 $0; done"]
    async with (
        stage.user.executing(pod, *endless, reading=False),
        stage.user.executing(pod, *endless, reading=False),
        stage.user.executing(pod, *endless, reading=False),
    ):
        result = await stage.execute(pod, "echo served")
        expect(result.stdout == b"served\n", "another client is served", result)
        await stage.start(stage.runs())


@promise("runs")
async def odd_names_and_texts(stage: Stage) -> None:
    """Annotations, labels and variables of every kind do no harm."""
    made = stage.runs().annotated({"example.com/odd": "\n\t\"'$(x) ${y} %s \\ é 𝄞 " + "long " * 10_000})
    made = made.env(**{"ODD.name-with_all": "a\nb\tc $(NOBODY) $$(x) 'q' \"qq\" 𝄞", "EMPTY": ""})
    pod = await stage.start(made.labelled({"example.com/x_y.z": "A.b_c-9"}))
    expect(not restarts(pod), "it runs", status_line(pod))


@promise("runs")
async def labels_that_keep_changing(stage: Stage) -> None:
    """A pod whose labels change fifty times in a row runs on, without a restart."""
    pod = await stage.start(stage.runs())
    for number in range(50):
        await stage.user.patch(pod, {"metadata": {"labels": {"number": str(number)}}})
    await stage.seconds(2)
    after = await stage.user.get(pod)
    expect(running_since(after) == running_since(pod) and not restarts(after), "it runs as before", status_line(after))
