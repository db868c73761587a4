"""From creation to the end: phases, conditions, exit codes, grace periods, deletion. Beside the recorded kubelet."""

from __future__ import annotations

import asyncio

from virtual_kubelet.objects.core_v1 import ConfigMapKeySelector, ResourceRequirements
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import (
    condition,
    container,
    expect_terminated,
    moment,
    restarts,
    running_since,
    terminated,
    waiting_reason,
)
from virtual_kubelet.testing.pod_history import status_line

#: A shell script that does not end when it is asked to.
STUBBORN = "trap '' TERM; while :; do sleep 1; done"


@promise("runs")
async def runs(stage: Stage) -> None:
    """A pod that is created runs: Running, all its conditions True, with addresses, times and a container's id."""
    pod = await stage.start(stage.runs())
    for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready"):
        expect(condition(pod, kind)[0] == "True", f"condition {kind} is True", status_line(pod))
    names = [one.name for one in pod.status.container_statuses or ()]
    expect(names == ["main"], "the status of its one container", names)
    main = container(pod)
    expect(main.ready and main.started, "its container is ready and started", f"{main.ready}, {main.started}")
    expect(main.restart_count == 0, "it has not restarted", main.restart_count)
    expect("://" in (main.container_id or ""), "containerID is RUNTIME://ID", repr(main.container_id))
    expect(main.image, "the container's status names its image", repr(main.image))
    expect(pod.status.host_ip, "status.hostIP is set", repr(pod.status.host_ip))
    expect(pod.status.pod_ip, "status.podIP is set", repr(pod.status.pod_ip))
    ips = [one.ip for one in pod.status.pod_ips or ()]
    expect(ips[:1] == [pod.status.pod_ip], "status.podIPs begins with status.podIP", ips)
    began, since = moment(pod.status.start_time), moment(running_since(pod))
    expect(began <= since, "the container starts after the pod", f"{began}, {since}")


@promise("exits")
async def succeeds(stage: Stage) -> None:
    """A pod whose container ends with 0 is Succeeded: terminated, Completed, no longer ready, with both times."""
    pod = await stage.finish(stage.exits(0, seconds=1))
    expect(pod.status.phase == "Succeeded", "phase Succeeded", status_line(pod))
    expect_terminated(pod, 0, "Completed")
    expect(
        condition(pod, "Ready") == ("False", "PodCompleted"), "Ready is False: PodCompleted", condition(pod, "Ready")
    )
    expect(not container(pod).ready, "the container is not ready", container(pod).ready)


@promise("exits")
async def exit_code(stage: Stage) -> None:
    """A container's exit code reaches the status: the pod is Failed, its container terminated with Error and the number."""
    pod = await stage.finish(stage.exits(37, seconds=1))
    expect(pod.status.phase == "Failed", "phase Failed", status_line(pod))
    expect_terminated(pod, 37, "Error")
    expect(condition(pod, "Ready")[0] == "False", "Ready is False", condition(pod, "Ready"))


@promise("exits")
async def ran_before_it_ended(stage: Stage) -> None:
    """What ends was seen to run: Running and Ready before Succeeded, and never back from there."""
    pod = await stage.create(stage.exits(0, seconds=3))
    await stage.user.saw(pod, lambda one: one.status.phase == "Running" and running_since(one), "the pod is Running")
    await stage.user.ended(pod)
    await stage.user.patch(pod, {"metadata": {"labels": {"touched": "yes"}}})
    await asyncio.sleep(2)
    history = stage.user.history(pod)
    phases = [one.pod.status.phase for one in history.seen]
    order = ["Pending", "Running", "Succeeded"]
    ranks = [order.index(phase) if phase in order else 9 for phase in phases]
    expect(ranks == sorted(ranks) and phases[-1] == "Succeeded", "phases in their order, the last one stays", phases)


@promise("shell")
async def exit_code_of_a_signal(stage: Stage) -> None:
    """An exit code above 128, as of a command that a signal ended, comes as it is, with reason Error."""
    pod = await stage.finish(stage.shell("sleep 1; sh -c 'kill -9 $$'; exit $?"))
    expect(pod.status.phase == "Failed", "phase Failed", status_line(pod))
    expect_terminated(pod, 137, "Error")


@promise("shell")
async def command_not_found(stage: Stage) -> None:
    """A command that there is not fails the pod: terminated, StartError, 128, with a message that names the command."""
    pod = await stage.finish(stage.pod().run("/no/such/command"))
    expect(pod.status.phase == "Failed", "phase Failed", status_line(pod))
    ended = terminated(pod)
    said = (ended.exit_code, ended.reason, ended.message or "") if ended is not None else None
    expect(said is not None and said[:2] == (128, "StartError"), "terminated with 128, StartError", said)
    expect(said is not None and "/no/such/command" in said[2], "a message that names the command", said)


@promise("shell")
async def one_of_two_containers_ends(stage: Stage) -> None:
    """A pod runs as long as one of its containers does, not Ready once one has ended; a failed one fails the pod."""
    two = stage.exits(0, stage.pod(), seconds=1)
    two = stage.shell("sleep 5; exit 2", two.container("long"))
    pod = await stage.create(two)
    await stage.user.saw(
        pod,
        lambda one: one.status.phase == "Running" and terminated(one) is not None and running_since(one, "long"),
        "the pod is Running while one container has ended and the other runs",
    )
    ended = await stage.user.ended(pod)
    expect(ended.status.phase == "Failed", "phase Failed", status_line(ended))
    expect_terminated(ended, 0, "Completed")
    expect_terminated(ended, 2, "Error", "long")


@promise("shell")
async def init_containers(stage: Stage) -> None:
    """Init containers run one after the other, each to its end, and main containers only after them."""
    made = stage.runs()
    for name in ("first", "second"):
        made = stage.exits(0, made.init_container(name), seconds=1)
    pod = await stage.create(made)
    waiting = await stage.user.saw(
        pod, lambda one: running_since(one, "first") or terminated(one, "first"), "the first init container runs"
    )
    expect(
        waiting.status.phase == "Pending",
        "the pod is Pending until its init containers have ended",
        status_line(waiting),
    )
    expect(condition(waiting, "Initialized")[0] == "False", "Initialized is False", status_line(waiting))
    expect(waiting_reason(waiting) == "PodInitializing", "main waits: PodInitializing", status_line(waiting))
    ready = await stage.user.running(pod)
    first, second = (expect_terminated(ready, 0, "Completed", name) for name in ("first", "second"))
    expect(
        moment(first.finished_at) <= moment(second.started_at)
        and moment(second.finished_at) <= moment(running_since(ready)),
        "first, second and main one after the other",
        f"{first.finished_at}, {second.started_at} to {second.finished_at}, {running_since(ready)}",
    )
    expect(container(ready, "first").ready, "an init container that has succeeded is ready", status_line(ready))
    expect(condition(ready, "Initialized")[0] == "True", "Initialized is True", status_line(ready))


@promise("shell")
async def failed_init_container(stage: Stage) -> None:
    """An init container that fails, in a pod that does not restart, fails the pod; main never runs."""
    pod = await stage.finish(stage.exits(4, stage.runs().init_container("init"), seconds=0))
    expect(pod.status.phase == "Failed", "phase Failed", status_line(pod))
    expect_terminated(pod, 4, "Error", "init")
    began = stage.user.history(pod).first(lambda one: running_since(one) or terminated(one) is not None)
    expect(began is None, "main never runs", status_line(began) if began is not None else "")


@promise("runs")
async def deletion(stage: Stage) -> None:
    """A deleted pod ends in its grace period, is reported with its end, and is then gone from the API."""
    pod = await stage.start(stage.runs().grace(60))
    await stage.user.delete(pod)
    await stage.user.gone(pod, stage.patience / 2)
    last = stage.user.history(pod).first(lambda one: one.metadata.deletion_timestamp and terminated(one) is not None)
    expect(last is not None, "before it is gone, its container is reported as terminated", "it never was")
    assert last is not None
    expect(last.status.phase in ("Succeeded", "Failed"), "its phase is final", status_line(last))
    expect(condition(last, "Ready")[0] == "False", "Ready is False", status_line(last))


@promise("shell")
async def exit_code_of_a_deleted_pod(stage: Stage) -> None:
    """A container is asked to end by SIGTERM, and what it ends with is what the deleted pod is reported with."""
    pod = await stage.start(stage.shell("trap 'exit 21' TERM; while :; do sleep 0.2; done").grace(60))
    await stage.user.delete(pod)
    await stage.user.gone(pod)
    last = stage.reported_end(pod)
    expect_terminated(last, 21, "Error")


@promise("shell")
async def grace_period(stage: Stage) -> None:
    """A container that ignores SIGTERM has its whole grace period, and is killed at its end: 137."""
    pod = await stage.start(stage.shell(STUBBORN).grace(4))
    began = asyncio.get_running_loop().time()
    await stage.user.delete(pod)
    await stage.user.gone(pod)
    lasted = asyncio.get_running_loop().time() - began
    expect(lasted >= 3.5, "it is there for its grace period of 4 s", f"gone after {lasted:.1f} s")
    last = stage.reported_end(pod)
    expect_terminated(last, 137, "Error")


@promise("shell")
async def shortened_grace_period(stage: Stage) -> None:
    """A second deletion with a shorter grace period counts at once. (A kubelet waits for the first one.)"""
    pod = await stage.start(stage.shell(STUBBORN).grace(1000))
    await stage.user.delete(pod)
    await stage.user.saw(pod, lambda one: one.metadata.deletion_timestamp, "the pod is being deleted")
    await stage.user.delete(pod, 1)
    await stage.user.gone(pod)


@promise("runs")
async def forced_deletion(stage: Stage) -> None:
    """A pod that is deleted with grace 0 is gone at once, and the node goes on with others."""
    pod = await stage.start(stage.runs())
    await stage.user.delete(pod, 0)
    await stage.user.gone(pod)
    await stage.start(stage.runs())


@promise("runs")
async def finalizer(stage: Stage) -> None:
    """A deleted pod with a finalizer ends, and stays in the API as it ended until the finalizer is taken away."""
    pod = await stage.start(stage.runs().meta(finalizers=["example.com/conformance"]))
    try:
        await stage.user.delete(pod, 2)
        ended = await stage.user.ended(pod)
        expect(terminated(ended) is not None, "its container is terminated", status_line(ended))
        await asyncio.sleep(1)
        expect(not stage.user.history(pod).gone, "it stays until its finalizer is gone", "it is gone")
    finally:
        await stage.user.patch(pod, [{"op": "remove", "path": "/metadata/finalizers"}])
    await stage.user.gone(pod)


@promise("runs")
async def waits_for_its_config_map(stage: Stage) -> None:
    """A container whose ConfigMap is missing waits with CreateContainerConfigError, and starts once that is there."""
    name = stage.name()
    selector = ConfigMapKeySelector(name=name, key="key")
    pod = await stage.create(stage.runs().env_from("VALUE", config_map_key_ref=selector))
    await stage.user.until(
        pod,
        lambda one: waiting_reason(one) == "CreateContainerConfigError" and one.status.phase == "Pending",
        "the pod is Pending, its container waits with CreateContainerConfigError",
    )
    await stage.user.config_map(name, {"key": "value"})
    await stage.user.running(pod)


@promise("runs")
async def deletion_of_a_pod_that_waits(stage: Stage) -> None:
    """A pod that waits for something missing is deleted without waiting for it."""
    selector = ConfigMapKeySelector(name="there-is-none", key="key")
    pod = await stage.create(stage.runs().env_from("VALUE", config_map_key_ref=selector).grace(1000))
    await stage.user.until(pod, lambda one: waiting_reason(one) == "CreateContainerConfigError", "its container waits")
    await stage.user.delete(pod)
    await stage.user.gone(pod)


@promise("shell")
async def deletion_during_init(stage: Stage) -> None:
    """A pod that is deleted while an init container runs ends: that container is stopped, main never starts."""
    pod = await stage.create(stage.exits(0, stage.runs().init_container("init"), seconds=1000).grace(2))
    await stage.user.until(pod, lambda one: running_since(one, "init"), "the init container runs")
    await stage.user.delete(pod)
    await stage.user.gone(pod)
    began = stage.user.history(pod).first(lambda one: running_since(one))
    expect(began is None, "main never runs", status_line(began) if began is not None else "")


@promise("runs")
async def deadline(stage: Stage) -> None:
    """A pod that is still active at activeDeadlineSeconds is ended: Failed, with reason DeadlineExceeded."""
    pod = await stage.finish(stage.runs().spec(active_deadline_seconds=3))
    expect(
        (pod.status.phase, pod.status.reason) == ("Failed", "DeadlineExceeded"),
        "Failed, DeadlineExceeded",
        status_line(pod),
    )
    expect("deadline" in (pod.status.message or ""), "a message about the deadline", repr(pod.status.message))


@promise("shell")
async def environment(stage: Stage) -> None:
    """Variables arrive: values, references in them, a ConfigMap's key, and fields of the pod, its address among them."""
    name = stage.name()
    await stage.user.config_map(name, {"key": "from a map"})
    made = stage.shell('printf "%s|%s|%s|%s|%s\\n" "$PLAIN" "$REFERS" "$MAPPED" "$POD" "$ADDRESS"; sleep 1000')
    made = made.env(PLAIN='a value; it\'s "odd"', REFERS="<$(PLAIN)>")
    made = made.env_from("MAPPED", config_map_key_ref=ConfigMapKeySelector(name=name, key="key"))
    made = made.env_of_field("POD", "metadata.name").env_of_field("ADDRESS", "status.podIP")
    pod = await stage.start(made)
    plain = 'a value; it\'s "odd"'
    wanted = f"{plain}|<{plain}>|from a map|{pod.metadata.name}|{pod.status.pod_ip}\n".encode()
    await stage.sees(lambda: stage.user.logs(pod), lambda text: text == wanted, f"the container prints {wanted!r}")


@promise("shell")
async def arguments(stage: Stage) -> None:
    """Arguments follow the command, with $(VARIABLES) filled in, and the command runs in workingDir."""
    assert stage.declaration.shell is not None
    made = stage.pod().run(*stage.declaration.shell, 'echo "$0 $1 $(pwd)"; sleep 1000')
    made = made.env(WHO="world").fields(args=["hello", "$(WHO)"], working_dir="/tmp")
    pod = await stage.start(made)
    await stage.sees(
        lambda: stage.user.logs(pod), lambda text: text == b"hello world /tmp\n", "it prints 'hello world /tmp'"
    )


@promise("shell")
async def termination_message(stage: Stage) -> None:
    """What a container writes to its terminationMessagePath is the message of its end."""
    pod = await stage.finish(stage.shell("echo the last words >/dev/termination-log; exit 1"))
    ended = expect_terminated(pod, 1, "Error")
    expect(ended.message == "the last words\n", "the message is 'the last words\\n'", repr(ended.message))


@promise("shell")
async def termination_message_from_logs(stage: Stage) -> None:
    """With FallbackToLogsOnError, a container that fails and leaves no message has the end of its log for one."""
    made = stage.shell("echo it went wrong; exit 1").fields(termination_message_policy="FallbackToLogsOnError")
    ended = expect_terminated(await stage.finish(made), 1, "Error")
    expect(ended.message == "it went wrong\n", "the message is 'it went wrong\\n'", repr(ended.message))


@promise("shell", "other-image")
async def changed_image(stage: Stage) -> None:
    """A container whose image is changed is ended and runs again, with the new one."""
    pod = await stage.start(stage.runs().restarting("Always"))
    image = stage.declaration.other_image or ""
    await stage.user.patch(pod, {"spec": {"containers": [{"name": "main", "image": image}]}})
    again = await stage.user.until(
        pod, lambda one: restarts(one) == 1 and running_since(one), "the container has restarted once and runs"
    )
    expect(image in (container(again).image or ""), f"its image is {image}", container(again).image)


@promise("runs")
async def stillness(stage: Stage) -> None:
    """A pod that does not change costs no write: its API object stays the same."""
    pod = await stage.start(stage.runs())
    await asyncio.sleep(1)  # for what follows Running
    before = await stage.user.get(pod)
    await asyncio.sleep(5)
    after = await stage.user.get(pod)
    expect(
        before.metadata.resource_version == after.metadata.resource_version,
        "nothing is written in five seconds",
        f"{status_line(before)}, then {status_line(after)}",
    )


@promise("runs")
async def out_of_cpu(stage: Stage) -> None:
    """A pod that asks for more than the node has is refused: Failed, with reason OutOfcpu."""
    huge = ResourceRequirements(requests={"cpu": "9000000"})
    pod = await stage.finish(stage.runs().fields(resources=huge))
    expect((pod.status.phase, pod.status.reason) == ("Failed", "OutOfcpu"), "Failed, OutOfcpu", status_line(pod))


@promise("runs")
async def wrong_node_selector(stage: Stage) -> None:
    """A pod that is bound by hand and whose nodeSelector the node does not match is refused: Failed, NodeAffinity."""
    pod = await stage.finish(stage.runs().spec(node_selector={"example.com/no-node": "has-this"}))
    expect(
        (pod.status.phase, pod.status.reason) == ("Failed", "NodeAffinity"), "Failed, NodeAffinity", status_line(pod)
    )
